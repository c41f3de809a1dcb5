//! Lanes to comets of this project: order, batches and bounds.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use common::config::Human;
use protocol::grpc::comet::v1::{Receipt, Refusal, message::Target};
use serde_json::json;
use support::{
    lane::{
        LaneComet, REPORT, ROOM, Taken, body, connect, one_comet, patient, push, taken,
        until_refused,
    },
    start, until,
};
use tokio::net::TcpListener;

#[tokio::test]
async fn what_waits_while_a_batch_is_under_way_goes_as_one() {
    let mut config = patient();
    config.lanes.window = 1;
    config.lanes.batch_messages = 8;
    let (logic, mut comet) = one_comet(config).await;
    push(&logic, ROOM, "first").await;
    let mut call = comet.call().await;
    let first = call.batch().await;
    assert_eq!(first.iter().map(body).collect::<Vec<_>>(), ["first"]);
    for n in 0..10 {
        push(&logic, ROOM, &n.to_string()).await;
    }
    call.answer(vec![taken(&first[0], 1)]).await;
    let bodies = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let second = call.batch().await;
    assert_eq!(second.iter().map(body).collect::<Vec<_>>(), bodies);
    // A part of the receipts is no reason to send more.
    call.answer(vec![taken(&second[0], 1)]).await;
    let rest = second[1..].iter().map(|message| taken(message, 1));
    call.answer(rest.collect()).await;
    let third = call.batch().await;
    assert_eq!(third.iter().map(body).collect::<Vec<_>>(), ["8", "9"]);
    let message = &third[1];
    assert_eq!(message.target, Some(Target::Room("live://1".into())));
    assert_eq!((message.operation, message.id.len()), (1000, 16));
}

#[tokio::test]
async fn large_messages_go_in_batches_of_bounded_bytes() {
    let mut config = patient();
    config.lanes.window = 1;
    config.lanes.batch_bytes = 3_000;
    let (logic, mut comet) = one_comet(config).await;
    push(&logic, ROOM, "first").await;
    let mut call = comet.call().await;
    let first = call.batch().await;
    for size in [900, 900, 900, 5_000, 10] {
        push(&logic, ROOM, &"x".repeat(size)).await;
    }
    call.answer(vec![taken(&first[0], 1)]).await;
    let mut sizes: Vec<Vec<usize>> = Vec::new();
    while sizes.concat().len() < 5 {
        let batch = call.batch().await;
        sizes.push(batch.iter().map(|message| message.body.len()).collect());
        call.answer(batch.iter().map(|message| taken(message, 1)).collect())
            .await;
    }
    assert_eq!(sizes, [vec![900, 900], vec![900], vec![5_000], vec![10]]);
}

#[tokio::test]
async fn a_call_that_ends_in_the_middle_of_a_batch_neither_loses_nor_repeats_nor_reorders() {
    let mut config = patient();
    config.lanes.window = 2;
    let (logic, mut comet) = one_comet(config).await;
    let mut taken = Taken::default();
    push(&logic, ROOM, "0").await;
    let mut call = comet.call().await;
    let message = call.message().await;
    call.answer(vec![taken.take(&message)]).await;
    for n in 1..=20 {
        push(&logic, ROOM, &n.to_string()).await;
    }
    let mut unanswered = Vec::new();
    for n in 1..=7 {
        let message = call.message().await;
        let receipt = taken.take(&message);
        if n <= 3 {
            call.answer(vec![receipt]).await;
        } else {
            // Taken, and the receipt is lost with the call.
            unanswered.push(message);
        }
        if n == 3 {
            let metrics = logic.metrics();
            until(|| metrics.taken.get() == 4).await;
        }
    }
    drop(call);

    let mut call = comet.call().await;
    for before in unanswered {
        let again = call.message().await;
        assert_eq!(again, before, "sent again as it was");
        let receipt = taken.take(&again);
        assert_eq!(receipt.refusal(), Refusal::Repeated);
        call.answer(vec![receipt]).await;
    }
    for n in 21..=30 {
        push(&logic, ROOM, &n.to_string()).await;
    }
    while taken.bodies.len() < 31 {
        let message = call.message().await;
        call.answer(vec![taken.take(&message)]).await;
    }
    let all: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
    assert_eq!(taken.bodies, all);
    let metrics = logic.metrics();
    until(|| metrics.taken.get() == 27).await;
    assert_eq!(
        (metrics.uncounted.get(), metrics.lane_reconnects.get()),
        (4, 1)
    );
}

#[tokio::test]
async fn receipts_that_fit_nothing_end_the_call_and_the_message_comes_again() {
    let (logic, mut comet) = one_comet(patient()).await;
    push(&logic, ROOM, "hi").await;
    let mut call = comet.call().await;
    let message = call.message().await;
    let other = Receipt {
        id: vec![0; 16],
        ..Receipt::default()
    };
    call.answer(vec![other]).await;
    call.ended().await;
    let mut call = comet.call().await;
    assert_eq!(call.message().await, message);
    // One more than there are messages.
    call.answer(vec![taken(&message, 1), taken(&message, 1)])
        .await;
    call.ended().await;
    assert_eq!(logic.metrics().taken.get(), 1);
}

#[tokio::test]
async fn a_comet_that_owes_receipts_for_too_long_is_called_anew() {
    let mut config = patient();
    config.rpc_client.timeout = Human::millis(50);
    let (logic, mut comet) = one_comet(config).await;
    push(&logic, ROOM, "hi").await;
    let mut silent = comet.call().await;
    let message = silent.message().await;
    let mut call = comet.call().await;
    assert_eq!(call.message().await, message);
    call.answer(vec![taken(&message, 3)]).await;
    until(|| logic.metrics().taken.get() == 3).await;
}

