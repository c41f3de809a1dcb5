//! Pushes by HTTP until they are in a comet's hands.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use protocol::grpc::goim::{
    comet::{BroadcastReq, BroadcastRoomReq},
    logic::CometInfo,
};
use serde_json::json;
use support::{FakeComet, Running, Told, config, connection, raw, start, told_keys};

/// Two comets with a lease and three clients: a1 and a2 at a, b1 at b; a1 and b1 are user 7.
async fn two_comets() -> (Running, FakeComet, FakeComet) {
    let logic = start(config());
    let (a, b) = (FakeComet::start().await, FakeComet::start().await);
    logic.renew("a", Some(a.info(1)), &[]).await.unwrap();
    logic.renew("b", Some(b.info(1)), &[]).await.unwrap();
    for (server, mid, key, id) in [("a", 7, "a1", 1), ("a", 8, "a2", 2), ("b", 7, "b1", 1)] {
        let token = json!({"mid": mid, "key": key, "accepts": [1000]}).to_string();
        logic
            .connect_as(server, &token, connection(1, id))
            .await
            .unwrap();
    }
    (logic, a, b)
}

#[tokio::test]
async fn keys_go_to_the_comets_that_hold_them() {
    let (logic, mut a, mut b) = two_comets().await;
    let answer = logic
        .post(
            "/goim/push/keys?operation=1000&keys=a1&keys=b1&keys=a2&keys=gone",
            "hi",
        )
        .await;
    assert_eq!(answer, json!({"code": 0, "message": "not online: gone"}));
    assert_eq!(a.told().await, told_keys(&["a1", "a2"], 1000, "hi"));
    assert_eq!(b.told().await, told_keys(&["b1"], 1000, "hi"));
    a.told_nothing_more();
    b.told_nothing_more();
}

#[tokio::test]
async fn mids_go_to_all_connections_of_the_users() {
    let (logic, mut a, mut b) = two_comets().await;
    let answer = logic
        .post("/goim/push/mids?operation=1000&mids=7&mids=9&mids=7", "hi")
        .await;
    assert_eq!(answer, json!({"code": 0, "message": "not online: 9"}));
    assert_eq!(a.told().await, told_keys(&["a1"], 1000, "hi"));
    assert_eq!(b.told().await, told_keys(&["b1"], 1000, "hi"));
    a.told_nothing_more();
}

#[tokio::test]
async fn rooms_and_everyone_go_to_every_comet() {
    let (logic, mut a, mut b) = two_comets().await;
    let answer = logic
        .post("/goim/push/room?operation=1000&type=live&room=a%20b", "hi")
        .await;
    assert_eq!(answer, json!({"code": 0, "message": ""}));
    let room = Told::Room(BroadcastRoomReq {
        room_id: "live://a b".to_owned(),
        proto: Some(raw(1000, "hi")),
    });
    assert_eq!(a.told().await, room);
    assert_eq!(b.told().await, room);

    for (query, speed) in [("", 0), ("&speed=100", 50), ("&speed=1", 1)] {
        let answer = logic
            .post(&format!("/goim/push/all?operation=1001{query}"), "all")
            .await;
        assert_eq!(answer, json!({"code": 0, "message": ""}));
        let everyone = Told::Everyone(BroadcastReq {
            proto_op: 1001,
            proto: Some(raw(1001, "all")),
            speed,
        });
        assert_eq!(a.told().await, everyone);
        assert_eq!(b.told().await, everyone);
    }
}

#[tokio::test]
async fn who_is_not_online_is_named_and_no_failure() {
    let (logic, mut a, _b) = two_comets().await;
    let answer = logic
        .post("/goim/push/keys?operation=1000&keys=x&keys=y", "hi")
        .await;
    assert_eq!(answer, json!({"code": 0, "message": "not online: x, y"}));
    let answer = logic
        .post("/goim/push/mids?operation=1000&mids=70", "hi")
        .await;
    assert_eq!(answer, json!({"code": 0, "message": "not online: 70"}));
    a.told_nothing_more();
}

#[tokio::test]
async fn without_a_comet_a_room_cannot_be_reached() {
    let logic = start(config());
    let answer = logic
        .post("/goim/push/room?operation=1000&type=live&room=1", "hi")
        .await;
    assert_eq!(
        answer,
        json!({"code": -500, "message": "no comet is known"})
    );
}

