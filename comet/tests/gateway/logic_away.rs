//! Logic that is not there, refuses, or hangs: connections stay, and who cannot log in is told why.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::config::Human;
use protocol::{grpc::goim::logic::ConnectionRef, op};
use tokio::sync::Semaphore;

use crate::support::{DOORS, Door, FakeLogic, Gateway, OP, OPEN, config, token, until, within};

#[tokio::test]
async fn comet_starts_without_logic_and_serves_when_it_comes() {
    let mut logic = FakeLogic::start();
    logic.kill();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    until(|| {
        gateway
            .comet
            .metrics()
            .logic_calls("renew_online", "unavailable")
            .get()
            > 0
    })
    .await;
    assert!(gateway.comet.readiness().report().is_err());
    for door in DOORS {
        let mut client = gateway.client(door).await;
        client.auth(&token("a", "")).await;
        client.ends_with("logic_unavailable", 1013).await;
    }
    logic.restart();
    logic.renewed().await;
    until(|| gateway.comet.readiness().report().is_ok()).await;
    for door in DOORS {
        gateway.online(door, "a", "").await;
    }
}

#[tokio::test]
async fn nobody_comes_in_before_all_who_route_pushes_know_this_comet() {
    let known_after = Duration::from_millis(500);
    let logic = FakeLogic::start();
    logic.known_after.store(500, Ordering::SeqCst);
    let start = Instant::now();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    logic.renewed().await;
    if start.elapsed() < known_after {
        assert!(gateway.comet.readiness().report().is_err());
    }
    for door in DOORS {
        gateway.online(door, "a", "").await;
    }
    assert!(start.elapsed() >= known_after);
    until(|| gateway.comet.readiness().report().is_ok()).await;

    // What a logic says is not believed beyond the bound.
    logic.known_after.store(u32::MAX, Ordering::SeqCst);
    let mut config = config(&[logic.addr]);
    config.logic.settle = Human::millis(1);
    let gateway = Gateway::start(&config).await;
    gateway.online(Door::Tcp, "a", "").await;
}

#[tokio::test]
async fn a_logic_that_hangs_leaves_its_work_to_the_others() {
    let logic = FakeLogic::start();
    // The kernel takes connections for it; nobody reads from them.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&[hung.local_addr().unwrap(), logic.addr]);
    config.rpc_client.timeout = Human::secs(8);
    let gateway = Gateway::start(&config).await;
    // Of two calls in turn, one comes to the address that hangs.
    let clients = (0..2).map(async |n: u32| {
        let mut client = gateway.online(Door::Tcp, &n.to_string(), "").await;
        // A message may be for logic only once.
        client.send(op::SEND_MSG, 1, b"once").await;
        client.proto().await
    });
    futures_util::future::join_all(clients).await;
    let timeouts = |call| gateway.comet.metrics().logic_calls(call, "timeout").get();
    assert!(timeouts("connect") + timeouts("renew_online") > 0);
}

#[tokio::test]
async fn while_logic_is_away_connections_stay_and_goodbyes_wait() {
    let mut logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let mut stays = gateway.online(Door::Tcp, "stays", "live://1").await;
    let leaves = gateway.online(Door::WebSocket, "leaves", "live://1").await;
    logic.told_connect().await;
    let told = logic.told_connect().await.connection.unwrap();
    logic.kill();
    assert_eq!(stays.heartbeat(1).await, 2);
    // A message does not reach logic, and is answered as by goim.
    stays.send(op::SEND_MSG, 2, b"lost").await;
    let (header, _) = stays.proto().await;
    assert_eq!((header.op, header.seq), (op::SEND_MSG, 2));
    let mut refused = gateway.client(Door::WebSocket).await;
    refused.auth(&token("new", "")).await;
    refused.ends_with("logic_unavailable", 1013).await;
    drop(leaves);
    while stays.heartbeat(3).await > 1 {}

    logic.restart();
    logic.renewed().await;
    let goodbye = logic.told_disconnect().await;
    assert_eq!((goodbye.key.as_str(), goodbye.mid), ("leaves", 1));
    assert_eq!(goodbye.connection.unwrap(), told);
    assert_eq!(stays.heartbeat(4).await, 1);
    gateway.online(Door::WebSocket, "new", "live://1").await;
    assert_eq!(gateway.comet.metrics().goodbyes_lost.get(), 0);
}

