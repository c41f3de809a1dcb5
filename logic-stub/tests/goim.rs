//! Lanes to a comet that has goim's calls alone.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use logic_stub::config::FixedComet;
use protocol::grpc::goim::{comet::BroadcastRoomReq, protocol::Proto};
use serde_json::json;
use support::{FakeComet, Told, config, connection, raw, start, told_keys};
use tonic::Status;

#[tokio::test]
async fn what_goims_comet_refuses_is_reported_with_its_reason() {
    let full = Status::resource_exhausted("inboxes are full");
    for (status, reason) in [
        (full, "busy"),
        (Status::invalid_argument("what?"), "refused"),
        (Status::deadline_exceeded("late"), "unconfirmed"),
    ] {
        let logic = start(config());
        let comet = FakeComet::answering(Err(status)).await;
        logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
        let answer = logic
            .post("/goim/push/all?operation=1000&report=1", "hi")
            .await;
        assert_eq!(answer["code"], 0);
        assert_eq!(answer["data"]["lost"], json!({reason: 1}));
    }
}

#[tokio::test]
async fn what_waits_for_a_room_of_goims_comet_goes_in_one_call() {
    let logic = start(config());
    let mut comet = FakeComet::gated(Ok(()), 0).await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    let path = |room: &str| format!("/goim/push/room?operation=1000&type=live&room={room}");
    let frames = |bodies: &[String]| {
        let frames = bodies.iter().flat_map(|body| raw(1000, body).body);
        Some(Proto {
            body: frames.collect(),
            ..raw(1000, "")
        })
    };
    let told = |room: &str, bodies: &[String]| {
        Told::Room(BroadcastRoomReq {
            room_id: format!("live://{room}"),
            proto: frames(bodies),
        })
    };
    logic.post(&path("1"), "first").await;
    assert_eq!(comet.told().await, told("1", &["first".to_owned()]));
    let bodies: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    for body in &bodies {
        logic.post(&path("1"), body).await;
        if body == "3" {
            logic.post(&path("2"), "other").await;
        }
    }
    comet.told_nothing_more();
    comet.let_through(1);
    // Both rooms at once, and goim's 20 messages of one.
    let mut both = [comet.told().await, comet.told().await];
    both.sort_by_key(|told| matches!(told, Told::Room(room) if room.room_id == "live://2"));
    assert_eq!(
        both,
        [told("1", &bodies[..20]), told("2", &["other".to_owned()])]
    );
    comet.told_nothing_more();
    comet.let_through(3);
    assert_eq!(comet.told().await, told("1", &bodies[20..]));
}

#[tokio::test]
async fn goims_comet_gets_one_push_after_the_other_for_one_key() {
    let logic = start(config());
    let mut comet = FakeComet::gated(Ok(()), 0).await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    for key in ["k1", "k2", "k3"] {
        let token = json!({"mid": 7, "key": key}).to_string();
        logic
            .connect_as("a", &token, connection(1, 1))
            .await
            .unwrap();
    }
    let push = async |keys: &str, body: &str| {
        let path = format!("/goim/push/keys?operation=1000{keys}");
        assert_eq!(logic.post(&path, body).await["code"], 0);
    };
    push("&keys=k1", "1").await;
    assert_eq!(comet.told().await, told_keys(&["k1"], 1000, "1"));
    push("&keys=k1&keys=k2", "2").await;
    push("&keys=k2", "3").await;
    push("&keys=k3", "4").await;
    comet.let_through(1);
    let mut round = [comet.told().await, comet.told().await];
    round.sort_by_key(|told| matches!(told, Told::Keys(keys) if keys.keys == ["k3"]));
    assert_eq!(
        round,
        [
            told_keys(&["k1", "k2"], 1000, "2"),
            told_keys(&["k3"], 1000, "4")
        ]
    );
    comet.told_nothing_more();
    comet.let_through(3);
    assert_eq!(comet.told().await, told_keys(&["k2"], 1000, "3"));
}

#[tokio::test]
async fn goims_own_comet_is_reached_by_the_list() {
    let mut comet = FakeComet::start().await;
    let mut config = config();
    let grpc_address = comet.addr.to_string();
    config.comets.fixed = vec![FixedComet {
        server: "goims".to_owned(),
        grpc_address,
        ..FixedComet::default()
    }];
    let logic = start(config);
    logic
        .connect("goims", r#"{"mid":7,"key":"k"}"#)
        .await
        .unwrap();
    let answer = logic.post("/goim/push/keys?operation=5&keys=k", "hi").await;
    assert_eq!(answer["code"], 0);
    assert_eq!(comet.told().await, told_keys(&["k"], 5, "hi"));
    // Its sessions are known, but no list says where this one is.
    logic
        .connect("elsewhere", r#"{"mid":8,"key":"k2"}"#)
        .await
        .unwrap();
    let answer = logic
        .post("/goim/push/keys?operation=5&keys=k2", "hi")
        .await;
    assert_eq!(
        answer["message"],
        "not taken by comet elsewhere (not known)"
    );
}
