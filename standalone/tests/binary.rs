//! The program: what it prints works as printed, and it ends in order.

use tokio::process::Command;

use crate::support::{Client, Door, http, process::Process, through_both_doors, token, within};

through_both_doors!(clients_are_told_when_it_ends);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_prints_works_as_printed() {
    let process = Process::start(&[]).await;
    let mut client = Client::open(process.tcp, Door::Tcp, None).await;
    client.auth(&token(1, "a", "live://1000")).await;
    let line = line_with(&process, "curl ");
    let pushed = Command::new("sh")
        .args(["-c", line])
        .env("no_proxy", "*")
        .output();
    let pushed = within("curl", pushed).await.unwrap();
    let told = String::from_utf8_lossy(&pushed.stdout);
    assert!(told.contains("\"code\":0"), "{line}: {pushed:?}");
    client.gets("hello").await;

    let page = line_with(&process, "http://").strip_prefix("http://");
    let (host, path) = page.unwrap().split_once('/').unwrap();
    assert_eq!(host, process.http.to_string());
    let page = http::get(process.http, &format!("/{path}")).await;
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/html"), "{page:?}");
    assert!(page.body.contains("/app.js"), "{}", page.body);
    assert!(process.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_health_is_an_exit_code() {
    let process = Process::start(&[]).await;
    let setting = format!("comet.rpcServer.addr={}", process.grpc);
    let health = || async {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comet-standalone"));
        command.args(["--health", "--set", &setting]);
        within("its answer", command.output()).await.unwrap()
    };
    let ready = async { while health().await.stdout != *b"ready\n" {} };
    within("readiness", ready).await;
    assert!(process.end().await);
    assert_eq!(health().await.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_configuration_ends_its_start() {
    for (setting, parts) in [
        ("comet.tcp.sndbuff=1", ["comet.tcp.sndbuff", "did you mean"]),
        (
            "comet.protocol.svrProto=0",
            ["comet.protocol.svrProto", "from 1"],
        ),
        (
            "logic.node.heartbeat=soon",
            ["logic.node.heartbeat", "soon"],
        ),
    ] {
        let start = Command::new(env!("CARGO_BIN_EXE_comet-standalone"))
            .args(["--set", setting])
            .output();
        let refused = within("its end", start).await.unwrap();
        assert!(!refused.status.success());
        let told = String::from_utf8_lossy(&refused.stderr);
        for part in parts {
            assert!(told.contains(part), "no {part} in: {told}");
        }
    }
}

async fn clients_are_told_when_it_ends(door: Door) {
    let process = Process::start(&[]).await;
    let addr = match door {
        Door::Tcp => process.tcp,
        Door::WebSocket => process.http,
    };
    let mut client = Client::open(addr, door, None).await;
    client.auth(&token(1, "a", "live://1")).await;
    let reading = tokio::spawn(async move { client.ended().await });
    assert!(process.end().await);
    reading.await.unwrap().is("going_away", 1001, door);
}

fn line_with<'a>(process: &'a Process, start: &str) -> &'a str {
    let mut lines = process.welcome.lines().map(str::trim);
    let line = lines.find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("no {start} in: {}", process.welcome))
}