#[tokio::test]
async fn a_comet_without_an_address_is_named_and_the_others_are_served() {
    let (logic, mut a, b) = two_comets().await;
    let nowhere = CometInfo {
        grpc_address: "nowhere at all".to_owned(),
        ..b.info(1)
    };
    logic.renew("b", Some(nowhere), &[]).await.unwrap();
    let answer = logic
        .post(
            "/goim/push/keys?operation=1000&keys=a1&keys=b1&report=1",
            "hi",
        )
        .await;
    assert_eq!(a.told().await, told_keys(&["a1"], 1000, "hi"));
    assert_eq!(answer["code"], -500);
    assert_eq!(
        answer["message"],
        "not taken by comet b (without an address)"
    );
    let data = &answer["data"];
    assert_eq!(
        (&data["lost"], &data["lost_keys"]),
        (&json!({"no_address": 1}), &json!(["b1"]))
    );
    // goim's comet does not say what became of it.
    assert_eq!((&data["uncounted"], &data["taken"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn many_keys_are_cut_into_calls() {
    let mut config = config();
    config.rpc_client.keys_per_call = 2;
    let logic = start(config);
    let mut comet = FakeComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    for id in 1..=5 {
        logic
            .connect_as(
                "a",
                &format!(r#"{{"mid":7,"key":"k{id}"}}"#),
                connection(1, id),
            )
            .await
            .unwrap();
    }
    logic
        .post("/goim/push/mids?operation=1000&mids=7", "hi")
        .await;
    // They are for different keys, so they go at once.
    let mut calls = Vec::new();
    for _ in 0..3 {
        let Told::Keys(call) = comet.told().await else {
            panic!("no keys");
        };
        calls.push(call.keys);
    }
    calls.sort();
    assert_eq!(calls, [vec!["k1", "k2"], vec!["k3", "k4"], vec!["k5"]]);
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let mut config = config();
    config.http_server.max_body = 8;
    config.http_server.max_values = 2;
    let logic = start(config);
    let long = "x".repeat(300);
    let cases = [
        ("keys?keys=a", "hi", "parameter operation is missing"),
        (
            "keys?operation=&keys=a",
            "hi",
            "parameter operation is missing",
        ),
        (
            "keys?operation=x&keys=a",
            "hi",
            "parameter operation: \"x\"",
        ),
        (
            "keys?operation=3000000000&keys=a",
            "hi",
            "parameter operation: \"3000000000\"",
        ),
        (
            "keys?operation=0&keys=a",
            "hi",
            "parameter operation: must be above 0",
        ),
        ("keys?operation=9&keys=a", "hi", "parameter operation: 9"),
        ("keys?operation=1000", "hi", "parameter keys is missing"),
        (
            "keys?operation=1000&keys=",
            "hi",
            "parameter keys is missing",
        ),
        (
            "keys?operation=1000&keys=a&keys=b&keys=c",
            "hi",
            "parameter keys: more than 2 values",
        ),
        (
            &format!("keys?operation=1000&keys={long}"),
            "hi",
            "parameter keys: one is over the limit",
        ),
        ("mids?operation=1000", "hi", "parameter mids is missing"),
        (
            "mids?operation=1000&mids=1&mids=x",
            "hi",
            "parameter mids: \"x\"",
        ),
        (
            "room?operation=1000&room=1",
            "hi",
            "parameter type is missing",
        ),
        (
            "room?operation=1000&type=live",
            "hi",
            "parameter room is missing",
        ),
        (
            &format!("room?operation=1000&type=live&room={long}"),
            "hi",
            "parameters type and room: over the limit",
        ),
        ("all", "hi", "parameter operation is missing"),
        ("all?operation=1000&speed=x", "hi", "parameter speed: \"x\""),
        (
            "all?operation=1000&speed=-1",
            "hi",
            "parameter speed: negative",
        ),
        ("all?operation=1000", "", "the body is empty"),
        (
            "all?operation=1000",
            "123456789",
            "the body is over the limit of 8 bytes",
        ),
    ];
    for (path, body, message) in cases {
        let answer = logic.post(&format!("/goim/push/{path}"), body).await;
        assert_eq!(answer["code"], -400, "{path}: {answer}");
        let told = answer["message"].as_str().unwrap();
        assert!(told.starts_with(message), "{path}: {told}");
    }
}

#[tokio::test]
async fn a_body_far_over_the_limit_still_gets_its_answer() {
    let logic = start(config());
    let (status, answer) = logic
        .http(
            "POST",
            "/goim/push/all?operation=1000",
            &vec![b'x'; 1 << 20],
        )
        .await;
    assert_eq!((status, &answer["code"]), (200, &json!(-400)));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_have_a_status_and_goims_shape() {
    let logic = start(config());
    let (status, answer) = logic.http("GET", "/goim/push/keys?operation=1", b"").await;
    assert_eq!((status, &answer["code"]), (405, &json!(-405)));
    let (status, answer) = logic.http("POST", "/goim/online/total", b"x").await;
    assert_eq!((status, &answer["code"]), (405, &json!(-405)));
    for path in ["/", "/goim", "/goim/push/key"] {
        let (status, answer) = logic.http("GET", path, b"").await;
        assert_eq!((status, &answer["code"]), (404, &json!(-404)));
    }
}

#[tokio::test]
async fn a_query_may_be_as_long_as_the_library_takes() {
    let (logic, mut a, _b) = two_comets().await;
    let absent = format!("&keys={}", "x".repeat(36)).repeat(1_500);
    let path = format!("/goim/push/keys?operation=1000{absent}&keys=a1");
    assert!(path.len() > 60_000);
    assert_eq!(logic.post(&path, "hi").await["code"], 0);
    assert_eq!(a.told().await, told_keys(&["a1"], 1000, "hi"));
}
