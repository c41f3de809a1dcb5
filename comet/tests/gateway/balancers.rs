//! Clients behind balancers: who logic is told that they are, and what others may say of themselves.

use common::config::Human;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Client, DOORS, Door, FakeLogic, Gateway, config, handshake, token, until, within,
};

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 3101\r\n";

/// PROXY, TCP over IPv4, 203.0.113.7:4711 to 127.0.0.1:3101.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x12\x67\x0c\x1d";

/// LOCAL: the balancer itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Whose balancer is at 127.0.0.1, as all clients of the tests.
async fn behind_a_balancer(logic: &FakeLogic, change: impl Fn(&mut comet::Config)) -> Gateway {
    let mut config = config(&[logic.addr]);
    config.balancers.addresses = vec!["127.0.0.0/8".to_owned()];
    change(&mut config);
    Gateway::start(&config).await
}

/// A client that begins with these bytes, at a door behind TLS before its handshake.
async fn begins_with(gateway: &Gateway, door: Door, header: &[u8]) -> Client {
    let mut client = Client::behind(door, gateway.addr(door), header).await;
    if door.is_websocket() {
        client.upgrade().await;
    }
    client
}

/// The address that logic is told of, and the client.
async fn address(logic: &mut FakeLogic, client: &mut Client) -> String {
    client.log_in("key", "").await;
    let connection = logic.told_connect().await.connection.unwrap();
    connection.client_address
}

#[tokio::test]
async fn a_balancers_proxy_header_says_who_the_client_is() {
    let mut logic = FakeLogic::start();
    let gateway = behind_a_balancer(&logic, |config| config.balancers.proxy_protocol = true).await;
    for door in DOORS {
        for header in [V1, V2] {
            let mut client = begins_with(&gateway, door, header).await;
            assert_eq!(address(&mut logic, &mut client).await, "203.0.113.7:4711");
        }
        let mut client = begins_with(&gateway, door, LOCAL).await;
        let own = client.address.to_string();
        assert_eq!(address(&mut logic, &mut client).await, own);
    }
}

#[tokio::test]
async fn nobody_else_may_say_so() {
    let mut logic = FakeLogic::start();
    let gateway = behind_a_balancer(&logic, |config| {
        config.balancers.addresses = vec!["10.0.0.0/8".to_owned()];
        config.balancers.proxy_protocol = true;
        config.balancers.forwarded_for = true;
    })
    .await;
    // To the TCP door it is a frame that is none, to the HTTP door a request that is none.
    let mut client = begins_with(&gateway, Door::Tcp, V1).await;
    assert!(client.end().await.reason.is_some());
    let mut client = Client::to(Door::WebSocket, gateway.comet.http_addrs()[0]).await;
    let bytes = [V1, handshake("").as_bytes()].concat();
    client.socket.write_all(&bytes).await.unwrap();
    let mut answer = String::new();
    within(client.socket.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    let mut client = Client::to(Door::WebSocket, gateway.comet.http_addrs()[0]).await;
    client
        .upgrade_with("X-Forwarded-For: 203.0.113.7\r\n")
        .await;
    let own = client.address.to_string();
    assert_eq!(address(&mut logic, &mut client).await, own);
}

#[tokio::test]
async fn a_header_that_is_none_or_does_not_come_ends_the_connection() {
    let logic = FakeLogic::start();
    let gateway = behind_a_balancer(&logic, |config| {
        config.balancers.proxy_protocol = true;
        config.protocol.handshake_timeout = Human::millis(100);
    })
    .await;
    let refused = gateway.comet.metrics().refused_connections("proxy_header");
    let addr = gateway.comet.tcp_addrs()[0];
    for (count, bytes) in (1..).zip([&b"\0\0\0\x10\0\x10\0\x01\0\0\0\x02"[..], &V2[..20], b""]) {
        let mut client = Client::to(Door::Tcp, addr).await;
        client.socket.write_all(bytes).await.unwrap();
        // An end or a reset: what was sent was not read.
        let mut rest = Vec::new();
        let _ = within(client.socket.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
        until(|| refused.get() == count).await;
    }
}

#[tokio::test]
async fn clients_behind_a_balancer_are_bounded_by_their_own_addresses() {
    let logic = FakeLogic::start();
    let gateway = behind_a_balancer(&logic, |config| {
        config.balancers.forwarded_for = true;
        config.limits.per_address = 1;
    })
    .await;
    let addr = gateway.comet.http_addrs()[0];
    let refused = async |client: &str| {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let request = handshake(&format!("X-Forwarded-For: {client}\r\n"));
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 13];
        within(socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 429 ", "{client}");
    };
    let mut online = Vec::new();
    for client in ["203.0.113.7", "2001:db8:0:1::1"] {
        let header = format!("X-Forwarded-For: {client}\r\n");
        let mut first = Client::to(Door::WebSocket, addr).await;
        first.upgrade_with(&header).await;
        first.auth(&token(client, "")).await;
        first.proto().await;
        online.push(first);
        refused(client).await;
    }
    // Of one network of 64 bits, another address is the same client.
    refused("2001:db8:0:1:ffff::1").await;
    let metrics = gateway.comet.metrics();
    assert_eq!(metrics.refused_connections("address_connections").get(), 3);
    assert_eq!(metrics.http_refusals("address_connections").get(), 3);
}
