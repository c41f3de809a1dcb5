//! What every [`Queue`] must do, as a test: each rule gets a queue of its own, seen by two processes.

use std::time::Duration;

use bytes::Bytes;
use protocol::MessageId;
use tokio::time::timeout;

use super::{Claim, Done, Limits, Part, Queue};
use crate::sessions::StoreError;

/// What a queue under test must be made with.
pub(crate) const LIMITS: Limits = Limits {
    streams: 4,
    messages: 10,
    bytes: 1_000,
    lease: Duration::from_secs(30),
    replies: Duration::from_mins(1),
    replicas: 0,
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A queue that two processes see, and the clock that it goes by.
pub(crate) trait Subject {
    fn queues(&self) -> [&dyn Queue; 2];

    /// Lets `time` pass for claims.
    fn pass(&self, time: Duration);
}

/// Holds queues that `make` makes, each empty, to every rule.
pub(crate) async fn check<S: Subject>(make: impl Fn() -> S) {
    check_streams(&make).await;
    a_push_is_stored_whole_or_not_at_all(&make()).await;
}

/// The rules of single streams: those that hold on a cluster, too.
pub(crate) async fn check_streams<S: Subject>(make: &impl Fn() -> S) {
    entries_come_in_order_until_acknowledged(&make()).await;
    bytes_are_bounded(&make()).await;
    a_stream_has_one_reader(&make()).await;
    a_dead_reader_is_taken_over(&make()).await;
    acknowledging_needs_no_claim(&make()).await;
    readers_count_each_other(&make()).await;
    who_waits_is_woken(&make()).await;
    replies_are_collected(&make()).await;
}

async fn entries_come_in_order_until_acknowledged(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    append(queue, 1, "a").await;
    append(other, 1, "b").await;
    append(queue, 2, "elsewhere").await;
    let claim = claim(queue, 1).await;
    assert_eq!(claim.entries, 2);
    let entries = read(queue, &claim, 0).await;
    assert_eq!(contents(&entries), ["a", "b"]);
    let [a, b] = [entries[0].0, entries[1].0];
    assert!(a < b, "{a} {b}");
    // Asked again, as after an answer that got lost.
    assert_eq!(read(queue, &claim, 0).await, entries);
    append(queue, 1, "c").await;
    assert_eq!(contents(&read(queue, &claim, b).await), ["c"]);
    let waiting = queue.read(&claim, 0, 1).await.unwrap().unwrap();
    assert_eq!(waiting.len(), 1);
    assert!(waiting[0].age < PATIENCE, "{waiting:?}");

    done(queue, 1, &entries[1..]).await;
    assert_eq!(contents(&read(queue, &claim, 0).await), ["a", "c"]);
    done(queue, 1, &entries).await;
    assert_eq!(contents(&read(queue, &claim, 0).await), ["c"]);
    assert_eq!(contents(&read(queue, &claim, b).await), ["c"]);
}

async fn a_push_is_stored_whole_or_not_at_all(subject: &impl Subject) {
    let [queue, _] = subject.queues();
    for number in 0..LIMITS.messages {
        append(queue, 1, &number.to_string()).await;
    }
    let parts = [part(0, "x"), part(1, "x"), part(2, "x")];
    let refused = queue.append(&parts).await;
    assert!(
        matches!(refused, Err(StoreError::Full { max: 10, .. })),
        "{refused:?}"
    );
    for stream in [0, 2] {
        assert_eq!(claim(queue, stream).await.entries, 0);
    }
    let full = claim(queue, 1).await;
    let entries = read(queue, &full, 0).await;
    assert_eq!(entries.len(), LIMITS.messages);
    done(queue, 1, &entries[..1]).await;
    queue.append(&parts).await.unwrap();
    for stream in [0, 2] {
        let claim = claim(queue, stream).await;
        assert_eq!(contents(&read(queue, &claim, 0).await), ["x"]);
    }
}

async fn bytes_are_bounded(subject: &impl Subject) {
    let [queue, _] = subject.queues();
    let large = "x".repeat(LIMITS.bytes);
    append(queue, 1, &large).await;
    let one_more = [part(1, "x")];
    for _ in 0..2 {
        let refused = queue.append(&one_more).await;
        assert!(
            matches!(refused, Err(StoreError::Full { max: 1_000, .. })),
            "{refused:?}"
        );
    }
    let claim = claim(queue, 1).await;
    let entries = read(queue, &claim, 0).await;
    for _ in 0..2 {
        // Deleted twice, it is counted once.
        done(queue, 1, &entries).await;
    }
    append(queue, 1, &large).await;
    assert!(queue.append(&one_more).await.is_err());
}

async fn a_stream_has_one_reader(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    append(queue, 1, "a").await;
    let first = claim(queue, 1).await;
    assert_eq!(other.claim(1).await, Ok(None));
    let again = claim(queue, 1).await;
    assert_eq!((again.epoch, again.taken_over), (first.epoch, false));
    assert!(again.age > Duration::ZERO, "{again:?}");
    // Somebody who only knows the epoch has no claim.
    assert_eq!(other.read(&first, 0, 10).await, Ok(None));
    other.release(&first).await.unwrap();
    assert_eq!(other.claim(1).await, Ok(None));

    queue.release(&first).await.unwrap();
    assert_eq!(queue.read(&first, 0, 10).await, Ok(None));
    let second = claim(other, 1).await;
    assert!(second.epoch > first.epoch && !second.taken_over);
    assert_eq!(queue.read(&first, 0, 10).await, Ok(None));
    assert_eq!(contents(&read(other, &second, 0).await), ["a"]);
    // Another stream is another matter.
    claim(queue, 2).await;
}

async fn a_dead_reader_is_taken_over(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    for text in ["a", "b", "c"] {
        append(queue, 1, text).await;
    }
    let dead = claim(queue, 1).await;
    let entries = read(queue, &dead, 0).await;
    done(queue, 1, &entries[..1]).await;
    subject.pass(LIMITS.lease / 2);
    assert_eq!(claim(queue, 1).await.epoch, dead.epoch);
    subject.pass(LIMITS.lease / 6 * 5);
    assert_eq!(other.claim(1).await, Ok(None));
    subject.pass(Duration::from_secs(10));

    let successor = claim(other, 1).await;
    assert!(successor.epoch > dead.epoch && successor.taken_over);
    // What was read and not acknowledged comes again, at the same places.
    assert_eq!(read(other, &successor, 0).await, entries[1..]);
    assert_eq!(queue.read(&dead, 0, 10).await, Ok(None));
    assert_eq!(queue.claim(1).await, Ok(None));
    subject.pass(LIMITS.lease + Duration::from_secs(5));
    // The same process after a pause that was too long has no claim to what it had.
    let third = claim(other, 1).await;
    assert!(third.epoch > successor.epoch && !third.taken_over);
    let rest = read(other, &third, 0).await;
    done(other, 1, &rest).await;
    assert_eq!(claim(other, 1).await.age, Duration::ZERO);
    assert_eq!(other.read(&successor, 0, 10).await, Ok(None));
}

async fn acknowledging_needs_no_claim(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    append(queue, 1, "a").await;
    append(queue, 1, "b").await;
    let old = claim(queue, 1).await;
    let entries = read(queue, &old, 0).await;
    queue.release(&old).await.unwrap();
    let new = claim(other, 1).await;
    done(queue, 1, &entries[..1]).await;
    assert_eq!(contents(&read(other, &new, 0).await), ["b"]);
}

async fn readers_count_each_other(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    assert_eq!(queue.readers().await, Ok(1));
    assert_eq!(queue.readers().await, Ok(1));
    assert_eq!(other.readers().await, Ok(2));
    assert_eq!(queue.readers().await, Ok(2));
    other.leave().await.unwrap();
    assert_eq!(queue.readers().await, Ok(1));
}

async fn who_waits_is_woken(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    let claim = claim(queue, 3).await;
    for (turn, by) in [queue, other, other, queue].into_iter().enumerate() {
        while let Ok(()) = timeout(Duration::ZERO, queue.woken(3)).await {}
        let after = read(queue, &claim, 0).await.last().map_or(0, |last| last.0);
        assert_eq!(read(queue, &claim, after).await, []);
        append(by, 3, &turn.to_string()).await;
        timeout(PATIENCE, queue.woken(3)).await.unwrap();
        assert_eq!(
            contents(&read(queue, &claim, after).await),
            [turn.to_string()]
        );
    }
}

async fn replies_are_collected(subject: &impl Subject) {
    let [queue, other] = subject.queues();
    let id = |byte| MessageId([byte; 16]);
    let reply = async |by: &dyn Queue, id, stream, text: &str| {
        by.reply(queue.process(), (id, stream), text.to_owned())
            .await
            .unwrap();
    };
    let (mut replies, ()) = tokio::join!(queue.replies(id(1), 2, PATIENCE), async {
        reply(other, id(2), 1, "another's").await;
        // Said again, as for want of an answer, it is one.
        reply(other, id(1), 1, "not yet").await;
        reply(other, id(1), 1, "a").await;
        reply(queue, id(1), 2, "b").await;
    });
    replies.sort_unstable();
    assert_eq!(replies, ["a", "b"]);
    // What came before anybody waited is there, and what does not come is not waited for longer than the limit.
    let late = queue.replies(id(2), 2, Duration::from_millis(50)).await;
    assert_eq!(late, ["another's"]);
}

pub(crate) fn part(stream: u16, content: &str) -> Part {
    Part {
        stream,
        id: MessageId(rand::random()),
        content: Bytes::copy_from_slice(content.as_bytes()),
    }
}

async fn append(queue: &dyn Queue, stream: u16, content: &str) {
    queue.append(&[part(stream, content)]).await.unwrap();
}

async fn claim(queue: &dyn Queue, stream: u16) -> Claim {
    queue.claim(stream).await.unwrap().unwrap()
}

async fn read(queue: &dyn Queue, claim: &Claim, after: u64) -> Vec<(u64, Bytes)> {
    let entries = queue.read(claim, after, 100).await.unwrap();
    let entries = entries.expect("the claim is lost").into_iter();
    entries.map(|entry| (entry.number, entry.content)).collect()
}

async fn done(queue: &dyn Queue, stream: u16, entries: &[(u64, Bytes)]) {
    let done = entries.iter().map(|(number, content)| Done {
        number: *number,
        bytes: content.len(),
    });
    queue
        .acknowledge(stream, &done.collect::<Vec<_>>())
        .await
        .unwrap();
}

fn contents(entries: &[(u64, Bytes)]) -> Vec<String> {
    let text = |(_, content): &(u64, Bytes)| String::from_utf8(content.to_vec()).unwrap();
    entries.iter().map(text).collect()
}
