//! Logins, and signs of life, that are under way at once.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::time::Duration;

use common::config::Human;
use logic_stub::{Config, config::PerMid};
use protocol::grpc::{
    comet::v1::Cause,
    goim::logic::{ConnectReply, ConnectReq, HeartbeatReq},
};
use serde_json::json;
use support::{Running, config, connection, lane::LaneComet, start, store::Gated, until, within};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

/// One connection of each user, and time limits that no test waits for.
fn one_per_mid(rule: PerMid) -> Config {
    let mut config = config();
    config.sessions.per_mid = rule;
    config.sessions.max_per_mid = 1;
    config.kick.timeout = Human::secs(60);
    config
}

/// Two comets, which started at 100 and 200.
async fn two_comets(logic: &Running) -> (LaneComet, LaneComet) {
    let (a, b) = (LaneComet::start().await, LaneComet::start().await);
    logic.renew("a", Some(a.info(100)), &[]).await.unwrap();
    logic.renew("b", Some(b.info(200)), &[]).await.unwrap();
    (a, b)
}

const A: (&str, u64) = ("a", 100);
const B: (&str, u64) = ("b", 200);

/// A login of the mid 7 as the comet's connection 1, whose answer is waited for elsewhere.
fn log_in(
    logic: &Running,
    comet: (&str, u64),
    key: &str,
) -> JoinHandle<Result<ConnectReply, Status>> {
    let (server, epoch) = comet;
    let mut request = Request::new(ConnectReq {
        server: server.to_owned(),
        token: json!({"mid": 7, "key": key}).to_string().into(),
        connection: Some(connection(epoch, 1)),
        ..ConnectReq::default()
    });
    request.set_timeout(Duration::from_mins(1));
    let mut client = logic.client.clone();
    tokio::spawn(async move {
        client
            .connect(request)
            .await
            .map(tonic::Response::into_inner)
    })
}

/// A heartbeat of it, in the same way.
fn beat(logic: &Running, comet: (&str, u64), key: &str) -> JoinHandle<()> {
    let (server, epoch) = comet;
    let request = HeartbeatReq {
        mid: 7,
        key: key.to_owned(),
        server: server.to_owned(),
        connection: Some(connection(epoch, 1)),
    };
    let mut client = logic.client.clone();
    tokio::spawn(async move { drop(client.heartbeat(request).await.unwrap()) })
}

#[tokio::test]
async fn of_logins_at_once_that_all_found_room_no_more_come_in_than_may() {
    let sessions = Gated::closed();
    let logic = sessions.start(one_per_mid(PerMid::Refuse));
    let _comets = two_comets(&logic).await;
    let first = log_in(&logic, A, "first");
    sessions.until_come(1).await;
    let second = log_in(&logic, B, "second");
    // Both have counted, and saw nobody.
    sessions.until_come(2).await;
    sessions.let_in();
    within(first).await.unwrap().unwrap();
    sessions.let_in();
    let refused = within(second).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(sessions.store.len(), 1, "nothing is left of it");
}

#[tokio::test]
async fn connections_that_are_registered_again_are_counted() {
    let logic = start(one_per_mid(PerMid::Newest));
    let (mut a, mut b) = two_comets(&logic).await;
    // The store knows neither: it has lost them.
    beat(&logic, B, "newer").await.unwrap();
    beat(&logic, A, "older").await.unwrap();
    let kick = a.kick().await;
    assert_eq!(kick.request.cause, i32::from(Cause::Kicked));
    assert_eq!(kick.connections(), [("older", 100, 1)]);
    kick.done(1, &[]);
    let kicked = logic.metrics().kicked("newest");
    until(|| kicked.get() == 1).await;
    b.was_not_kicked();
}

#[tokio::test]
async fn of_two_connections_of_a_key_that_are_registered_again_at_once_one_is_closed() {
    let sessions = Gated::closed();
    let logic = sessions.start(one_per_mid(PerMid::Unlimited));
    let (mut a, mut b) = two_comets(&logic).await;
    let first = beat(&logic, A, "k");
    sessions.until_come(1).await;
    let second = beat(&logic, B, "k");
    // The store had neither.
    sessions.until_come(2).await;
    sessions.let_in();
    within(first).await.unwrap();
    sessions.let_in();
    within(second).await.unwrap();
    let kick = a.kick().await;
    assert_eq!(kick.request.cause, i32::from(Cause::Replaced));
    assert_eq!(kick.connections(), [("k", 100, 1)]);
    kick.done(1, &[]);
    let kicked = logic.metrics().kicked("replaced");
    until(|| kicked.get() == 1).await;
    b.was_not_kicked();
}
