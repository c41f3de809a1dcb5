//! Pushes that are stored before they are answered: what survives, what is refused, and what pushers are told.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{collections::HashSet, sync::Arc, time::Duration};

use common::config::Human;
use logic_stub::{
    Config, LogicStub,
    clock::Clock,
    config::QueueMode,
    queue::MemoryQueue,
    sessions::{MemorySessions, Sessions},
};
use protocol::grpc::comet::v1::{Message, Receipt, Refusal, message::Target};
use serde_json::json;
use support::{
    Running,
    lane::{LaneComet, REPORT, ROOM, Taken, ask, body, connect, one_comet, patient, push, taken},
    start_with, until,
};
use tokio::{net::TcpListener, runtime::Runtime};

/// A configuration whose pushes are stored in one stream.
fn stored() -> Config {
    let mut config = patient();
    config.queue.mode = QueueMode::Stored;
    config.queue.streams = 1;
    config.queue.retry = Human::secs(60);
    config
}

/// What two logic-stubs share.
struct Pair {
    config: Config,
    sessions: Arc<MemorySessions>,
    queue: MemoryQueue,
}

/// A logic-stub that can be killed: its tasks end where they are, and nobody is told.
struct Mortal {
    runtime: Runtime,
    logic: Running,
}

impl Pair {
    fn new(mut config: Config) -> Self {
        config.queue.lease = Human::millis(300);
        config.comets.refresh = Human::millis(5);
        let limits = config.store_limits();
        Self {
            sessions: Arc::new(MemorySessions::new(limits, Clock::system())),
            queue: MemoryQueue::new(config.queue_limits(), Clock::system()),
            config,
        }
    }

    fn start(&self) -> Running {
        let builder = LogicStub::builder(self.config.clone())
            .sessions(Arc::clone(&self.sessions) as Arc<dyn Sessions>)
            .queue(Arc::new(self.queue.beside()));
        start_with(builder)
    }

    /// One that reads the stream before any other is there.
    async fn start_first(&self) -> Mortal {
        let runtime = Runtime::new().unwrap();
        let logic = {
            let _within = runtime.enter();
            self.start()
        };
        let metrics = Arc::clone(logic.metrics());
        until(|| metrics.queue.streams.get() == 1).await;
        Mortal { runtime, logic }
    }
}

impl Mortal {
    fn kill(self) {
        let Self { runtime, logic } = self;
        // Dropped, it would be told to end.
        std::mem::forget(logic);
        runtime.shutdown_background();
    }
}

fn number(message: &Message) -> u64 {
    message.position.as_ref().unwrap().number
}

fn epoch(message: &Message) -> u64 {
    message.position.as_ref().unwrap().epoch
}

fn stream(message: &Message) -> String {
    message.position.as_ref().unwrap().stream.clone()
}

