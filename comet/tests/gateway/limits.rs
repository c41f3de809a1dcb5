//! The bounds of what clients may take together, and of what each may do.

use std::{net::SocketAddr, time::Duration};

use comet::transport::Door as Counted;
use common::config::Human;
use protocol::{
    Header,
    grpc::goim::{
        comet::{PushMsgReq, comet_client::CometClient},
        protocol::Proto,
    },
    op,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::sleep,
};

use crate::{
    client::masked,
    support::{Client, DOORS, Door, FakeLogic, Gateway, Got, OP, config, token, until, within},
};

/// A connection from a loopback address of its own.
async fn connect(to: SocketAddr, from: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, from], 0).into()).unwrap();
    within(socket.connect(to)).await.unwrap()
}

/// A client of the TCP door on a connection that is there.
fn over(socket: TcpStream) -> Client {
    let address = socket.local_addr().unwrap();
    Client::over(Door::Tcp, Box::new(socket), address)
}

/// What HTTP answers on a connection of its own, up to its end: 404 to whoever comes in.
async fn ask(gateway: &Gateway, from: u8) -> String {
    let mut stream = connect(gateway.comet.http_addrs()[0], from).await;
    let request = b"GET /nothing HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// The reason that a refusal gives as JSON.
fn reason(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    body["reason"].as_str().unwrap().to_owned()
}

fn refused(gateway: &Gateway, reason: &'static str) -> u64 {
    let metrics = gateway.comet.metrics();
    metrics.refused_connections(reason).get()
}

#[tokio::test]
async fn connections_are_bounded_in_all() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.limits.connections = 2;
    let gateway = Gateway::start(&config).await;
    let first = gateway.online(Door::Tcp, "first", "").await;
    // One that has not logged in counts as well.
    let _second = gateway.client(Door::WebSocket).await;

    let mut third = gateway.client(Door::Tcp).await;
    assert_eq!(third.next().await, Got::End);
    let answer = ask(&gateway, 1).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(reason(&answer), "connections");
    assert_eq!(refused(&gateway, "connections"), 2);

    drop(first);
    let open = gateway.comet.metrics().connections(Counted::Tcp);
    until(|| open.get() == 0).await;
    gateway.online(Door::Tcp, "fourth", "").await;
}

