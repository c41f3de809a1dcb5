//! The way into WebSocket, and what RFC 6455 forbids on it.

use protocol::op;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    hostile::Peace,
    support::{
        Client, Door, Received, Server,
        client::{UPGRADE, frame},
        http, token,
        wire::message,
    },
};

/// Bytes of one message, as configured by default.
const MAX_MESSAGE: u64 = 16 * (4096 + 16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_handshakes_get_their_status() {
    let mut peace = Peace::new(Door::WebSocket).await;
    let without = |name: &str| {
        let lines = UPGRADE.split("\r\n").filter(|line| !line.starts_with(name));
        lines.collect::<Vec<_>>().join("\r\n")
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        (without("Sec-WebSocket-Key"), 400, "", "websocket_key"),
        (UPGRADE.replace(key, "c2hvcnQ="), 400, "", "websocket_key"),
        (UPGRADE.replace(key, "!"), 400, "", "websocket_key"),
        (
            UPGRADE.replace("Version: 13", "Version: 8"),
            426,
            "sec-websocket-version: 13",
            "websocket_version",
        ),
        (
            without("Sec-WebSocket-Version"),
            426,
            "sec-websocket-version: 13",
            "websocket_version",
        ),
        (without("Upgrade"), 426, "upgrade: websocket", "no_upgrade"),
        (without("Connection"), 426, "", "no_upgrade"),
        (UPGRADE.replace("GET", "POST"), 405, "allow: get", "method"),
        (UPGRADE.replace("/sub", "/nothing"), 404, "", "not_found"),
        (UPGRADE.replace("/sub", "/sub/"), 404, "", "not_found"),
        (UPGRADE.replace("/1.1", "/1.0"), 505, "", "http_version"),
        (
            UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"),
            400,
            "",
            "body",
        ),
        (
            UPGRADE.replace("Host: comet", &format!("Long: {}", "x".repeat(9000))),
            431,
            "",
            "head_too_large",
        ),
        (
            UPGRADE.replace("Host: comet", &"A: b\r\n".repeat(100)),
            431,
            "",
            "head_too_large",
        ),
        (
            "\x16\x03\x01 no HTTP\r\n\r\n".to_owned(),
            400,
            "",
            "malformed",
        ),
    ];
    let addr = peace.server.door(Door::WebSocket);
    for (request, status, line, reason) in cases {
        let refusals = peace.server.metrics().http_refusals(reason);
        let before = refusals.get();
        let answer = http::ask(addr, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{reason}: {answer:?}");
        assert!(answer.head.contains(line), "{line}: {answer:?}");
        crate::support::until(reason, || refusals.get() > before).await;
        assert_eq!(refusals.get(), before + 1, "{reason}");
        peace.holds().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_come_byte_by_byte() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut client = Client::on(socket, Door::WebSocket);
    for byte in UPGRADE.as_bytes() {
        client.send_raw(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    client.finish_upgrade().await;
    let auth = frame(op::AUTH, 1, token(1, "a", "").to_json().as_bytes());
    for byte in message(0x82, &auth) {
        client.send_raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.packet().await.op, op::AUTH_REPLY);
    client.has_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_frames_may_come_with_the_handshake() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let auth = frame(op::AUTH, 1, token(1, "a", "live://1").to_json().as_bytes());
    let all = [
        UPGRADE.as_bytes(),
        &message(0x89, b"early ping"),
        &message(0x82, &auth),
        &message(0x82, &frame(op::HEARTBEAT, 2, b"")),
    ];
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut client = Client::on(socket, Door::WebSocket);
    client.send_raw(&all.concat()).await;
    client.finish_upgrade().await;
    assert_eq!(client.next().await, Received::Pong(b"early ping".to_vec()));
    assert_eq!(client.packet().await.op, op::AUTH_REPLY);
    let reply = client.packet().await;
    assert_eq!((reply.seq, reply.body), (2, vec![0, 0, 0, 1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_asks_is_sent_away() {
    let server = Server::start_with(|config| {
        let timeout = common::config::Human::millis(200);
        config.comet.protocol.handshake_timeout = timeout;
    })
    .await;
    let addr = server.door(Door::WebSocket);
    let refusals = server.metrics().http_refusals("no_request");
    for (count, part) in [(1, ""), (2, "GET /sub HT"), (3, &UPGRADE[..90])] {
        let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let mut answer = Vec::new();
        socket.write_all(part.as_bytes()).await.unwrap();
        let end = socket.read_to_end(&mut answer);
        crate::support::within("the end", end).await.unwrap();
        drop(socket);
        crate::support::until("no_request", || refusals.get() == count).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_and_text_messages_are_answered() {
    let server = Server::start().await;
    let mut client = Client::login(&server, Door::WebSocket, &token(1, "a", "")).await;
    for payload in [&b""[..], b"payload", &[7; 125]] {
        client.send_raw(&message(0x89, payload)).await;
        assert_eq!(client.next().await, Received::Pong(payload.to_vec()));
    }
    client.send_raw(&message(0x8a, b"nobody asked")).await;
    client
        .send_raw(&message(0x81, &frame(op::HEARTBEAT, 7, b"")))
        .await;
    assert_eq!(client.packet().await.seq, 7);
    let text = frame(op::SEND_MSG, 8, "grüße ✓".as_bytes());
    // In fragments, cut within a character, with a ping in between.
    for (first, part) in [(0x01, &text[..19]), (0x00, &text[19..20])] {
        client.send_raw(&message(first, part)).await;
        client.send_raw(&message(0x89, b"between")).await;
        assert_eq!(client.next().await, Received::Pong(b"between".to_vec()));
    }
    client.send_raw(&message(0x80, &text[20..])).await;
    assert_eq!(client.packet().await.seq, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn violations_of_rfc_6455_end_their_connection() {
    let mut peace = Peace::new(Door::WebSocket).await;
    let beat = frame(op::HEARTBEAT, 1, b"");
    let masked = message(0x82, &beat);
    let mut unmasked = vec![0x82, 16];
    unmasked.extend(&beat);
    let announced = |len: u64| {
        let mut head = vec![0x82, 0xff];
        head.extend(len.to_be_bytes());
        [head, vec![1, 2, 3, 4]].concat()
    };
    let first = |first: u8| [&[first], &masked[1..]].concat();
    let fragments = |count: usize, part: &[u8]| {
        let mut bytes = message(0x02, part);
        for _ in 0..count {
            bytes.extend(message(0x00, part));
        }
        bytes
    };
    let cases = [
        (unmasked, "unmasked", 1002),
        (first(0xc2), "reserved_bits", 1002),
        (first(0xa2), "reserved_bits", 1002),
        (first(0x92), "reserved_bits", 1002),
        (first(0x83), "unknown_opcode", 1002),
        (first(0x8b), "unknown_opcode", 1002),
        (first(0x8f), "unknown_opcode", 1002),
        (message(0x89, &[0; 126]), "control_too_long", 1002),
        (message(0x88, &[3; 200]), "control_too_long", 1002),
        (message(0x09, b"part"), "control_fragmented", 1002),
        (message(0x80, &beat), "unexpected_continuation", 1002),
        (message(0x00, &beat), "unexpected_continuation", 1002),
        (
            [message(0x02, &beat[..3]), masked.clone()].concat(),
            "expected_continuation",
            1002,
        ),
        (message(0x81, b"\xc3\x28"), "invalid_utf8", 1007),
        (
            [message(0x01, b"\xc3"), message(0x80, b"\x28")].concat(),
            "invalid_utf8",
            1007,
        ),
        (message(0x88, b"\x03"), "bad_close", 1002),
        (message(0x88, b"\x03\xed"), "bad_close_code", 1002),
        (message(0x88, b"\x03\xe7"), "bad_close_code", 1002),
        (message(0x88, b"\x03\xe8\xff"), "bad_close_reason", 1007),
        (announced(MAX_MESSAGE + 1), "too_big", 1009),
        (announced(u64::MAX >> 1), "too_big", 1009),
        (
            [message(0x02, &beat[..8]), announced(MAX_MESSAGE - 7)]
                .concat()
                .into_iter()
                .enumerate()
                .map(|(at, byte)| if at == 14 { 0x80 } else { byte })
                .collect(),
            "too_big",
            1009,
        ),
        (fragments(100_000, b""), "too_many_fragments", 1008),
    ];
    for (bytes, reason, code) in cases {
        let client = Client::login(&peace.server, Door::WebSocket, &token(2, "", "")).await;
        peace.ends(client, &bytes, (reason, code)).await;
    }
}