fn bodies(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_push_is_stored_sent_and_forgotten() {
    let (logic, mut comet) = one_comet(stored()).await;
    push(&logic, ROOM, "a").await;
    push(&logic, ROOM, "b").await;
    let mut call = comet.call().await;
    let (a, b) = (call.message().await, call.message().await);
    assert_eq!((body(&a), body(&b)), ("a".to_owned(), "b".to_owned()));
    assert_eq!(a.target, Some(Target::Room("live://1".to_owned())));
    assert_eq!(epoch(&a), epoch(&b));
    assert!(number(&a) < number(&b));
    assert_eq!(stream(&a), stream(&b));
    assert!(stream(&a).ends_with("/0"), "{}", stream(&a));
    let queue = &logic.metrics().queue;
    assert_eq!((queue.stored.get(), queue.ended.get()), (2, 0));
    call.answer(vec![taken(&a, 1), taken(&b, 1)]).await;
    until(|| queue.ended.get() == 2).await;
    assert_eq!(logic.metrics().pushes("room").get(), 2);
}

#[tokio::test]
async fn keys_and_mids_are_looked_up_when_they_are_sent() {
    let mut config = stored();
    config.queue.streams = 4;
    let (logic, mut comet) = one_comet(config).await;
    for key in ["k1", "k2", "k3", "k4"] {
        connect(&logic, "a", key, 1).await;
    }
    let path = "/goim/push/keys?operation=1000&keys=k1&keys=k2&keys=k3&keys=k4&keys=gone&report=1";
    let reported = ask(&logic, path, "hi");
    let mut call = comet.call().await;
    let mut keys = Vec::new();
    while keys.len() < 4 {
        let message = call.message().await;
        let Some(Target::Keys(part)) = &message.target else {
            panic!("{message:?}");
        };
        keys.extend(part.keys.iter().cloned());
        call.answer(vec![taken(&message, part.keys.len() as u64)])
            .await;
    }
    keys.sort_unstable();
    assert_eq!(keys, ["k1", "k2", "k3", "k4"]);
    let answer = reported.await.unwrap();
    assert_eq!(answer["code"], 0, "{answer}");
    let data = &answer["data"];
    assert_eq!(
        (&data["taken"], &data["absent"], &data["absent_keys"]),
        (&json!(4), &json!(1), &json!(["gone"]))
    );
    assert_eq!(data["pending"], json!([]));

    let reported = ask(
        &logic,
        "/goim/push/mids?operation=1000&mids=7&report=1",
        "hi",
    );
    let message = call.message().await;
    call.answer(vec![taken(&message, 4)]).await;
    assert_eq!(reported.await.unwrap()["data"]["taken"], 4);
}

#[tokio::test]
async fn a_report_that_is_late_says_its_id_and_pending() {
    let mut config = stored();
    config.lanes.report = Human::millis(20);
    let (logic, mut comet) = one_comet(config).await;
    let answer = logic.post(REPORT, "hi").await;
    let data = &answer["data"];
    assert_eq!(
        (&answer["code"], &data["pending"]),
        (&json!(0), &json!(["queue"]))
    );
    let mut call = comet.call().await;
    let message = call.message().await;
    let id = message.id.iter().map(|byte| format!("{byte:02x}"));
    assert_eq!(data["id"], id.collect::<String>());
}

#[tokio::test]
async fn a_stream_at_its_bound_refuses() {
    let mut config = stored();
    config.queue.messages = 3;
    config.queue.window = 1;
    let (logic, mut comet) = one_comet(config).await;
    for text in ["0", "1", "2"] {
        push(&logic, ROOM, text).await;
    }
    for _ in 0..2 {
        let answer = logic.post(ROOM, "more").await;
        assert_eq!(answer["code"], -500, "{answer}");
        let expected = "the store holds its limit of 3 pushes in a stream";
        assert_eq!(answer["message"], expected);
    }
    assert_eq!(logic.metrics().refused_pushes("queue_full").get(), 2);
    let mut call = comet.call().await;
    assert_eq!(call.take().await, "0");
    let queue = &logic.metrics().queue;
    until(|| queue.ended.get() == 1).await;
    push(&logic, ROOM, "3").await;
    for text in ["1", "2", "3"] {
        assert_eq!(call.take().await, text);
    }
}

#[tokio::test]
async fn a_logic_stub_that_is_killed_between_sending_and_acknowledging_is_taken_over() {
    let pair = Pair::new(stored());
    let first = pair.start_first().await;
    let second = pair.start();
    let mut comet = LaneComet::start().await;
    second.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    until(|| first.logic.stub.logic().comets.known().len() == 1).await;

    let mut seen = Taken::default();
    for number in 0..10 {
        push(&first.logic, ROOM, &number.to_string()).await;
    }
    let mut call = comet.call().await;
    let ended = |logic: &Running| logic.metrics().queue.ended.get();
    for number in 0..7 {
        let message = call.message().await;
        let receipt = seen.take(&message);
        // Of the others, the comet has them, and the receipts are lost.
        if number < 3 {
            call.answer(vec![receipt]).await;
        }
    }
    until(|| ended(&first.logic) == 3).await;
    // The others grow old there, and are seen to.
    let oldest = |logic: &Running| logic.metrics().queue.oldest.get();
    until(|| oldest(&first.logic) > 0.0).await;
    assert_eq!(second.metrics().queue.takeovers.get(), 0);
    first.kill();
    for number in 10..15 {
        push(&second, ROOM, &number.to_string()).await;
    }

    let mut call = comet.call().await;
    let mut repeated = 0;
    while seen.bodies.len() < 15 {
        let message = call.message().await;
        let receipt = seen.take(&message);
        repeated += u32::from(receipt.refusal() == Refusal::Repeated);
        call.answer(vec![receipt]).await;
    }
    assert_eq!(seen.bodies, bodies(0..15));
    assert_eq!(repeated, 4, "sent again, and skipped");
    until(|| ended(&second) == 12).await;
    assert!(second.metrics().queue.takeovers.get() > 0);
    until(|| oldest(&second) == 0.0).await;
}

#[tokio::test]
async fn what_a_predecessor_still_sends_is_refused_and_not_forgotten() {
    let (logic, mut comet) = one_comet(stored()).await;
    push(&logic, ROOM, "0").await;
    push(&logic, ROOM, "1").await;
    let mut call = comet.call().await;
    let first = call.message().await;
    let stale = Receipt {
        id: first.id.clone(),
        refusal: Refusal::StaleEpoch.into(),
        ..Receipt::default()
    };
    call.answer(vec![stale]).await;
    let second = call.message().await;
    call.answer(vec![taken(&second, 1)]).await;
    // Read anew, by a claim of a later epoch or by the one that there is.
    let again = call.message().await;
    assert_eq!(again.id, first.id);
    assert_eq!(number(&again), number(&first));
    call.answer(vec![taken(&again, 1)]).await;
    let metrics = logic.metrics();
    until(|| metrics.queue.ended.get() == 2).await;
    assert_eq!(metrics.lost("superseded").get(), 1);
}

#[tokio::test]
async fn a_logic_stub_that_ends_gives_its_streams_to_the_others() {
    let pair = Pair::new(stored());
    let first = pair.start();
    until(|| first.metrics().queue.streams.get() == 1).await;
    let second = pair.start();
    let mut comet = LaneComet::start().await;
    second.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    until(|| first.stub.logic().comets.known().len() == 1).await;
    push(&first, ROOM, "under way").await;
    let mut call = comet.call().await;
    let message = call.message().await;
    let Running { stub, shutdown, .. } = first;
    let metrics = Arc::clone(&stub.logic().metrics);
    shutdown.cancel();
    let ending = tokio::spawn(stub.join());
    push(&second, ROOM, "behind").await;
    call.answer(vec![taken(&message, 1)]).await;
    support::within(ending).await.unwrap();
    assert_eq!(metrics.queue.ended.get(), 1);
    let mut call = comet.call().await;
    let next = call.message().await;
    assert_eq!(body(&next), "behind");
    assert!(epoch(&next) > epoch(&message));
    call.answer(vec![taken(&next, 1)]).await;
    until(|| second.metrics().queue.ended.get() == 1).await;
}

#[tokio::test]
async fn several_logic_stubs_share_the_streams() {
    let mut config = stored();
    config.queue.streams = 9;
    let pair = Pair::new(config);
    let first = pair.start();
    until(|| first.metrics().queue.streams.get() == 9).await;
    let others = [pair.start(), pair.start()];
    let streams = |logic: &Running| logic.metrics().queue.streams.get();
    until(|| streams(&first) == 3 && others.iter().all(|other| streams(other) == 3)).await;
    let [second, third] = others;
    let Running { stub, shutdown, .. } = third;
    shutdown.cancel();
    support::within(stub.join()).await;
    until(|| streams(&first) + streams(&second) == 9).await;
}

#[tokio::test]
async fn a_stream_changes_hands_while_a_comet_does_not_answer() {
    let mut config = stored();
    config.queue.streams = 2;
    let pair = Pair::new(config);
    let first = pair.start();
    until(|| first.metrics().queue.streams.get() == 2).await;
    let mut silent = LaneComet::start().await;
    first.renew("a", Some(silent.info(1)), &[]).await.unwrap();
    for room in 0..8 {
        let room = format!("/goim/push/room?operation=1000&type=live&room={room}");
        push(&first, &room, "under way").await;
    }
    let mut call = silent.call().await;
    let mut seen = Taken::default();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(call.message().await);
    }
    // Both streams have something that nobody answers for.
    let streams: HashSet<String> = waiting.iter().map(stream).collect();
    assert_eq!(streams.len(), 2);
    let second = pair.start();
    until(|| second.metrics().queue.streams.get() == 1).await;
    let mut other = silent.call().await;
    let again = other.message().await;
    let before = waiting.iter().find(|message| message.id == again.id);
    assert!(epoch(before.unwrap()) < epoch(&again));
    other.answer(vec![seen.take(&again)]).await;
    until(|| second.metrics().queue.ended.get() == 1).await;
}

