//! Kicks that logic-stub makes by itself: of who has been replaced, and by `sessions.perMid`.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use common::config::Human;
use logic_stub::{Config, config::PerMid};
use protocol::grpc::{
    comet::v1::{Cause, KickReply},
    goim::logic::{ConnectionRef, HeartbeatReq},
};
use serde_json::json;
use support::{
    FakeComet, connection,
    kick::{A, B, is_for, log_in, patient, two_comets},
    until,
};
use tonic::{Code, Status};

fn per_mid(rule: PerMid, max: usize) -> Config {
    let mut config = patient();
    config.sessions.per_mid = rule;
    config.sessions.max_per_mid = max;
    config
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