#[tokio::test]
async fn connections_are_bounded_by_address() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.limits.per_address = 1;
    let gateway = Gateway::start(&config).await;
    let tcp = gateway.comet.tcp_addrs()[0];
    let mut online = Vec::new();
    for from in [2, 3] {
        let mut client = over(connect(tcp, from).await);
        client.log_in(&format!("from {from}"), "").await;
        online.push(client);
    }
    let mut one_more = over(connect(tcp, 2).await);
    assert_eq!(one_more.next().await, Got::End);
    let answer = ask(&gateway, 3).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert_eq!(reason(&answer), "address_connections");
    assert_eq!(refused(&gateway, "address_connections"), 2);
    assert!(ask(&gateway, 4).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn new_connections_are_bounded_by_their_rates() {
    for (by_address, status, label) in [(false, "503", "rate"), (true, "429", "address_rate")] {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        if by_address {
            config.limits.address_rate = 1;
        } else {
            config.limits.rate = 1;
        }
        let gateway = Gateway::start(&config).await;
        // The first comes in. Of the next ones, the first that comes within a second does not.
        assert!(ask(&gateway, 2).await.starts_with("HTTP/1.1 404 "));
        let answer = within(async {
            loop {
                let answer = ask(&gateway, 2).await;
                if !answer.starts_with("HTTP/1.1 404 ") {
                    return answer;
                }
            }
        });
        let answer = answer.await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert_eq!(reason(&answer), label);
        assert_eq!(refused(&gateway, label), 1);
        if by_address {
            assert!(ask(&gateway, 3).await.starts_with("HTTP/1.1 404 "));
        }
    }
}

#[tokio::test]
async fn who_sends_too_much_is_read_more_slowly_and_served_all_the_same() {
    for (label, operations, bytes) in [("operations", 5, 0), ("bytes", 0, 80)] {
        for door in DOORS {
            let logic = FakeLogic::start();
            let mut config = config(&[logic.addr]);
            config.limits.operations = operations;
            config.limits.bytes = bytes;
            let gateway = Gateway::start(&config).await;
            let mut client = gateway.online(door, "eager", "").await;
            let throttled = gateway.comet.metrics().throttled(label);
            let mut seq = 1;
            within(async {
                while throttled.get() == 0 {
                    client.heartbeat(seq).await;
                    seq += 1;
                }
            })
            .await;
            // It is not read now; what is for it comes, and what it has sent is answered later.
            client.send(op::HEARTBEAT, seq, b"").await;
            push(&gateway, "eager", b"hello".to_vec()).await;
            let mut got = [client.proto().await.0.op, client.proto().await.0.op];
            got.sort_unstable();
            assert_eq!(got, [op::HEARTBEAT_REPLY, OP]);
        }
    }
}

/// Frames of WebSocket that amount to nothing, or to next to nothing: pongs, and a heartbeat in fragments of a byte.
fn idle_frames() -> [(&'static str, Vec<u8>); 2] {
    let mut beat = Vec::new();
    let header = Header {
        ver: 1,
        op: op::HEARTBEAT,
        seq: 1,
    };
    header.encode(&[0; 4000], &mut beat);
    let (last, parts) = beat.split_last().unwrap();
    let mut fragments = masked(0x02, b"");
    for part in parts {
        fragments.extend(masked(0x00, &[*part]));
    }
    fragments.extend(masked(0x80, &[*last]));
    let pongs = masked(0x8a, b"").repeat(4000);
    [("pongs", pongs), ("fragments", fragments)]
}

#[tokio::test]
async fn each_frame_of_websocket_counts_before_and_after_the_login() {
    for door in [Door::WebSocket, Door::Wss] {
        for is_online in [false, true] {
            for (what, frames) in idle_frames() {
                let logic = FakeLogic::start();
                let mut config = config(&[logic.addr]);
                config.limits.operations = 2000;
                let gateway = Gateway::start(&config).await;
                let mut client = gateway.client(door).await;
                if is_online {
                    client.log_in("eager", "").await;
                }
                let throttled = gateway.comet.metrics().throttled("operations");
                // What is counted in a second, it may have to be sent more than once on a slow machine. Before the login only so
                // many heartbeats are let pass.
                for _ in 0..16 {
                    within(client.socket.write_all(&frames)).await.unwrap();
                    if throttled.get() > 0 {
                        break;
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                until(|| throttled.get() > 0).await;
                println!("{door:?}, online: {is_online}: {what} are read more slowly");
            }
        }
    }
}

async fn push(gateway: &Gateway, key: &str, body: Vec<u8>) {
    let request = PushMsgReq {
        keys: vec![key.to_owned()],
        proto: Some(Proto {
            ver: 1,
            op: OP,
            seq: 0,
            body: body.into(),
        }),
        proto_op: OP,
    };
    let mut service = CometClient::new(gateway.rpc());
    within(service.push_msg(request)).await.unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_and_may_learn_why() {
    for door in DOORS {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        config.limits.write_timeout = Human::millis(200);
        config.protocol.sweep = Human::millis(100);
        config.protocol.close_timeout = Human::secs(20);
        config.tcp.sndbuf = 4096;
        let gateway = Gateway::start(&config).await;
        let mut client = gateway.online(door, "stuck", "").await;
        let lost = gateway.comet.metrics().lost("write_timeout");
        // More than the buffers of both sides hold.
        for _ in 0..64 {
            push(&gateway, "stuck", vec![b'x'; 256 << 10]).await;
        }
        until(|| lost.get() > 0).await;
        let why = loop {
            match client.next().await {
                Got::Proto(header, body) if header.op == op::DISCONNECT_REPLY => break body,
                Got::Proto(header, _) => assert_eq!(header.op, OP),
                other => panic!("{other:?}"),
            }
        };
        let why: serde_json::Value = serde_json::from_slice(&why).unwrap();
        assert_eq!(why["reason"], "write_timeout");
        if door.is_websocket() {
            assert!(matches!(client.next().await, Got::Close(4006, _)));
        }
        assert_eq!(client.next().await, Got::End);
    }
}

#[tokio::test]
async fn a_websocket_has_the_time_of_its_kind_and_not_that_of_http() {
    for door in [Door::WebSocket, Door::Wss] {
        let logic = FakeLogic::start();
        let mut config = config(&[logic.addr]);
        config.websocket.idle = Human::secs(1);
        config.protocol.close_timeout = Human::millis(1);
        config.limits.write_timeout = Human::secs(4);
        config.protocol.sweep = Human::millis(100);
        config.tcp.sndbuf = 4096;
        let gateway = Gateway::start(&config).await;
        let _client = gateway.online(door, "stuck", "").await;
        for _ in 0..64 {
            push(&gateway, "stuck", vec![b'x'; 256 << 10]).await;
        }
        // The system would have reset it after 1 s, as `socket_error`.
        let metrics = gateway.comet.metrics();
        let closes = ["write_timeout", "socket_error"].map(|reason| metrics.closes(reason));
        until(|| closes.iter().any(|count| count.get() > 0)).await;
        assert_eq!(closes.map(|count| count.get()), [1, 0]);
    }
}

#[tokio::test]
async fn rooms_are_bounded() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.limits.rooms = 1;
    let gateway = Gateway::start(&config).await;
    for door in DOORS {
        let mut first = gateway.online(door, "first", "live://1").await;
        let mut second = gateway.client(door).await;
        second.auth(&token("second", "live://2")).await;
        second.ends_with("too_many_rooms", 1013).await;
        let mut third = gateway.online(door, "third", "").await;
        third.send(op::CHANGE_ROOM, 2, b"live://1").await;
        assert_eq!(third.proto().await.0.op, op::CHANGE_ROOM_REPLY);
        assert_eq!(third.heartbeat(3).await, 2);
        third.send(op::CHANGE_ROOM, 4, b"live://2").await;
        third.ends_with("too_many_rooms", 1013).await;
        // Leaving is always possible.
        first.send(op::CHANGE_ROOM, 5, b"").await;
        assert_eq!(first.proto().await.0.op, op::CHANGE_ROOM_REPLY);
    }
}
