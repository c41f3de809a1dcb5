//! Stored pushes when those whom they are for, the store or the queue are away: what waits, and what is given up.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::config::Human;
use logic_stub::{
    Config, LogicStub,
    clock::Clock,
    config::QueueMode,
    push::{Message, Whom},
    queue::{MemoryQueue, Part, Queue, entry::Entry},
    sessions::{Client, MemorySessions, Session, Sessions, StoreError},
};
use parking_lot::Mutex;
use protocol::RoomId;
use support::{
    Running,
    lane::{LaneComet, connect, patient, push},
    queue::Faulty,
    start_with,
    store::Gated,
    until,
};

const KEY: &str = "/goim/push/keys?operation=1000&keys=k";

/// A configuration whose pushes are stored in one stream.
fn stored() -> Config {
    let mut config = patient();
    config.queue.mode = QueueMode::Stored;
    config.queue.streams = 1;
    config.queue.lease = Human::millis(300);
    config.comets.refresh = Human::millis(5);
    config
}

fn queue(config: &Config) -> MemoryQueue {
    MemoryQueue::new(config.queue_limits(), Clock::system())
}

fn start(config: Config, sessions: Arc<dyn Sessions>, queue: impl Queue) -> Running {
    let builder = LogicStub::builder(config).sessions(sessions);
    start_with(builder.queue(Arc::new(queue)))
}

async fn store(queue: &MemoryQueue, whom: Whom, body: &str) {
    let message = Message::new(1000, body.as_bytes());
    let content = Entry::new(&message, whom, None).encode().unwrap();
    append(queue, content).await;
}

async fn append(queue: &MemoryQueue, content: Bytes) {
    let part = Part {
        stream: 0,
        id: Message::new(1, b"").id,
        content,
    };
    queue.append(&[part]).await.unwrap();
}

fn room() -> Whom {
    Whom::Room(RoomId::new("live", "1"))
}

fn ended(logic: &Running) -> u64 {
    logic.metrics().queue.ended.get()
}

#[tokio::test]
async fn what_was_stored_before_the_comets_were_known_waits_for_those_that_come_back() {
    let config = stored();
    let (start_of_time, ahead) = (Instant::now(), Arc::new(Mutex::new(Duration::ZERO)));
    let hand = Arc::clone(&ahead);
    let clock = Clock::new(move || start_of_time + *hand.lock());
    let sessions = Arc::new(MemorySessions::new(config.store_limits(), clock));
    let mut comets = [LaneComet::start().await, LaneComet::start().await];
    let queue = queue(&config);
    {
        let before = start(config.clone(), Arc::clone(&sessions) as _, queue.beside());
        for (name, comet) in ["a", "b"].into_iter().zip(&comets) {
            before.renew(name, Some(comet.info(1)), &[]).await.unwrap();
        }
        connect(&before, "b", "k", 1).await;
        before.shutdown.cancel();
        support::within(before.stub.join()).await;
    }
    store(&queue, room(), "to the room").await;
    store(&queue, Whom::Keys(vec!["k".to_owned()]), "to the key").await;
    *ahead.lock() += config.sessions.lease.get() + Duration::from_secs(1);
    let logic = start(config, sessions, queue.beside());
    let metrics = logic.metrics();
    until(|| metrics.queue.streams.get() == 1).await;
    let [a, b] = &mut comets;
    logic.renew("a", Some(a.info(1)), &[]).await.unwrap();
    // A turn of the readers later, still nothing.
    tokio::time::sleep(Duration::from_millis(200)).await;
    a.was_not_called();
    assert_eq!(ended(&logic), 0);
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    assert_eq!(a.call().await.take().await, "to the room");
    let mut call = b.call().await;
    assert_eq!(call.take().await, "to the room");
    assert_eq!(call.take().await, "to the key");
    until(|| ended(&logic) == 2).await;
    assert_eq!((metrics.taken.get(), metrics.offline.get()), (3, 0));
}

#[tokio::test]
async fn what_waits_too_long_for_any_comet_is_given_up_and_counted() {
    let mut config = stored();
    config.queue.retry = Human::millis(1);
    let queue = queue(&config);
    store(&queue, room(), "too long").await;
    let sessions = MemorySessions::new(config.store_limits(), Clock::system());
    let logic = start(config, Arc::new(sessions), queue.beside());
    until(|| ended(&logic) == 1).await;
    assert_eq!(logic.metrics().lost("not_known").get(), 1);
}