#[tokio::test]
async fn a_message_waits_for_a_comet_that_is_away() {
    let mut config = stored();
    config.lanes.retry = Human::millis(1);
    let (logic, comet) = one_comet(config).await;
    let addr = comet.addr;
    drop(comet);
    support::lane::until_refused(addr).await;
    push(&logic, ROOM, "hi").await;
    let metrics = logic.metrics();
    until(|| metrics.lane_reconnects.get() >= 3).await;
    assert_eq!(metrics.lost("comet_away").get(), 0);
    let listener = TcpListener::bind(addr).await.unwrap();
    let mut comet = LaneComet::on(listener);
    assert_eq!(comet.call().await.take().await, "hi");
    until(|| metrics.queue.ended.get() == 1).await;
}

#[tokio::test]
async fn a_comet_that_is_away_holds_up_the_others_no_longer_than_it_is_away() {
    let (mut window, mut lane) = (stored(), stored());
    window.queue.window = 2;
    lane.lanes.messages = 2;
    for config in [window, lane] {
        let (logic, mut here) = one_comet(config).await;
        let away = LaneComet::start().await;
        let (addr, info) = (away.addr, away.info(1));
        drop(away);
        support::lane::until_refused(addr).await;
        logic.renew("b", Some(info), &[]).await.unwrap();
        for text in bodies(0..5) {
            push(&logic, ROOM, &text).await;
        }
        let mut call = here.call().await;
        for text in bodies(0..2) {
            assert_eq!(call.take().await, text);
        }
        let metrics = logic.metrics();
        until(|| metrics.lane_reconnects.get() >= 3).await;
        assert_eq!(metrics.queue.ended.get(), 0);
        let mut back = LaneComet::on(TcpListener::bind(addr).await.unwrap());
        let mut other = back.call().await;
        for text in bodies(0..2) {
            assert_eq!(other.take().await, text);
        }
        for text in bodies(2..5) {
            assert_eq!(other.take().await, text);
            assert_eq!(call.take().await, text);
        }
        until(|| metrics.queue.ended.get() == 5).await;
        assert_eq!(
            (metrics.taken.get(), metrics.lost("comet_away").get()),
            (10, 0)
        );
    }
}

