//! Long-poll and Server-Sent Events under a logic that does what the test says: the calls that it gets, and what clients are
//! told while it is away.

use std::net::SocketAddr;

use comet::transport::Door;
use common::config::Human;
use protocol::{
    grpc::goim::{
        comet::{BroadcastReq, comet_client::CometClient},
        logic::ConnectionRef,
        protocol::Proto,
    },
    op,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::client::TlsStream;

use crate::{
    client,
    connector::Wanted,
    support::{FakeLogic, Gateway, OP, Told, config, token, until, within},
};

/// One request for `/sub`, and the answer's status, head and body.
pub async fn get(addr: SocketAddr, query: &str, lines: &str) -> (u16, String, String) {
    ask(addr, "GET", query, lines, "").await
}

async fn post(addr: SocketAddr, query: &str, body: &str) -> (u16, String, String) {
    let lines = format!("Content-Length: {}\r\n", body.len());
    ask(addr, "POST", query, &lines, body).await
}

async fn ask(
    addr: SocketAddr,
    method: &str,
    query: &str,
    lines: &str,
    body: &str,
) -> (u16, String, String) {
    let request = format!(
        "{method} /sub?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n{body}"
    );
    let mut answer = Vec::new();
    within(async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

pub async fn poll(addr: SocketAddr, query: &str) -> Value {
    let (status, _, body) = get(addr, query, "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn encoded(text: &str) -> String {
    let append = |text: String, byte: u8| text + &format!("%{byte:02X}");
    text.bytes().fold(String::new(), append)
}

#[tokio::test]
async fn logic_hears_of_a_session_once_and_that_it_lives() {
    let mut logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.logic.heartbeat_min = Human::millis(1);
    config.logic.heartbeat_max = Human::millis(1);
    config.subscription.hold = Human::millis(50);
    config.subscription.idle = Human::secs(3);
    config.protocol.sweep = Human::millis(100);
    let gateway = Gateway::start(&config).await;
    let addr = gateway.comet.http_addrs()[0];
    let token = token("a", "live://1");
    let begin = format!("s=&t={}", encoded(&token));
    let answer = poll(addr, &begin).await;
    let Told::Connect(connect) = logic.told().await else {
        panic!("no Connect");
    };
    assert_eq!(connect.token, token.as_bytes());
    let connection = connect.connection.unwrap();
    assert_eq!(connection.door, "poll");
    let session = answer["session"].as_str().unwrap();
    let mut ack = 1;
    for _ in 0..10 {
        ack = poll(addr, &format!("s={session}&ack={ack}")).await["ack"]
            .as_u64()
            .unwrap();
    }
    let mut heartbeats = 0;
    let bye = loop {
        match logic.told().await {
            Told::Heartbeat(heartbeat) => {
                heartbeats += 1;
                let ConnectionRef { id, .. } = heartbeat.connection.unwrap();
                assert_eq!(id, connection.id);
            }
            Told::Disconnect(bye) => break bye,
            other => panic!("{other:?}"),
        }
    };
    assert!(heartbeats > 0, "a poll is no sign of life");
    assert_eq!(
        (bye.key.as_str(), bye.connection.unwrap().id),
        ("a", connection.id)
    );
    let closes = gateway.comet.metrics().closes("heartbeat_timeout");
    until(|| closes.get() == 1).await;
}

#[tokio::test]
async fn while_logic_is_away_logins_are_told_so() {
    let mut logic = FakeLogic::start();
    logic.kill();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let addr = gateway.comet.http_addrs()[0];
    let query = format!("t={}", encoded(&token("a", "")));
    for query in [format!("s=&{query}"), query.clone()] {
        let (status, _, body) = get(addr, &query, "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["reason"]),
            (503, &"logic_unavailable".into())
        );
    }
    // A browser comes back after a stream that ends, and after no other status.
    let (status, head, body) = get(addr, &query, "Accept: text/event-stream\r\n").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/event-stream"), "{head}");
    assert!(body.contains("logic_unavailable"), "{body}");
    let closes = gateway.comet.metrics().closes("logic_unavailable");
    until(|| closes.get() == 3).await;
}

#[tokio::test]
async fn where_they_are_closed_nothing_is_there() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.subscription.open = false;
    let gateway = Gateway::start(&config).await;
    let (status, head, _) = get(gateway.comet.http_addrs()[0], "s=&t=x", "").await;
    assert_eq!(status, 426);
    assert!(head.contains("upgrade: websocket"), "{head}");
}

/// Of a login for a session of long-poll.
pub fn login(key: &str) -> String {
    format!("s=&t={}", encoded(&token(key, "")))
}

/// Waits until so many connections of a door are open.
async fn open(gateway: &Gateway, door: Door, count: i64) {
    let open = gateway.comet.metrics().connections(door);
    until(|| open.get() == count).await;
}

const EVENTS: &str = "Accept: text/event-stream\r\n";

#[tokio::test]
async fn sessions_are_connections_of_their_address_and_of_all() {
    for (by_address, status, label) in [
        (true, 429, "address_connections"),
        (false, 503, "connections"),
    ] {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        if by_address {
            config.limits.per_address = 2;
        } else {
            config.limits.connections = 2;
        }
        let gateway = Gateway::start(&config).await;
        let addr = gateway.comet.http_addrs()[0];
        let first = poll(addr, &login("a")).await;
        open(&gateway, Door::WebSocket, 0).await;
        // The session is one, and the connection that asks for another is the second.
        let (told, _, body) = get(addr, &login("b"), "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((told, &body["reason"]), (status, &label.into()));
        assert_eq!(body["code"], -i32::from(status));
        open(&gateway, Door::WebSocket, 0).await;
        let (told, _, body) = get(addr, &login("b"), EVENTS).await;
        assert_eq!(told, 200);
        assert!(body.contains(label), "{body}");
        let metrics = gateway.comet.metrics();
        assert_eq!(metrics.refused_connections(label).get(), 2);
        assert_eq!(metrics.http_refusals(label).get(), 2);

        // A session that has ended, and whose client has heard of it, makes room.
        let session = first["session"].as_str().unwrap();
        open(&gateway, Door::WebSocket, 0).await;
        let long = "x".repeat(config.protocol.max_room + 1);
        let query = format!("s={session}&op={}", op::CHANGE_ROOM);
        assert_eq!(post(addr, &query, &long).await.0, 400);
        open(&gateway, Door::WebSocket, 0).await;
        let last = poll(addr, &format!("s={session}&ack=1")).await;
        open(&gateway, Door::WebSocket, 0).await;
        let over = poll(addr, &format!("s={session}&ack={}", last["ack"])).await;
        assert_eq!(over["messages"], json!([]));
        open(&gateway, Door::WebSocket, 0).await;
        open(&gateway, Door::Poll, 0).await;
        poll(addr, &login("b")).await;
    }
}

#[tokio::test]
async fn logins_of_sessions_are_new_connections_by_their_rates() {
    for (by_address, status, label) in [(true, 429, "address_rate"), (false, 503, "rate")] {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        if by_address {
            config.limits.address_rate = 2;
        } else {
            config.limits.rate = 2;
        }
        let gateway = Gateway::start(&config).await;
        let addr = gateway.comet.http_addrs()[0];
        // Of connections that come often enough, one is let in whose login is one too many.
        let (head, body) = within(async {
            loop {
                let (told, head, body) = get(addr, &login("a"), "").await;
                if told == status && body.contains("\"code\"") {
                    return (head, body);
                }
            }
        })
        .await;
        assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["reason"], label);
        assert!(gateway.comet.metrics().http_refusals(label).get() > 0);
    }
}

#[tokio::test]
async fn scripts_are_for_pages_that_are_known_and_bring_no_cookies_of_others() {
    let page = "Referer: https://a.example/page\r\n";
    for (origins, form, page, expected) in [
        ("*", "&cb=x", "", Some("")),
        ("*", "", "", Some("user=1")),
        ("https://a.example", "&cb=x", "", None),
        ("https://a.example", "&callback=x", "", None),
        ("https://a.example", "&cb=x", page, Some("user=1")),
        ("https://a.example", "", "", Some("user=1")),
    ] {
        let mut logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        config.websocket.origins = vec![origins.to_owned()];
        let gateway = Gateway::start(&config).await;
        let addr = gateway.comet.http_addrs()[0];
        let query = format!("{}{form}", login("script"));
        let lines = format!("Cookie: user=1\r\n{page}");
        let (status, ..) = get(addr, &query, &lines).await;
        match expected {
            None => assert_eq!(status, 403, "{form}"),
            Some(cookie) => {
                assert_eq!(status, 200, "{form}");
                assert_eq!(logic.told_connect().await.cookie, cookie, "{form}");
            }
        }
    }
}

#[tokio::test]
async fn a_session_that_says_too_much_is_refused_for_the_rest_of_the_second() {
    for (label, operations, bytes) in [("operations", 5, 0), ("bytes", 0, 80)] {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        config.limits.operations = operations;
        config.limits.bytes = bytes;
        config.protocol.cli_proto = 1 << 20;
        let gateway = Gateway::start(&config).await;
        let addr = gateway.comet.http_addrs()[0];
        let answer = poll(addr, &login("eager")).await;
        let session = answer["session"].as_str().unwrap();
        let beat = format!("s={session}&op={}", op::HEARTBEAT);
        let mut taken = 0;
        let (head, body) = within(async {
            loop {
                match post(addr, &beat, "").await {
                    (200, ..) => taken += 1,
                    (429, head, body) => return (head, body),
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        assert!(head.contains("\r\nretry-after: 1\r\n"), "{head}");
        assert!(body.contains("too_fast"), "{body}");
        assert!(gateway.comet.metrics().throttled(label).get() > 0);
        // Polls are requests as others are.
        if operations > 0 {
            let again = format!("s={session}&ack=0");
            within(async { while get(addr, &again, "").await.0 != 429 {} }).await;
        }
        // Later it may go on, and what it has said is answered.
        let next = format!("s={session}&ack=1");
        let body = within(async {
            loop {
                if let (200, _, body) = get(addr, &next, "").await {
                    return body;
                }
            }
        })
        .await;
        let answers: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answers["messages"].as_array().unwrap().len(), taken);
        within(async { while post(addr, &beat, "").await.0 != 200 {} }).await;
    }
}

#[tokio::test]
async fn a_balancer_says_whose_session_it_is() {
    let mut logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.balancers.addresses = vec!["127.0.0.0/8".to_owned()];
    config.balancers.forwarded_for = true;
    config.limits.per_address = 1;
    let gateway = Gateway::start(&config).await;
    let addr = gateway.comet.http_addrs()[0];
    for (client, lines) in [("203.0.113.7", ""), ("203.0.113.8", EVENTS)] {
        let lines = format!("X-Forwarded-For: {client}\r\n{lines}");
        let request = format!(
            "GET /sub?{} HTTP/1.1\r\nHost: x\r\n{lines}\r\n",
            login(client)
        );
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let connection = logic.told_connect().await.connection.unwrap();
        assert_eq!(connection.client_address, format!("{client}:0"));
        let mut answer = [0; 13];
        within(socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 ");
        // One of its address is enough, by whatever connection of the balancer's.
        let lines = format!("X-Forwarded-For: {client}\r\n");
        let (told, _, body) = get(addr, &login("more"), &lines).await;
        assert_eq!(told, 429, "{body}");
        assert!(body.contains("address_connections"), "{body}");
    }
}

/// A request over TLS, whose connection stays, and what of its answer is there when it has these words.
pub async fn ask_behind_tls(
    addr: SocketAddr,
    query: &str,
    lines: &str,
    words: &str,
) -> (TlsStream<TcpStream>, String) {
    let socket = TcpStream::connect(addr).await.unwrap();
    let mut stream = within(Wanted::default().connect(socket)).await.unwrap();
    let request = format!("GET /sub?{query} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to(&mut stream, words).await;
    (stream, answer)
}

async fn read_to(stream: &mut (impl AsyncRead + Unpin), words: &str) -> String {
    let mut answer = Vec::new();
    within(async {
        while !String::from_utf8_lossy(&answer).contains(words) {
            let count = stream.read_buf(&mut answer).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        }
    })
    .await;
    String::from_utf8(answer).unwrap()
}

async fn broadcast(gateway: &Gateway, body: &'static [u8]) {
    let proto = Proto {
        ver: 1,
        op: OP,
        seq: 0,
        body: body.into(),
    };
    let request = BroadcastReq {
        proto_op: OP,
        proto: Some(proto),
        speed: 0,
    };
    let mut service = CometClient::new(gateway.rpc());
    within(service.broadcast(request)).await.unwrap();
}

#[tokio::test]
async fn polls_and_streams_are_served_behind_tls() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let addr = gateway.addr(client::Door::Wss);
    let (_, answer) = ask_behind_tls(addr, &login("poll"), "", "\"messages\":").await;
    let answer = answer.split_once("\r\n\r\n").unwrap().1;
    let answer: Value = serde_json::from_str(answer).unwrap();
    let session = answer["session"].as_str().unwrap();
    let (mut events, _) = ask_behind_tls(addr, &login("stream"), EVENTS, "\"op\":8").await;
    broadcast(&gateway, b"over TLS").await;
    let next = format!("s={session}&ack={}", answer["ack"]);
    ask_behind_tls(addr, &next, "", "over TLS").await;
    read_to(&mut events, "over TLS").await;
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_given_up_before_anything_is_full() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.websocket.idle = Human::secs(1);
    config.protocol.close_timeout = Human::millis(1);
    // Never in this test: what finds out is not that we cannot write.
    config.subscription.heartbeat = Human::secs(3600);
    config.tcp.sndbuf = 1 << 20;
    let gateway = Gateway::start(&config).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = within(socket.connect(gateway.comet.http_addrs()[0]))
        .await
        .unwrap();
    let request = format!(
        "GET /sub?{} HTTP/1.1\r\nHost: x\r\n{EVENTS}\r\n",
        login("a")
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    read_to(&mut socket, "\"op\":8").await;
    for _ in 0..16 {
        broadcast(&gateway, &[b'x'; 4000]).await;
    }
    open(&gateway, Door::WebSocket, 0).await;
    // The session waits for its client to come back.
    open(&gateway, Door::Sse, 1).await;
    assert_eq!(gateway.comet.metrics().http_refusals("stalled").get(), 1);
}
