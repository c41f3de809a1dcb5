//! Kicks: those that are asked for, and those that logic-stub makes by itself.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use common::config::Human;
use logic_stub::{Config, config::PerMid};
use protocol::grpc::{
    comet::v1::{Addresses, Cause, Comeback, Keys, KickReply, kick_request::Target},
    goim::logic::{ConnectionRef, HeartbeatReq},
};
use serde_json::{Value, json};
use support::{
    FakeComet, Running, config, connection, http,
    lane::{Kick, LaneComet},
    start, until,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Two comets, which started at 100 and 200.
async fn two_comets(config: Config) -> (Running, LaneComet, LaneComet) {
    let logic = start(config);
    let (a, b) = (LaneComet::start().await, LaneComet::start().await);
    logic.renew("a", Some(a.info(100)), &[]).await.unwrap();
    logic.renew("b", Some(b.info(200)), &[]).await.unwrap();
    (logic, a, b)
}

/// Time limits that a busy machine keeps, and that no test waits for.
fn patient() -> Config {
    let mut config = config();
    config.kick.timeout = Human::secs(60);
    config.kick.retry = Human::secs(60);
    config.kick.settle = Human::secs(60);
    config
}

fn per_mid(rule: PerMid, max: usize) -> Config {
    let mut config = patient();
    config.sessions.per_mid = rule;
    config.sessions.max_per_mid = max;
    config
}

async fn log_in(logic: &Running, comet: (&str, u64), id: u64, mid: i64, key: &str) {
    let token = json!({"mid": mid, "key": key, "platform": "ios"}).to_string();
    let (server, epoch) = comet;
    let reply = logic.connect_as(server, &token, connection(epoch, id));
    reply.await.unwrap();
}

const A: (&str, u64) = ("a", 100);
const B: (&str, u64) = ("b", 200);

/// A POST whose answer is waited for elsewhere.
fn post(logic: &Running, path: &'static str) -> JoinHandle<Value> {
    let addr = logic.stub.http_addr();
    tokio::spawn(async move { http(addr, "POST", path, b"").await.1 })
}

fn is_for(kick: &Kick, cause: Cause, connections: &[(&str, u64, u64)]) {
    assert_eq!(kick.request.cause, i32::from(cause));
    assert_eq!(kick.connections(), connections);
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

#[tokio::test]
async fn a_key_that_logs_in_elsewhere_has_its_older_connection_closed() {
    let (logic, mut a, mut b) = two_comets(patient()).await;
    log_in(&logic, A, 1, 7, "k").await;
    // The login does not wait for the kick.
    log_in(&logic, B, 1, 7, "k").await;
    let kick = a.kick().await;
    is_for(&kick, Cause::Replaced, &[("k", 100, 1)]);
    // Away at first, and then the login of before has not come to its bucket yet.
    kick.answer(Err(Status::unavailable("not now")));
    a.kick().await.done(0, &["k"]);
    // Another one meanwhile, which waits for nothing.
    log_in(&logic, A, 2, 7, "other").await;
    log_in(&logic, B, 2, 7, "other").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let kick = a.kick().await;
        let connections = kick.connections();
        told.extend(connections.iter().map(|(key, ..)| (*key).to_owned()));
        let count = connections.len().try_into().unwrap();
        kick.done(count, &[]);
    }
    told.sort();
    assert_eq!(told, ["k", "other"]);
    let kicked = logic.metrics().kicked("replaced");
    until(|| kicked.get() == 2).await;
    // At one comet it is the comet that sees to it.
    log_in(&logic, B, 3, 7, "k").await;
    log_in(&logic, A, 4, 7, "k").await;
    is_for(&b.kick().await, Cause::Replaced, &[("k", 200, 3)]);
    a.was_not_kicked();
}

#[tokio::test]
async fn who_finds_the_key_taken_at_a_heartbeat_is_closed() {
    let (logic, mut a, mut b) = two_comets(patient()).await;
    log_in(&logic, A, 1, 7, "k").await;
    log_in(&logic, B, 1, 7, "k").await;
    a.kick().await.done(0, &[]);
    let heartbeat = |server: &str, epoch, id| {
        let request = HeartbeatReq {
            mid: 7,
            key: "k".to_owned(),
            server: server.to_owned(),
            connection: Some(connection(epoch, id)),
        };
        let mut client = logic.client.clone();
        async move { client.heartbeat(request).await.unwrap() }
    };
    // Cut off until now.
    heartbeat("a", 100, 1).await;
    let kick = a.kick().await;
    is_for(&kick, Cause::Replaced, &[("k", 100, 1)]);
    kick.done(1, &[]);
    // At one comet, an older one is not closed by this: the newer one may not have joined.
    heartbeat("b", 200, 0).await;
    heartbeat("b", 200, 1).await;
    let closed = logic.metrics().kicked("replaced");
    until(|| closed.get() == 1).await;
    a.was_not_kicked();
    b.was_not_kicked();
}

#[tokio::test]
async fn what_cannot_be_closed_is_given_up_and_counted() {
    let mut config = patient();
    config.kick.waiting = 2;
    config.kick.retry = Human::millis(1);
    config.kick.settle = Human::millis(1);
    let (logic, mut a, _b) = two_comets(config).await;
    let goims = FakeComet::start().await;
    logic.renew("c", Some(goims.info(100)), &[]).await.unwrap();
    let lost = |reason| logic.metrics().lost_kicks(reason);
    let moves = async |from: (&str, u64), id: u64| {
        let key = format!("{} {id}", from.0);
        log_in(&logic, from, id, 7, &key).await;
        log_in(&logic, B, id, 7, &key).await;
    };
    moves(("c", 100), 1).await;
    until(|| lost("unimplemented").get() == 1).await;
    logic
        .connect("d", r#"{"mid":7,"key":"goims"}"#)
        .await
        .unwrap();
    log_in(&logic, B, 9, 7, "goims").await;
    assert_eq!(lost("no_connection").get(), 1);
    moves(A, 2).await;
    let held = a.kick().await;
    moves(A, 3).await;
    // Of three, one has no place.
    moves(A, 4).await;
    assert_eq!(lost("full").get(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    held.answer(Err(Status::unavailable("away")));
    until(|| lost("comet_away").get() == 1).await;
    let kick = a.kick().await;
    is_for(&kick, Cause::Replaced, &[("a 3", 100, 3)]);
    kick.answer(Err(Status::invalid_argument("no")));
    until(|| lost("refused").get() == 1).await;
    // One that has gone is no loss.
    moves(A, 5).await;
    let kick = a.kick().await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    kick.done(0, &["a 5"]);
    moves(A, 6).await;
    let mut kick = a.kick().await;
    if kick.connections()[0].0 == "a 5" {
        // Looked for once more before the time was over.
        kick.done(0, &["a 5"]);
        kick = a.kick().await;
    }
    is_for(&kick, Cause::Replaced, &[("a 6", 100, 6)]);
    logic.shutdown.cancel();
    until(|| lost("stopped").get() == 1).await;
}

#[tokio::test]
async fn the_newest_connections_of_a_mid_stay() {
    let (logic, mut a, mut b) = two_comets(per_mid(PerMid::Newest, 2)).await;
    log_in(&logic, A, 150, 7, "second").await;
    log_in(&logic, B, 10, 7, "first").await;
    log_in(&logic, A, 999, 8, "of another").await;
    log_in(&logic, A, 160, 7, "third").await;
    let kick = b.kick().await;
    is_for(&kick, Cause::Kicked, &[("first", 200, 10)]);
    assert_eq!(kick.request.reason, "this user has newer connections");
    kick.done(1, &[]);
    let kicked = logic.metrics().kicked("newest");
    until(|| kicked.get() == 1).await;
    a.was_not_kicked();
}

#[tokio::test]
async fn a_login_that_is_the_older_of_two_at_once_closes_itself() {
    let (logic, mut a, _b) = two_comets(per_mid(PerMid::Newest, 1)).await;
    // The later one came to logic first.
    log_in(&logic, B, 500, 7, "later").await;
    log_in(&logic, A, 1, 7, "earlier").await;
    is_for(&a.kick().await, Cause::Kicked, &[("earlier", 100, 1)]);
}

#[tokio::test]
async fn each_platform_has_its_own_newest() {
    let (logic, mut a, _b) = two_comets(per_mid(PerMid::Platform, 1)).await;
    let come_in = async |id: u64, key: &str, platform: &str| {
        let token = json!({"mid": 7, "key": key, "platform": platform}).to_string();
        logic.connect_as("a", &token, connection(100, id)).await
    };
    let reply = come_in(1, "web", "web").await.unwrap();
    assert_eq!(reply.platform, "web", "the comet is to say it again");
    come_in(2, "old", "ios").await.unwrap();
    come_in(3, "new", "ios").await.unwrap();
    let kick = a.kick().await;
    is_for(&kick, Cause::Kicked, &[("old", 100, 2)]);
    kick.answer(Ok(KickReply::default()));

    // The store is lost, and what the comet says brings everything back.
    for (id, key, platform) in [(1, "web", "web"), (3, "new", "ios")] {
        let sessions = &logic.stub.logic().sessions;
        let of_mid = sessions.of_mids(&[7]).await.unwrap();
        let known = of_mid.iter().find(|session| session.key == key).unwrap();
        assert!(sessions.remove(known).await.unwrap());
        let request = HeartbeatReq {
            mid: 7,
            key: key.to_owned(),
            server: "a".to_owned(),
            connection: Some(ConnectionRef {
                platform: platform.to_owned(),
                ..connection(100, id)
            }),
        };
        logic.client.clone().heartbeat(request).await.unwrap();
    }
    come_in(4, "newer", "web").await.unwrap();
    let mut closed = Vec::new();
    while !closed.contains(&"web".to_owned()) {
        let kick = a.kick().await;
        closed.extend(kick.connections().iter().map(|(key, ..)| (*key).to_owned()));
        kick.answer(Ok(KickReply::default()));
    }
    assert!(!closed.contains(&"new".to_owned()), "{closed:?}");
}

#[tokio::test]
async fn a_login_beyond_the_bound_is_refused() {
    let (logic, _a, _b) = two_comets(per_mid(PerMid::Refuse, 1)).await;
    log_in(&logic, A, 1, 7, "k").await;
    let come_in = async |id: u64, mid: i64, key: &str| {
        let token = json!({"mid": mid, "key": key}).to_string();
        logic.connect_as("b", &token, connection(200, id)).await
    };
    let refused = come_in(1, 7, "another").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refused.message(),
        "this user has as many connections as are allowed: 1"
    );
    assert_eq!(logic.metrics().refused_logins("per_mid").get(), 1);
    let found = logic.get("/comet/sessions?mids=7").await;
    assert_eq!(found["total"], 1, "nothing is left of it: {found}");
    // The same key takes the place of its older connection, and nobody's are not counted.
    come_in(2, 7, "k").await.unwrap();
    come_in(3, 0, "x").await.unwrap();
    come_in(4, 0, "y").await.unwrap();

    // Of many at once, never more than one comes in.
    let logins = (10..30).map(|id| {
        let key = id.to_string();
        async move { come_in(id, 8, &key).await.is_ok() }
    });
    let outcomes = futures_util::future::join_all(logins).await;
    assert!(outcomes.into_iter().filter(|is_in| *is_in).count() <= 1);
    let found = logic.get("/comet/sessions?mids=8").await;
    assert!(found["total"].as_u64().unwrap() <= 1, "{found}");
}