#[tokio::test]
async fn what_waits_too_long_for_a_comet_is_counted_and_the_rest_goes_on() {
    let mut config = stored();
    config.queue.retry = Human::millis(1);
    let (logic, comet) = one_comet(config).await;
    let addr = comet.addr;
    drop(comet);
    support::lane::until_refused(addr).await;
    let answer = logic.post(REPORT, "too long").await;
    assert_eq!(answer["data"]["lost"], json!({"comet_away": 1}), "{answer}");
    let metrics = logic.metrics();
    until(|| metrics.queue.ended.get() == 1).await;
    assert_eq!(metrics.lost("comet_away").get(), 1);
    let mut comet = LaneComet::on(TcpListener::bind(addr).await.unwrap());
    let next = ask(&logic, REPORT, "next");
    assert_eq!(comet.call().await.take().await, "next");
    assert_eq!(next.await.unwrap()["data"]["taken"], 1);
}

#[tokio::test]
async fn without_a_comet_nothing_is_stored() {
    let logic = support::start(stored());
    let answer = logic.post(ROOM, "hi").await;
    assert_eq!(answer["message"], "no comet is known");
    assert_eq!(logic.metrics().queue.stored.get(), 0);
    // Its name is that of this process: nothing of it survives.
    let queue = logic.stub.logic().queue.as_ref().unwrap().queue();
    assert!(queue.name().starts_with("push/"), "{}", queue.name());
    tokio::time::timeout(Duration::ZERO, queue.woken(0))
        .await
        .unwrap_err();
}
