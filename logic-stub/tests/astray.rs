//! Stored pushes to keys whose comet does not take them: they are looked up again.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::sync::Arc;

use common::config::Human;
use logic_stub::{Config, config::QueueMode};
use protocol::grpc::comet::v1::{Message, Receipt, Refusal, message::Target};
use serde_json::json;
use support::{
    Running,
    lane::{LaneComet, ask, body, connect, one_comet, patient, push, taken},
    until,
};

const KEY: &str = "/goim/push/keys?operation=1000&keys=k&report=1";
const MIDS: &str = "/goim/push/mids?operation=1000&mids=7&report=1";
const SLOWLY: &str = "/goim/push/all?operation=1000&speed=100&report=1";

fn stored() -> Config {
    let mut config = patient();
    config.queue.mode = QueueMode::Stored;
    config.queue.streams = 1;
    config.queue.retry = Human::secs(60);
    config
}

/// A logic-stub with the comets `a` and `b`.
async fn two_comets(config: Config) -> (Running, LaneComet, LaneComet) {
    let (logic, a) = one_comet(config).await;
    let b = LaneComet::start().await;
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    (logic, a, b)
}

fn keys(message: &Message) -> Vec<&str> {
    let Some(Target::Keys(keys)) = &message.target else {
        panic!("{message:?}");
    };
    keys.keys.iter().map(String::as_str).collect()
}

fn refused(message: &Message, refusal: Refusal) -> Receipt {
    Receipt {
        id: message.id.clone(),
        refusal: refusal.into(),
        ..Receipt::default()
    }
}

#[tokio::test]
async fn a_key_that_has_left_a_dead_comet_gets_what_was_under_way_to_it() {
    let (logic, mut a, mut b) = two_comets(stored()).await;
    connect(&logic, "a", "k", 1).await;
    let reported = ask(&logic, KEY, "hi");
    let mut call = a.call().await;
    let lost = call.message().await;
    // It dies with the message, its client logs in at the other one, and it comes back.
    connect(&logic, "b", "k", 1).await;
    logic.renew("a", Some(a.info(2)), &[]).await.unwrap();
    let mut call = b.call().await;
    let again = call.message().await;
    assert_eq!((keys(&again), &again.id), (vec!["k"], &lost.id));
    assert!(again.position.as_ref().unwrap().stored);
    call.answer(vec![taken(&again, 1)]).await;
    let data = &reported.await.unwrap()["data"];
    assert_eq!((&data["taken"], &data["lost"]), (&json!(1), &json!({})));
    let metrics = logic.metrics();
    until(|| metrics.queue.ended.get() == 1).await;
    let counts = (metrics.lost("comet_restarted").get(), metrics.taken.get());
    assert_eq!((counts, metrics.queue.resent.get()), ((0, 1), 1));
}

#[tokio::test]
async fn a_key_that_is_nowhere_any_more_is_counted() {
    let (logic, mut a) = one_comet(stored()).await;
    connect(&logic, "a", "k", 1).await;
    let reported = ask(&logic, KEY, "hi");
    let mut call = a.call().await;
    call.message().await;
    logic.renew("a", Some(a.info(2)), &[]).await.unwrap();
    let data = &reported.await.unwrap()["data"];
    let lost = (&data["lost"], &data["lost_keys"]);
    assert_eq!(lost, (&json!({"comet_restarted": 1}), &json!(["k"])));
    let metrics = logic.metrics();
    until(|| metrics.queue.ended.get() == 1).await;
    assert_eq!(metrics.lost("comet_restarted").get(), 1);
    assert_eq!(metrics.queue.resent.get(), 0);
}

#[tokio::test]
async fn of_a_user_those_who_have_it_do_not_get_it_again() {
    let (logic, mut a, mut b) = two_comets(stored()).await;
    connect(&logic, "a", "moves", 1).await;
    connect(&logic, "b", "stays", 1).await;
    let reported = ask(&logic, MIDS, "hi");
    let (mut at_a, mut at_b) = (a.call().await, b.call().await);
    at_a.message().await;
    let first = at_b.message().await;
    assert_eq!(keys(&first), ["stays"]);
    at_b.answer(vec![taken(&first, 1)]).await;
    // It comes back under another key.
    connect(&logic, "b", "moved", 1).await;
    logic.renew("a", Some(a.info(2)), &[]).await.unwrap();
    let again = at_b.message().await;
    assert_eq!(keys(&again), ["moved"]);
    at_b.answer(vec![taken(&again, 1)]).await;
    let data = &reported.await.unwrap()["data"];
    assert_eq!(data["taken"], 2);
    assert_eq!(data["lost"], json!({"comet_restarted": 1}));
}

#[tokio::test]
async fn what_a_busy_comet_does_not_take_comes_again() {
    let (logic, mut a) = one_comet(stored()).await;
    connect(&logic, "a", "k", 1).await;
    let mut call = None;
    for path in [KEY, SLOWLY] {
        let reported = ask(&logic, path, "hi");
        let call = match &mut call {
            Some(call) => call,
            none => none.insert(a.call().await),
        };
        for _ in 0..3 {
            let message = call.message().await;
            assert_eq!(body(&message), "hi");
            call.answer(vec![refused(&message, Refusal::Busy)]).await;
        }
        let message = call.message().await;
        call.answer(vec![taken(&message, 1)]).await;
        let data = &reported.await.unwrap()["data"];
        assert_eq!((&data["taken"], &data["lost"]), (&json!(1), &json!({})));
    }
    let metrics = logic.metrics();
    let counts = (metrics.lost("busy").get(), metrics.queue.resent.get());
    assert_eq!(counts, (0, 6));
}

#[tokio::test]
async fn a_key_that_has_left_a_comet_that_stays_away_is_found() {
    let mut config = stored();
    config.queue.retry = Human::millis(1);
    let (logic, a) = one_comet(config).await;
    connect(&logic, "a", "k", 1).await;
    let addr = a.addr;
    drop(a);
    support::lane::until_refused(addr).await;
    let answer = logic.post(KEY, "nobody").await;
    assert_eq!(answer["data"]["lost"], json!({"comet_away": 1}), "{answer}");
    let metrics = Arc::clone(logic.metrics());
    assert_eq!(metrics.lost("comet_away").get(), 1);
    // The next one waits until its client has gone elsewhere.
    let mut config = stored();
    config.queue.retry = Human::secs(1);
    let (logic, a, mut b) = two_comets(config).await;
    connect(&logic, "a", "k", 1).await;
    let addr = a.addr;
    drop(a);
    support::lane::until_refused(addr).await;
    let reported = ask(&logic, KEY, "moved");
    until(|| logic.metrics().lane_reconnects.get() > 0).await;
    connect(&logic, "b", "k", 1).await;
    assert_eq!(b.call().await.take().await, "moved");
    assert_eq!(reported.await.unwrap()["data"]["taken"], 1);
}

#[tokio::test]
async fn what_is_under_way_again_when_logic_stub_ends_is_not_forgotten() {
    let mut config = stored();
    config.shutdown.grace = Human::millis(10);
    let (logic, mut a) = one_comet(config).await;
    connect(&logic, "a", "k", 1).await;
    push(&logic, "/goim/push/keys?operation=1000&keys=k", "hi").await;
    let mut call = a.call().await;
    let message = call.message().await;
    call.answer(vec![refused(&message, Refusal::Busy)]).await;
    call.message().await;
    let metrics = Arc::clone(logic.metrics());
    let Running { stub, shutdown, .. } = logic;
    shutdown.cancel();
    drop(call);
    support::within(stub.join()).await;
    assert_eq!(metrics.queue.ended.get(), 0);
}