#[tokio::test]
async fn goodbyes_that_waited_are_told_in_their_order() {
    const CLIENTS: usize = 150;
    /// As many are told at once.
    const TOGETHER: usize = 64;
    let mut logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(gateway.online(Door::Tcp, &n.to_string(), "live://1").await);
        logic.told_connect().await;
    }
    let mut last = gateway.online(Door::Tcp, "last", "live://1").await;
    logic.told_connect().await;
    logic.kill();
    for (left, client) in (0..CLIENTS).rev().zip(clients) {
        drop(client);
        let left = i32::try_from(left).unwrap() + 1;
        while last.heartbeat(1).await > left {}
    }
    logic.restart();
    for place in 0..CLIENTS {
        let n: usize = logic.told_disconnect().await.key.parse().unwrap();
        assert!(
            n.abs_diff(place) < TOGETHER,
            "{n} is told as number {place}"
        );
    }
    assert_eq!(gateway.comet.metrics().goodbyes_lost.get(), 0);
}

#[tokio::test]
async fn the_addresses_of_logic_are_asked_in_turn() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[FakeLogic::nowhere(), logic.addr])).await;
    for n in 0..6 {
        gateway.online(Door::Tcp, &format!("key {n}"), "").await;
    }
    let calls = |call, result| gateway.comet.metrics().logic_calls(call, result).get();
    assert_eq!(calls("connect", "ok"), 6);
    // Whichever call finds it out; the others leave it for last.
    assert!(calls("connect", "unavailable") + calls("renew_online", "unavailable") > 0);
}

#[tokio::test]
async fn a_name_stands_for_its_addresses() {
    let logic = FakeLogic::start();
    let mut config = config(&[]);
    config.logic.addresses = vec![format!("localhost:{}", logic.addr.port())];
    let gateway = Gateway::start(&config).await;
    logic.renewed().await;
    gateway.online(Door::Tcp, "a", "").await;
}

#[tokio::test]
async fn a_logic_that_hangs_ends_the_login_in_time() {
    let mut logic = FakeLogic::start();
    logic.kill();
    logic.connects = Arc::new(Semaphore::new(0));
    logic.restart();
    for door in DOORS {
        let mut config = config(&[logic.addr]);
        config.rpc_client.timeout = Human::secs(60);
        config.protocol.handshake_timeout = Human::secs(1);
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.client(door).await;
        client.auth(&token("a", "")).await;
        client.ends_with("handshake_timeout", 4005).await;

        config.rpc_client.timeout = Human::millis(100);
        config.protocol.handshake_timeout = Human::secs(60);
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.client(door).await;
        client.auth(&token("a", "")).await;
        client.ends_with("logic_unavailable", 1013).await;
    }
    // One that took its time only, and answers: the login goes on.
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let mut client = gateway.client(Door::Tcp).await;
    client.auth(&token("b", "")).await;
    until(|| {
        gateway
            .comet
            .metrics()
            .accepted(comet::transport::Door::Tcp)
            .get()
            == 1
    })
    .await;
    logic.connects.add_permits(OPEN);
    let (header, _) = client.proto().await;
    assert_eq!(header.op, op::AUTH_REPLY);
}

#[tokio::test]
async fn a_refused_token_is_told() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    for door in DOORS {
        let mut client = gateway.client(door).await;
        client.auth("not JSON").await;
        client.ends_with("auth_refused", 1008).await;
    }
    let metrics = gateway.comet.metrics();
    assert_eq!(metrics.logic_calls("connect", "refused").get(), 4);
    until(|| metrics.closes("auth_refused").get() == 4).await;
}