#[tokio::test]
async fn whom_the_store_may_have_forgotten_is_waited_for() {
    let (config, sessions) = (stored(), Gated::open());
    let queue = queue(&config);
    let logic = start(config, Arc::clone(&sessions) as _, queue.beside());
    let mut comet = LaneComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    connect(&logic, "a", "k", 1).await;
    push(&logic, KEY, "before").await;
    let mut call = comet.call().await;
    assert_eq!(call.take().await, "before");
    let keys = ["k".to_owned()];
    let holder = sessions.store.holders(&keys).await.unwrap().pop().flatten();
    let session = Session {
        mid: 7,
        key: "k".to_owned(),
        holder: holder.unwrap(),
        client: Client::default(),
    };
    sessions.forget(&session).await;
    push(&logic, KEY, "meanwhile").await;
    until(|| sessions.asked() >= 3).await;
    // What is for others does not wait behind it, and what is for the same key stays behind it.
    push(
        &logic,
        "/goim/push/keys?operation=1000&keys=k&keys=l",
        "behind",
    )
    .await;
    connect(&logic, "a", "l", 1).await;
    push(&logic, "/goim/push/keys?operation=1000&keys=l", "last").await;
    push(
        &logic,
        "/goim/push/room?operation=1000&type=live&room=1",
        "to the room",
    )
    .await;
    assert_eq!(call.take().await, "to the room");
    until(|| ended(&logic) == 2).await;
    connect(&logic, "a", "k", 1).await;
    assert_eq!(call.take().await, "meanwhile");
    assert_eq!(call.take().await, "behind");
    assert_eq!(call.take().await, "last");
    until(|| ended(&logic) == 5).await;
    assert_eq!(logic.metrics().offline.get(), 0);
}

#[tokio::test]
async fn a_store_that_refuses_loses_nothing() {
    let (config, sessions) = (stored(), Gated::open());
    let queue = queue(&config);
    let logic = start(config, Arc::clone(&sessions) as _, queue.beside());
    let mut comet = LaneComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    connect(&logic, "a", "k", 1).await;
    let refused = StoreError::Refused("no permission".to_owned());
    sessions.refuse(Some(refused));
    push(&logic, KEY, "refused").await;
    let failures = logic.metrics().queue.failures("find");
    until(|| failures.get() >= 3).await;
    assert_eq!(ended(&logic), 0);
    sessions.refuse(None);
    assert_eq!(comet.call().await.take().await, "refused");
    until(|| ended(&logic) == 1).await;
}

#[tokio::test]
async fn what_is_not_readable_is_left_to_another_with_all_behind_it() {
    let config = stored();
    let queue = queue(&config);
    let sessions = MemorySessions::new(config.store_limits(), Clock::system());
    let logic = start(config, Arc::new(sessions), queue.beside());
    let mut comet = LaneComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    store(&queue, room(), "readable").await;
    append(&queue, Bytes::from("of a later version")).await;
    store(&queue, room(), "behind").await;
    let mut call = comet.call().await;
    assert_eq!(call.take().await, "readable");
    let failures = logic.metrics().queue.failures("decode");
    until(|| failures.get() == 1).await;
    // Given back, and not taken again at once.
    let newer = support::within(async {
        loop {
            if let Some(claim) = queue.claim(0).await.unwrap() {
                return claim;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let newer = newer.await;
    assert!(!newer.taken_over);
    let entries = queue.read(&newer, 0, 10).await.unwrap().unwrap();
    let contents: Vec<_> = entries.iter().map(|entry| &entry.content[..]).collect();
    assert_eq!(contents[0], b"of a later version");
    assert_eq!(contents.len(), 2);
    assert_eq!(ended(&logic), 1);
    queue.release(&newer).await.unwrap();
    // It looks again, in case there is nobody else.
    until(|| failures.get() >= 2).await;
}

#[tokio::test]
async fn who_cannot_read_what_it_has_claimed_is_not_ready() {
    let config = stored();
    let faulty = Arc::new(Faulty::new(queue(&config)));
    let builder = LogicStub::builder(config).queue(Arc::clone(&faulty) as Arc<dyn Queue>);
    let logic = start_with(builder);
    let readiness = logic.stub.readiness();
    until(|| readiness.report().is_ok()).await;
    faulty.unreadable.store(true, Ordering::Relaxed);
    until(|| readiness.report().is_err()).await;
    let why = "1 of its streams of pushes cannot be read: the store refused: no permission";
    assert_eq!(
        readiness.report(),
        Err(vec![("queue".to_owned(), why.to_owned())])
    );
    assert!(logic.metrics().queue.failures("read").get() > 0);
    faulty.unreadable.store(false, Ordering::Relaxed);
    until(|| readiness.report().is_ok()).await;
}

#[tokio::test]
async fn claims_are_renewed_while_others_are_not_answered() {
    let mut config = stored();
    config.queue.streams = 9;
    // What another one has claimed does not run out.
    let now = Instant::now();
    let queue = MemoryQueue::new(config.queue_limits(), Clock::new(move || now));
    let other = queue.beside();
    for stream in 1..9 {
        other.claim(stream).await.unwrap().unwrap();
    }
    let faulty = Arc::new(Faulty::new(queue));
    let builder = LogicStub::builder(config).queue(Arc::clone(&faulty) as Arc<dyn Queue>);
    let logic = start_with(builder);
    let counted = &logic.metrics().queue;
    until(|| counted.streams.get() == 1).await;
    faulty.silent.store(true, Ordering::Relaxed);
    // What another one has is asked for together.
    until(|| faulty.unanswered.load(Ordering::Relaxed) == 8).await;
    let renewals = || faulty.first.load(Ordering::Relaxed);
    let before = renewals();
    until(|| renewals() >= before + 5).await;
}
