//! The policy server of Flash: goim's bytes, and its bounds.

use common::config::Human;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{FakeLogic, Gateway, config, until, within};

const POLICY: &str = "<cross-domain-policy><allow-access-from domain=\"*\" to-ports=\"*\" /></cross-domain-policy>\n\0";

/// A comet with a policy server and a deadline of so many milliseconds, for so many connections.
async fn start(deadline: u64, connections: usize) -> Gateway {
    let mut config = config(&[FakeLogic::nowhere()]);
    config.flash.policy_open = true;
    config.flash.policy_bind = vec!["127.0.0.1:0".to_owned()];
    config.flash.max_connections = connections;
    config.protocol.handshake_timeout = Human::millis(deadline);
    Gateway::start(&config).await
}

async fn connect(gateway: &Gateway) -> TcpStream {
    let addr = gateway.comet.flash_addrs()[0];
    within(TcpStream::connect(addr)).await.unwrap()
}

/// All that comes until the end.
async fn rest(mut socket: TcpStream) -> String {
    let mut text = String::new();
    within(socket.read_to_string(&mut text)).await.unwrap();
    text
}

async fn counted(gateway: &Gateway, result: &'static str, count: u64) {
    let counter = gateway.comet.metrics().flash_policies(result);
    until(|| counter.get() == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_told_goims_bytes() {
    let gateway = start(20_000, 10).await;
    for parts in [
        &["<policy-file-request/>\0"][..],
        &["<policy-file-request/>"],
        &["<policy", "-file-", "request/>", "\0"],
    ] {
        let mut socket = connect(&gateway).await;
        socket.set_nodelay(true).unwrap();
        for part in parts {
            socket.write_all(part.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(rest(socket).await, POLICY);
    }
    counted(&gateway, "told", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_get_nothing() {
    let gateway = start(20_000, 10).await;
    let mut socket = connect(&gateway).await;
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: x")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The bytes that nobody read may make it a reset.
    let _ = within(socket.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    counted(&gateway, "malformed", 1).await;
    let mut cut = connect(&gateway).await;
    cut.write_all(b"<policy-file").await.unwrap();
    cut.shutdown().await.unwrap();
    assert_eq!(rest(cut).await, "");
    counted(&gateway, "lost", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_silent_or_too_many_is_closed() {
    let gateway = start(300, 1).await;
    let silent = connect(&gateway).await;
    assert_eq!(rest(silent).await, "");
    counted(&gateway, "late", 1).await;

    let gateway = start(20_000, 1).await;
    let mut first = connect(&gateway).await;
    let full = gateway.comet.metrics().flash_policies("full");
    within(async {
        while full.get() == 0 {
            rest(connect(&gateway).await).await;
        }
    })
    .await;
    first.write_all(b"<policy-file-request/>").await.unwrap();
    assert_eq!(rest(first).await, POLICY);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_none_unless_it_is_asked_for() {
    let gateway = Gateway::start(&config(&[FakeLogic::nowhere()])).await;
    assert!(gateway.comet.flash_addrs().is_empty());
}
