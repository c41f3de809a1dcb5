//! Whose pages may connect.

use comet::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{FakeLogic, Gateway, config, within};

/// What a handshake from a page of this origin is answered.
async fn status(gateway: &Gateway, origin: Option<&str>) -> String {
    let addr = gateway.comet.http_addrs()[0];
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let handshake = format!(
        "GET /sub HTTP/1.1\r\nHost: comet\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{origin}\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    within(stream.read_exact(&mut status)).await.unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

async fn start(change: impl FnOnce(&mut Config)) -> (Gateway, FakeLogic) {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    change(&mut config);
    (Gateway::start(&config).await, logic)
}

#[tokio::test]
async fn pages_of_any_origin_may_connect_unless_some_are_listed() {
    let (gateway, _logic) = start(|_| {}).await;
    for origin in [None, Some("https://anyone.example"), Some("null")] {
        assert_eq!(status(&gateway, origin).await, "HTTP/1.1 101");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_and_counted() {
    let listed = vec![
        "https://*.example.com".to_owned(),
        "http://localhost:8080".to_owned(),
    ];
    let (gateway, _logic) = start(|config| config.websocket.origins = listed).await;
    for origin in [
        None,
        Some("https://app.example.com"),
        Some("http://localhost:8080"),
    ] {
        assert_eq!(status(&gateway, origin).await, "HTTP/1.1 101", "{origin:?}");
    }
    let refused = gateway.comet.metrics().http_refusals("origin");
    assert_eq!(refused.get(), 0);
    for origin in [
        "https://example.com",
        "http://app.example.com",
        "http://localhost:8081",
        "https://app.example.com.evil.example",
        "null",
    ] {
        let answer = status(&gateway, Some(origin)).await;
        assert_eq!(answer, "HTTP/1.1 403", "{origin}");
    }
    assert_eq!(refused.get(), 5);
}