#[tokio::test]
async fn who_is_denied_reads_logics_words() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    for door in DOORS {
        for (words, read) in [
            ("too many", "too many".to_owned()),
            (&"\u{e4}".repeat(51), "\u{e4}".repeat(50)),
        ] {
            let mut client = gateway.client(door).await;
            let token = serde_json::json!({ "key": "a", "denied": words });
            client.auth(&token.to_string()).await;
            assert_eq!(client.ends_with("auth_refused", 1008).await, read);
        }
    }
}

#[tokio::test]
async fn logic_is_told_of_a_login_that_comet_cannot_keep() {
    let mut logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.protocol.max_room = 10;
    config.protocol.max_accepts = 1;
    let gateway = Gateway::start(&config).await;
    let accepts_two = serde_json::json!({ "key": "b", "accepts": [OP, OP + 1] });
    for (token, key, reason) in [
        (token("a", "live://too-long"), "a", "bad_room"),
        (accepts_two.to_string(), "b", "too_many_accepts"),
    ] {
        let mut client = gateway.client(Door::Tcp).await;
        client.auth(&token).await;
        client.ends_with(reason, 1008).await;
        let connect = logic.told_connect().await;
        let goodbye = logic.told_disconnect().await;
        assert_eq!(goodbye.key, key);
        assert_eq!(goodbye.connection, connect.connection);
    }
}

#[tokio::test]
async fn logic_is_told_of_every_end_but_that_of_a_replaced_one() {
    let mut logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let mut older = gateway.online(Door::WebSocket, "a", "").await;
    let newer = gateway.online(Door::Tcp, "a", "").await;
    older.ends_with("replaced", 4001).await;
    let first = logic.told_connect().await.connection.unwrap();
    let connection = logic.told_connect().await.connection.unwrap();
    assert_eq!(connection.door, "tcp");
    assert!(connection.id > first.id);
    assert_eq!(connection.client_address, newer.address.to_string());
    drop(newer);
    let goodbye = logic.told_disconnect().await;
    assert_eq!(goodbye.connection, Some(connection));
}

#[tokio::test]
async fn a_session_is_renewed_when_its_client_is_heard_after_the_time_for_it() {
    let mut logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.logic.heartbeat_min = Human::millis(1);
    config.logic.heartbeat_max = Human::millis(1);
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.client(Door::Tcp).await;
    let token = serde_json::json!({ "key": "a", "platform": "ios" });
    client.auth(&token.to_string()).await;
    client.proto().await;
    let connection = logic.told_connect().await.connection.unwrap();
    let renewed = gateway.comet.metrics().logic_calls("heartbeat", "ok");
    let mut seq = 1;
    while renewed.get() == 0 {
        client.heartbeat(seq).await;
        seq += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let crate::support::Told::Heartbeat(told) = logic.told().await else {
        panic!("logic was told something else");
    };
    assert_eq!(
        (told.key.as_str(), told.server.as_str()),
        ("a", "comet-test")
    );
    // What logic said it wants to hear again is told with it.
    let connection = ConnectionRef {
        platform: "ios".to_owned(),
        ..connection
    };
    assert_eq!(told.connection, Some(connection));
}

#[tokio::test]
async fn a_renewal_that_fails_is_told_with_the_next_heartbeat() {
    let mut logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.logic.heartbeat_min = Human::secs(1);
    config.logic.heartbeat_max = Human::secs(1);
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.online(Door::Tcp, "a", "").await;
    logic.kill();
    // One a second would not be so many in time.
    let failed = gateway
        .comet
        .metrics()
        .logic_calls("heartbeat", "unavailable");
    within(async {
        for seq in 1.. {
            client.heartbeat(seq).await;
            if failed.get() >= 50 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