#[tokio::test]
async fn a_full_lane_says_so_and_no_other_lane_gets_the_push() {
    let mut config = patient();
    config.lanes.messages = 2;
    let (logic, mut a) = one_comet(config).await;
    let mut b = LaneComet::start().await;
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    connect(&logic, "a", "ka", 1).await;
    connect(&logic, "b", "kb", 1).await;
    let to_b = "/goim/push/keys?operation=1000&keys=kb";
    push(&logic, to_b, "1").await;
    push(&logic, to_b, "2").await;
    let refusal = "nothing was sent: no room at comet b (its lane is full: 2 messages of ";
    for path in [
        ROOM,
        to_b,
        "/goim/push/all?operation=1000",
        "/goim/push/mids?operation=1000&mids=7",
    ] {
        let answer = logic.post(path, "no").await;
        assert_eq!(answer["code"], -500);
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with(refusal), "{message}");
        assert_eq!(answer.get("data"), None);
    }
    let answer = logic.post(REPORT, "no").await;
    assert_eq!(answer["code"], -500);
    assert_eq!(answer["data"]["taken"], 0);
    assert_eq!(answer["data"]["pending"], json!([]));
    assert_eq!(logic.metrics().refused_pushes("lane_full").get(), 5);

    push(&logic, "/goim/push/keys?operation=1000&keys=ka", "yes").await;
    let mut call = a.call().await;
    assert_eq!(call.take().await, "yes");
    // Room comes with receipts.
    let mut call = b.call().await;
    assert_eq!(call.take().await, "1");
    until(|| logic.metrics().taken.get() == 2).await;
    push(&logic, ROOM, "3").await;
    assert_eq!(call.take().await, "2");
    assert_eq!(call.take().await, "3");
}

#[tokio::test]
async fn a_lane_is_bounded_in_bytes_too() {
    let mut config = patient();
    config.lanes.bytes = 65_536;
    let (logic, comet) = one_comet(config).await;
    push(&logic, ROOM, &"x".repeat(40_000)).await;
    assert_eq!(logic.post(ROOM, &"x".repeat(40_000)).await["code"], -500);
    push(&logic, ROOM, &"x".repeat(20_000)).await;
    drop(comet);
}

#[tokio::test]
async fn what_no_call_holds_is_refused() {
    let mut config = patient();
    config.rpc_client.max_message = 1_024;
    let (logic, mut comet) = one_comet(config).await;
    let answer = logic.post(ROOM, &"x".repeat(1_000)).await;
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("over the limit of 768"), "{message}");
    push(&logic, ROOM, "small").await;
    assert_eq!(comet.call().await.take().await, "small");
}

#[tokio::test]
async fn a_comet_that_is_away_for_a_while_gets_what_waited() {
    let logic = start(patient());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let info = LaneComet::on(listener).info(1);
    // Its server has ended, and nobody listens.
    until_refused(addr).await;
    logic.renew("a", Some(info), &[]).await.unwrap();
    for n in 0..5 {
        push(&logic, ROOM, &n.to_string()).await;
    }
    until(|| logic.metrics().lane_reconnects.get() >= 2).await;
    let mut comet = LaneComet::on(TcpListener::bind(addr).await.unwrap());
    let mut call = comet.call().await;
    for n in 0..5 {
        assert_eq!(call.take().await, n.to_string());
    }
    let metrics = logic.metrics();
    until(|| metrics.taken.get() == 5).await;
    assert_eq!(metrics.lost("comet_away").get(), 0);
    assert_eq!(metrics.lane_depth(&"a".into()).get(), 0);
}

#[tokio::test]
async fn a_comet_whose_address_changes_keeps_its_lane() {
    let (logic, mut old) = one_comet(patient()).await;
    push(&logic, ROOM, "hi").await;
    let mut call = old.call().await;
    let message = call.message().await;
    let mut new = LaneComet::start().await;
    logic.renew("a", Some(new.info(1)), &[]).await.unwrap();
    call.ended().await;
    assert_eq!(new.call().await.message().await, message);
    old.was_not_called();
}

#[tokio::test]
async fn a_comet_that_its_lane_has_lost_is_not_offered_until_it_says_that_it_lives() {
    let (logic, mut a) = one_comet(patient()).await;
    let mut b = LaneComet::start().await;
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    let offered = async || {
        let mut nodes = logic.get("/goim/nodes/weighted?platform=web").await["nodes"].take();
        nodes
            .as_array_mut()
            .unwrap()
            .sort_by_key(ToString::to_string);
        nodes
    };
    push(&logic, ROOM, "0").await;
    // Kept: its end would have the lane lose this comet, too.
    let mut kept = a.call().await;
    assert_eq!(kept.take().await, "0");
    assert_eq!(b.call().await.take().await, "0");
    assert_eq!(offered().await, json!(["a", "b"]));

    let (addr, info) = (b.addr, b.info(1));
    drop(b);
    until_refused(addr).await;
    // Whether it was noticed by the end of the call or by the next message: before the lease ends.
    push(&logic, ROOM, "1").await;
    let known = logic.stub.logic().comets.known();
    until(|| known["b"].is_suspect()).await;
    assert_eq!(offered().await, json!(["a"]));
    // Its lane still fails; a comet that renews its lease lives all the same.
    support::within(async {
        while offered().await != json!(["a", "b"]) {
            logic.renew("b", Some(info.clone()), &[]).await.unwrap();
        }
    })
    .await;
}
