//! The monitor of a comet whose logic comes and goes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Door, FakeLogic, Gateway, config, until, within};

/// The status and the body of an answer.
async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    within(async {
        let addr = gateway.comet.monitor_addrs()[0];
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    })
    .await
}

/// Waits until the comet is ready, or is not.
async fn becomes(gateway: &Gateway, status: u16) -> String {
    within(async {
        loop {
            let (found, text) = get(gateway, "/readyz").await;
            if found == status {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_logic_is_away_and_why() {
    let mut logic = FakeLogic::start();
    logic.kill();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let why = becomes(&gateway, 503).await;
    assert!(why.starts_with("logic: "), "{why}");
    let (status, why) = get(&gateway, "/monitor/ping").await;
    assert_eq!(status, 500);
    assert!(why.starts_with("logic: "), "{why}");
    assert_eq!(get(&gateway, "/healthz").await, (200, "ok\n".to_owned()));
    logic.restart();
    assert_eq!(becomes(&gateway, 200).await, "ready\n");
    assert_eq!(get(&gateway, "/monitor/ping").await, (200, "ok".to_owned()));
    logic.kill();
    let why = becomes(&gateway, 503).await;
    assert!(why.starts_with("logic: logic cannot be asked"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_fail_are_counted_by_reason() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    becomes(&gateway, 200).await;
    let mut refused = gateway.client(Door::Tcp).await;
    refused.auth(r#"{"denied":"not you"}"#).await;
    refused.ends_with("auth_refused", 1008).await;
    let metrics = gateway.comet.metrics();
    until(|| metrics.closes("auth_refused").get() == 1).await;
    let (_, text) = get(&gateway, "/metrics").await;
    for line in [
        "comet_logins_refused_total{reason=\"auth_refused\"} 1",
        "comet_protos_out_total{operation=\"disconnect_reply\"} 1",
        "comet_logic_calls_total{call=\"connect\",result=\"refused\"} 1",
        "comet_logic_call_seconds_count{call=\"connect\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}
