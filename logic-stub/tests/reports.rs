//! What a pusher is told, and what becomes of messages that do not reach their comet.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{sync::Arc, time::Duration};

use common::config::Human;
use logic_stub::{LogicStub, clock::Clock};
use parking_lot::Mutex;
use protocol::{
    MessageId,
    grpc::{
        comet::v1::{Receipt, Refusal},
        goim::logic::CometInfo,
    },
};
use serde_json::json;
use support::{
    Running,
    lane::{
        LaneComet, REPORT, ROOM, ask, body, connect, one_comet, patient, push, taken, until_refused,
    },
    start, start_with, until,
};

#[tokio::test]
async fn a_comet_that_stays_away_loses_what_waited_too_long() {
    let mut config = patient();
    config.lanes.retry = Human::millis(50);
    config.lanes.messages = 3;
    let logic = start(config);
    let comet = LaneComet::start().await;
    let (addr, info) = (comet.addr, comet.info(1));
    drop(comet);
    until_refused(addr).await;
    logic.renew("a", Some(info), &[]).await.unwrap();
    connect(&logic, "a", "k1", 1).await;
    connect(&logic, "a", "k2", 1).await;
    let path = "/goim/push/keys?operation=1000&keys=k1&keys=k2&keys=k3&report=1";
    let answer = logic.post(path, "hi").await;
    assert_eq!(
        (&answer["code"], &answer["message"]),
        (&json!(0), &json!("not online: k3"))
    );
    let data = &answer["data"];
    assert_eq!(data["lost"], json!({"comet_away": 2}));
    assert_eq!(data["lost_keys"], json!(["k1", "k2"]));
    assert_eq!(
        (&data["absent"], &data["absent_keys"]),
        (&json!(1), &json!(["k3"]))
    );
    // The lane has room again, also for what comes before the comet does.
    let answer = logic.post(REPORT, "hi").await;
    assert_eq!(answer["data"]["lost"], json!({"comet_away": 1}));
    assert_eq!(answer["data"]["lost_keys"], json!([]));
    assert_eq!(logic.metrics().lost("comet_away").get(), 3);
}

#[tokio::test]
async fn users_who_are_offline_count_as_absent() {
    let (logic, _comet) = one_comet(patient()).await;
    let path = "/goim/push/mids?operation=1000&mids=8&mids=9&report=1";
    let answer = logic.post(path, "hi").await;
    assert_eq!(answer["message"], "not online: 8, 9");
    let data = &answer["data"];
    assert_eq!(
        (&data["absent"], &data["absent_keys"]),
        (&json!(2), &json!([]))
    );
}

#[tokio::test]
async fn a_comet_that_has_started_anew_gets_nothing_of_what_waited() {
    let (logic, mut old) = one_comet(patient()).await;
    let reported = ask(&logic, REPORT, "old");
    let mut call = old.call().await;
    let message = call.message().await;
    let mut new = LaneComet::start().await;
    logic.renew("a", Some(new.info(2)), &[]).await.unwrap();
    let answer = reported.await.unwrap();
    assert_eq!(answer["data"]["lost"], json!({"comet_restarted": 1}));
    push(&logic, ROOM, "new").await;
    let next = new.call().await.message().await;
    assert_eq!(body(&next), "new");
    // Whatever the old call still holds is behind this.
    let (before, after) = (message.position.unwrap(), next.position.unwrap());
    assert_eq!(before.stream, after.stream);
    assert!(before.epoch < after.epoch && before.number < after.number);
    call.ended().await;
}

#[tokio::test]
async fn a_comet_without_a_lease_has_no_lane() {
    let hand = Arc::new(Mutex::new(Duration::ZERO));
    let begin = std::time::Instant::now();
    let moved = Arc::clone(&hand);
    let clock = Clock::new(move || begin + *moved.lock());
    let mut config = patient();
    config.comets.refresh = Human::millis(5);
    let logic = start_with(LogicStub::builder(config).clock(clock));
    let mut comet = LaneComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    let reported = ask(&logic, REPORT, "hi");
    let call = comet.call().await;
    *hand.lock() += Duration::from_secs(31);
    let answer = reported.await.unwrap();
    assert_eq!(answer["data"]["lost"], json!({"lease_ended": 1}));
    call.ended().await;
    let answer = logic.post(ROOM, "hi").await;
    assert_eq!(answer["message"], "no comet is known");
}

#[tokio::test]
async fn what_a_comet_that_is_cut_off_misses_is_counted() {
    let hand = Arc::new(Mutex::new(Duration::ZERO));
    let begin = std::time::Instant::now();
    let moved = Arc::clone(&hand);
    let clock = Clock::new(move || begin + *moved.lock());
    let mut config = patient();
    config.lanes.retry = Human::millis(1);
    let logic = start_with(LogicStub::builder(config).clock(clock));
    let nowhere = CometInfo {
        grpc_address: "127.0.0.1:1".to_owned(),
        epoch: 1,
        ..CometInfo::default()
    };
    let leaving = CometInfo {
        leaving: true,
        ..nowhere.clone()
    };
    logic.renew("a", Some(nowhere.clone()), &[]).await.unwrap();
    logic.renew("b", Some(leaving), &[]).await.unwrap();
    // To a comet that lives, and to one whose lease has ended so many seconds ago; never to one that has left.
    for (ago, missed) in [(1, true), (298, true), (300, false)] {
        *hand.lock() = Duration::from_secs(30 + ago);
        let lives = logic.renew("lives", Some(nowhere.clone()), &[]);
        lives.await.unwrap();
        let before = logic.metrics().lost("lease_ended").get();
        for path in [REPORT, "/goim/push/all?operation=1000&report=1"] {
            let answer = logic.post(path, "hi").await;
            assert_eq!(answer["code"], 0);
            let mut lost = json!({"comet_away": 1});
            if missed {
                lost["lease_ended"] = json!(1);
            }
            assert_eq!(answer["data"]["lost"], lost, "{ago}");
        }
        let counted = logic.metrics().lost("lease_ended").get() - before;
        assert_eq!(counted, if missed { 2 } else { 0 });
    }
    // It is back, and is no more lost to than any other.
    logic.renew("a", Some(nowhere), &[]).await.unwrap();
    let answer = logic.post(REPORT, "hi").await;
    assert_eq!(answer["data"]["lost"], json!({"comet_away": 2}));
}

