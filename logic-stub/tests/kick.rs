//! Kicks that are asked for.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use common::config::Human;
use protocol::grpc::{
    comet::v1::{Addresses, Cause, Comeback, Keys, kick_request::Target},
    goim::logic::ConnectionRef,
};
use serde_json::{Value, json};
use support::{
    FakeComet, Running, config, http,
    kick::{A, B, is_for, log_in, patient, two_comets},
    lane::LaneComet,
    start,
};
use tokio::task::JoinHandle;
use tonic::Status;

/// A POST whose answer is waited for elsewhere.
fn post(logic: &Running, path: &'static str) -> JoinHandle<Value> {
    let addr = logic.stub.http_addr();
    tokio::spawn(async move { http(addr, "POST", path, b"").await.1 })
}

#[tokio::test]
async fn keys_are_kicked_by_their_connections_where_they_are() {
    let (logic, mut a, mut b) = two_comets(patient()).await;
    log_in(&logic, A, 1, 7, "a1").await;
    log_in(&logic, A, 2, 8, "a2").await;
    log_in(&logic, B, 3, 7, "b1").await;
    // goim's logic, and so no connection id.
    logic.connect("b", r#"{"mid":9,"key":"b2"}"#).await.unwrap();
    let answer = post(
        &logic,
        "/comet/kick/keys?keys=a1&keys=b1&keys=a2&keys=b2&keys=gone&reason=bye%20bye",
    );
    let kick = a.kick().await;
    is_for(&kick, Cause::Kicked, &[("a1", 100, 1), ("a2", 100, 2)]);
    assert_eq!(kick.request.reason, "bye bye");
    kick.done(1, &["a2"]);
    let kick = b.kick().await;
    is_for(&kick, Cause::Kicked, &[("b1", 200, 3)]);
    kick.done(1, &[]);
    let kick = b.kick().await;
    let keys = vec!["b2".to_owned()];
    assert_eq!(kick.request.target, Some(Target::Keys(Keys { keys })));
    kick.done(1, &[]);
    assert_eq!(
        answer.await.unwrap(),
        json!({
            "code": 0, "message": "not online: gone, a2",
            "data": {"kicked": 3, "absent": ["gone", "a2"], "unreached": {}},
        })
    );
    assert_eq!(logic.metrics().kicked("asked").get(), 3);
}

#[tokio::test]
async fn all_connections_of_mids_are_kicked_in_bounded_calls() {
    let mut config = patient();
    config.rpc_client.keys_per_call = 2;
    let (logic, mut a, mut b) = two_comets(config).await;
    for id in 0..5 {
        log_in(&logic, A, id, 7, &format!("a{id}")).await;
    }
    log_in(&logic, B, 1, 8, "b").await;
    let answer = post(&logic, "/comet/kick/mids?mids=7&mids=8&mids=9");
    let mut kicked = Vec::new();
    for count in [2, 2, 1] {
        let kick = a.kick().await;
        kicked.extend(kick.connections().iter().map(|named| named.2));
        assert_eq!(kick.connections().len(), count);
        kick.done(u32::try_from(count).unwrap(), &[]);
    }
    kicked.sort_unstable();
    assert_eq!(kicked, [0, 1, 2, 3, 4]);
    b.kick().await.done(0, &["b"]);
    assert_eq!(
        answer.await.unwrap(),
        json!({
            "code": 0, "message": "not online: 8, 9",
            "data": {"kicked": 5, "absent": ["8", "9"], "unreached": {}},
        })
    );
}

#[tokio::test]
async fn a_room_is_kicked_at_all_comets_and_those_that_do_not_do_it_are_named() {
    let (logic, mut a, mut b) = two_comets(patient()).await;
    let goims = FakeComet::start().await;
    logic.renew("c", Some(goims.info(1)), &[]).await.unwrap();
    let answer = post(&logic, "/comet/kick/room?type=live&room=1");
    let kick = a.kick().await;
    assert_eq!(
        kick.request.target,
        Some(Target::Room("live://1".to_owned()))
    );
    kick.done(4, &[]);
    b.kick().await.answer(Err(Status::unavailable("not now")));
    let unreached = json!({"b": "away: not now", "c": "it lacks comet.v1"});
    assert_eq!(
        answer.await.unwrap(),
        json!({
            "code": -500,
            "message": "not taken by comet b (away: not now), comet c (it lacks comet.v1)",
            "data": {"kicked": 4, "absent": [], "unreached": unreached},
        })
    );
}

#[tokio::test]
async fn addresses_are_kicked_everywhere_and_told_whether_to_come_back() {
    let (logic, mut a, mut b) = two_comets(patient()).await;
    let answer = post(
        &logic,
        "/comet/kick/addresses?addresses=192.0.2.0/24&addresses=::1&reconnect=true&within=7",
    );
    for (comet, count) in [(&mut a, 2), (&mut b, 1)] {
        let kick = comet.kick().await;
        let networks = vec!["192.0.2.0/24".to_owned(), "::1".to_owned()];
        let addresses = Target::Addresses(Addresses { networks });
        assert_eq!(kick.request.target, Some(addresses));
        let comeback = Comeback {
            allowed: true,
            within_ms: 7000,
        };
        assert_eq!(kick.request.comeback, Some(comeback));
        kick.done(count, &[]);
    }
    let data = json!({"kicked": 3, "absent": [], "unreached": {}});
    assert_eq!(
        answer.await.unwrap(),
        json!({"code": 0, "message": "", "data": data})
    );
    for query in [
        "addresses=here",
        "addresses=::1&within=86401",
        "reason=none",
    ] {
        let path = format!("/comet/kick/addresses?{query}");
        let answer = logic.post(&path, "").await;
        assert_eq!(answer["code"], -400, "{query}: {answer}");
    }
}

#[tokio::test]
async fn a_drain_goes_to_the_comet_that_is_named() {
    let (logic, _a, _b) = two_comets(patient()).await;
    let drain = async |query: &str| logic.post(&format!("/comet/drain{query}"), "").await;
    assert_eq!(
        drain("?server=a").await,
        json!({"code": 0, "message": "", "data": {"connections": 3}})
    );
    assert_eq!(
        drain("?server=c").await,
        json!({"code": -500, "message": "comet c: not known"})
    );
    assert_eq!(drain("").await["code"], -400);
}

#[tokio::test]
async fn a_comet_that_does_not_answer_a_kick_is_named() {
    let mut config = patient();
    // Nobody has to answer within it.
    config.kick.timeout = Human::millis(50);
    let logic = start(config);
    let silent = LaneComet::start().await;
    logic.renew("a", Some(silent.info(100)), &[]).await.unwrap();
    let answer = logic.post("/comet/kick/room?type=live&room=1", "").await;
    assert_eq!(
        answer,
        json!({
            "code": -500,
            "message": "not taken by comet a (no answer within 50ms)",
            "data": {
                "kicked": 0, "absent": [], "unreached": {"a": "no answer within 50ms"},
            },
        })
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_kick_is_named() {
    let logic = start(config());
    let long = "x".repeat(101);
    for (path, code, part) in [
        ("keys?reason=x".to_owned(), -400, "keys"),
        (format!("keys?keys=a&reason={long}"), -400, "reason"),
        ("mids?mids=x".to_owned(), -400, "mids"),
        ("room?type=live".to_owned(), -400, "room"),
        ("room?type=live&room=1".to_owned(), -500, "no comet"),
    ] {
        let answer = logic.post(&format!("/comet/kick/{path}"), "").await;
        assert_eq!(answer["code"], code, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(part), "{part}: {answer}");
    }
    let (status, _) = logic.http("GET", "/comet/kick/keys?keys=a", b"").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn the_sessions_of_mids_are_listed() {
    let mut config = config();
    config.http_server.max_values = 2;
    let (logic, _a, _b) = two_comets(config).await;
    let token = r#"{"mid":7,"key":"k2","platform":"web"}"#;
    let described = ConnectionRef {
        epoch: 200,
        id: 5,
        door: "tcp".to_owned(),
        client_address: "[::1]:9".to_owned(),
        ..ConnectionRef::default()
    };
    logic.connect_as("b", token, described).await.unwrap();
    logic
        .connect("goims", r#"{"mid":7,"key":"k1"}"#)
        .await
        .unwrap();
    logic
        .connect("goims", r#"{"mid":8,"key":"k3"}"#)
        .await
        .unwrap();
    let goims = json!({"mid": 7, "key": "k1", "server": "goims", "door": "", "address": "", "platform": ""});
    let ours = json!({
        "mid": 7, "key": "k2", "server": "b", "epoch": 200, "id": 5, "login": 205,
        "door": "tcp", "address": "[::1]:9", "platform": "web",
    });
    let found = logic.get("/comet/sessions?mids=8&mids=7").await;
    assert_eq!(found, json!({"total": 3, "sessions": [goims, ours]}));
}
