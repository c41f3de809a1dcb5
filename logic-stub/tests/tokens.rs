//! Who may call: whoever shows one of the tokens that the configuration names.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::net::SocketAddr;

use common::{bearer, health, listen::Callers};
use protocol::grpc::goim::logic::{ConnectReq, logic_client::LogicClient};
use serde_json::{Value, json};
use support::{Running, TempFile, config, start, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, transport::Endpoint};

const ONE: &str = "the.first.token.of.the.list";
const TWO: &str = "the.second.token.of.the.list";

fn log_in(token: Option<&str>) -> Request<ConnectReq> {
    let mut request = Request::new(ConnectReq {
        server: "a".to_owned(),
        token: r#"{"mid":1}"#.into(),
        ..ConnectReq::default()
    });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[tokio::test]
async fn comets_show_a_token() {
    let file = TempFile::new("comets", &format!("{ONE}\n{TWO}\n"));
    let mut config = config();
    config.rpc_server.token_file = file.path();
    let logic = start(config);
    let mut client = logic.client.clone();
    for wrong in [None, Some("the.third.token.of.the.list"), Some(&ONE[1..])] {
        let refused = within(client.connect(log_in(wrong))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(bearer::is_refused(&refused), "{refused:?}");
    }
    let refusals = |reason| logic.metrics().rpc_refusals(reason).get();
    assert_eq!((refusals("no_token"), refusals("wrong_token")), (1, 2));
    for good in [ONE, TWO] {
        within(client.connect(log_in(Some(good)))).await.unwrap();
    }
    let addr = logic.stub.grpc_addr().to_string();
    let asking = tokio::task::spawn_blocking(move || health::check(&addr, Callers::Proven, false));
    within(asking).await.unwrap().unwrap();
}

/// The head and the JSON of an answer.
async fn ask(addr: SocketAddr, request: &str, headers: &str) -> (String, Value) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: push.example.com\r\nconnection: close\r\ncontent-length: 2\r\n{headers}\r\nhi"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap();
    (head.to_ascii_lowercase(), body)
}

async fn is_refused(logic: &Running, request: &str, headers: &str, message: &str) {
    let (head, body) = ask(logic.stub.http_addr(), request, headers).await;
    assert!(head.starts_with("http/1.1 401 "), "{headers}: {head}");
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(body, json!({"code": -401, "message": message}));
}

#[tokio::test]
async fn pushers_show_a_token() {
    let file = TempFile::new("pushers", &format!("{ONE}\n{TWO}\n"));
    let mut config = config();
    config.http_server.token_file = file.path();
    let logic = start(config);
    let (missing, wrong) = (
        "this service wants a bearer token",
        "the bearer token is none of this service's",
    );
    let one = format!("authorization: Bearer {ONE}\r\n");
    for request in [
        "POST /goim/push/all?operation=1000",
        "POST /comet/kick/keys?keys=a",
        "GET /goim/online/total",
        "GET /comet/sessions?mids=1",
        "GET /goim/nodes/weighted",
    ] {
        is_refused(&logic, request, "", missing).await;
    }
    let total = "GET /goim/online/total";
    is_refused(&logic, total, "authorization: Basic eDp5\r\n", missing).await;
    let other = "authorization: Bearer the.third.token.of.the.list\r\n";
    is_refused(&logic, total, other, wrong).await;
    let twice = format!("{one}{one}");
    is_refused(&logic, total, &twice, wrong).await;
    let refusals = |reason| logic.metrics().api_refusals(reason).get();
    assert_eq!((refusals("no_token"), refusals("wrong_token")), (6, 2));

    for token in [ONE, TWO] {
        // Whatever the host is called: a page of another site has no token.
        let shown = format!("authorization: bearer {token}\r\norigin: http://other.example\r\n");
        let (head, body) = ask(logic.stub.http_addr(), total, &shown).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert_eq!(body["code"], 0);
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_call_even_where_anyone_may() {
    let mut config = config();
    config.http_server.allow_unauthenticated = true;
    let logic = start(config);
    let addr = logic.stub.http_addr();
    for headers in [
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        // By a name of its own that leads here.
        "origin: http://push.example.com\r\n",
    ] {
        for request in [
            "POST /goim/push/all?operation=1000",
            "POST /comet/kick/keys?keys=a",
            "POST /comet/drain?server=a",
        ] {
            let (head, body) = ask(addr, request, headers).await;
            assert!(head.starts_with("http/1.1 403 "), "{headers}: {head}");
            assert_eq!(body["code"], -403, "{headers}: {body}");
        }
    }
    // A service sends none of these headers, whatever it calls this host.
    let (head, body) = ask(addr, "GET /goim/online/total", "").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body["code"], 0);
}

#[tokio::test]
async fn whoever_asks_for_tokens_may_listen_everywhere() {
    let file = TempFile::new("everywhere", ONE);
    let mut config = config();
    config.rpc_server.addr = ":0".to_owned();
    config.http_server.addr = ":0".to_owned();
    let closed = start(config.clone());
    for addr in [closed.stub.grpc_addr(), closed.stub.http_addr()] {
        assert!(addr.ip().is_loopback(), "{addr}");
    }
    config.rpc_server.token_file = file.path();
    config.http_server.token_file = file.path();
    let open = start(config.clone());
    for addr in [open.stub.grpc_addr(), open.stub.http_addr()] {
        assert!(addr.ip().is_unspecified(), "{addr}");
    }
    let endpoint = format!("http://localhost:{}", open.stub.grpc_addr().port());
    let channel = Endpoint::from_shared(endpoint).unwrap().connect_lazy();
    let mut client = LogicClient::new(channel);
    let refused = within(client.connect(log_in(None))).await.unwrap_err();
    assert!(bearer::is_refused(&refused), "{refused:?}");
    within(client.connect(log_in(Some(ONE)))).await.unwrap();
}

#[tokio::test]
async fn a_file_without_tokens_ends_the_start() {
    let file = TempFile::new("empty", "# nothing yet\n");
    let starts = |change: fn(&mut logic_stub::Config, String)| {
        let mut config = config();
        change(&mut config, file.path());
        let builder = logic_stub::LogicStub::builder(config);
        let started = builder.start(CancellationToken::new());
        started.unwrap_err().to_string()
    };
    let errors = [
        starts(|config, path| config.rpc_server.token_file = path),
        starts(|config, path| config.http_server.token_file = path),
        starts(|config, path| config.rpc_client.token_file = path),
    ];
    for (error, key) in errors.iter().zip(["rpcServer", "httpServer", "rpcClient"]) {
        let key = format!("{key}.tokenFile: ");
        assert!(error.starts_with(&key), "{error}");
        assert!(error.contains("it has no token"), "{error}");
    }
}