#[tokio::test]
async fn a_report_adds_up_what_the_comets_say() {
    let (logic, mut a) = one_comet(patient()).await;
    let mut b = LaneComet::start().await;
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    let reported = ask(&logic, REPORT, "hi");
    let (mut at_a, mut at_b) = (a.call().await, b.call().await);
    let message = at_a.message().await;
    let receipt = Receipt {
        id: message.id.clone(),
        taken: 5,
        absent: 1,
        filtered: 2,
        dropped: 3,
        absent_keys: vec!["k".into()],
        ..Receipt::default()
    };
    at_a.answer(vec![receipt]).await;
    let same = at_b.message().await;
    assert_eq!(same.id, message.id);
    at_b.answer(vec![taken(&same, 10)]).await;
    let id = MessageId::try_from(&message.id[..]).unwrap().to_string();
    // Version 7 of RFC 9562.
    assert_eq!(&id[12..13], "7");
    let data = json!({
        "id": id, "taken": 15, "absent": 1, "filtered": 2, "dropped": 3, "uncounted": 0, "lost": {},
        "absent_keys": ["k"], "lost_keys": [], "pending": [],
    });
    let answer = json!({"code": 0, "message": "", "data": data});
    assert_eq!(reported.await.unwrap(), answer);
    let metrics = logic.metrics();
    let counts = [
        metrics.taken.get(),
        metrics.absent.get(),
        metrics.filtered.get(),
        metrics.dropped.get(),
    ];
    assert_eq!(counts, [15, 1, 2, 3]);
    assert_eq!(metrics.pushes("room").get(), 1);
}

#[tokio::test]
async fn a_report_names_the_comets_that_did_not_answer_in_time() {
    let mut config = patient();
    config.lanes.report = Human::millis(20);
    let (logic, mut comet) = one_comet(config).await;
    let answer = logic.post(REPORT, "hi").await;
    assert_eq!(answer["code"], 0);
    assert_eq!(answer["data"]["pending"], json!(["a"]));
    // It is on its way all the same.
    assert_eq!(comet.call().await.take().await, "hi");
}

#[tokio::test]
async fn what_a_comet_refuses_is_lost_with_its_reason() {
    let (logic, mut comet) = one_comet(patient()).await;
    for (refusal, reason) in [(Refusal::Busy, "busy"), (Refusal::Invalid, "refused")] {
        let reported = ask(&logic, REPORT, "hi");
        let mut call = comet.call().await;
        let message = call.message().await;
        let receipt = Receipt {
            id: message.id.clone(),
            refusal: refusal.into(),
            detail: "no".into(),
            ..Receipt::default()
        };
        call.answer(vec![receipt]).await;
        assert_eq!(reported.await.unwrap()["data"]["lost"], json!({reason: 1}));
    }
}

#[tokio::test]
async fn a_report_is_asked_for_by_1() {
    let (logic, _comet) = one_comet(patient()).await;
    let answer = logic.post(&format!("{ROOM}&report=2"), "hi").await;
    assert_eq!(answer["message"], "parameter report: must be 0 or 1");
    push(&logic, &format!("{ROOM}&report=0"), "hi").await;
}

#[tokio::test]
async fn a_logic_stub_that_ends_waits_for_its_lanes() {
    let (logic, mut comet) = one_comet(patient()).await;
    push(&logic, ROOM, "last").await;
    let mut call = comet.call().await;
    let message = call.message().await;
    let metrics = Arc::clone(logic.metrics());
    let Running { stub, shutdown, .. } = logic;
    shutdown.cancel();
    let ending = tokio::spawn(stub.join());
    call.answer(vec![taken(&message, 1)]).await;
    support::within(ending).await.unwrap();
    assert_eq!(
        (metrics.taken.get(), metrics.lost("lane_closed").get()),
        (1, 0)
    );
}

#[tokio::test]
async fn what_is_left_at_the_end_of_the_grace_is_counted() {
    let mut config = patient();
    config.shutdown.grace = Human::millis(10);
    let (logic, mut comet) = one_comet(config).await;
    push(&logic, ROOM, "last").await;
    let call = comet.call().await;
    let metrics = Arc::clone(logic.metrics());
    let Running { stub, shutdown, .. } = logic;
    shutdown.cancel();
    support::within(stub.join()).await;
    until(|| metrics.lost("lane_closed").get() == 1).await;
    call.ended().await;
}
