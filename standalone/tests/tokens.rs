//! Both services and their pushers with tokens, and the replacement of these tokens while messages flow.

use std::{net::SocketAddr, path::PathBuf};

use axum::Router;
use comet::Comet;
use prometheus_client::registry::Registry;
use protocol::{
    grpc::goim::{
        comet::{RoomsReq, comet_client::CometClient},
        logic::{NodesReq, logic_client::LogicClient},
    },
    op,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::support::{Client, Door, Server, http, server, token, until, within};

const OLD: &str = "the.token.that.everyone.has.today";
const NEW: &str = "the.token.that.everyone.gets.tomorrow";

/// A file that goes with the test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, tokens: &[&str]) -> Self {
        let file = Self(std::env::temp_dir().join(format!("tokens-{name}-{}", std::process::id())));
        file.write(tokens);
        file
    }

    fn write(&self, tokens: &[&str]) {
        std::fs::write(&self.0, tokens.join("\n")).unwrap();
    }

    fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Both services, which know each other by one file and their pushers by another.
async fn start(services: &TokenFile, pushers: &TokenFile) -> Server {
    Server::start_with(|config| {
        config.comet.rpc_server.token_file = services.path();
        config.comet.rpc_client.token_file = services.path();
        config.logic.rpc_server.token_file = services.path();
        config.logic.rpc_client.token_file = services.path();
        config.logic.http_server.token_file = pushers.path();
    })
    .await
}

async fn push(addr: SocketAddr, shown: Option<&str>, body: &str) -> http::Answer {
    let shown = shown.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let len = body.len();
    let request = format!(
        "POST /goim/push/keys?operation=1000&keys=a&report=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         {shown}Content-Length: {len}\r\n\r\n{body}"
    );
    http::exchange(addr, request.as_bytes()).await
}

fn taken(answer: &http::Answer) -> u64 {
    answer.json()["data"]["taken"].as_u64().unwrap()
}

fn showing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

fn channel(addr: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"));
    endpoint.unwrap().connect_lazy()
}

/// Waits until both gRPC services take a token, or no longer do.
async fn services_take(server: &Server, token: &str, take: bool) {
    let mut comet = CometClient::new(channel(server.grpc()));
    let mut logic = LogicClient::new(channel(server.standalone.logic.grpc_addr()));
    within("the other tokens", async {
        loop {
            let rooms = comet.rooms(showing(RoomsReq {}, token)).await.is_ok();
            let nodes = logic.nodes(showing(NodesReq::default(), token)).await;
            if (rooms, nodes.is_ok()) == (take, take) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_replaced_while_messages_flow() {
    let services = TokenFile::new("services", &[OLD]);
    let pushers = TokenFile::new("pushers", &[OLD]);
    let server = start(&services, &pushers).await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    let mut count = 0;
    let mut send = async |token| {
        count += 1;
        let text = format!("message {count}");
        let answer = push(server.push_api(), Some(token), &text).await;
        assert_eq!(taken(&answer), 1, "{text}");
        client.gets(&text).await;
    };
    send(OLD).await;
    services.write(&[NEW, OLD]);
    pushers.write(&[NEW, OLD]);
    services_take(&server, NEW, true).await;
    send(OLD).await;
    services_take(&server, OLD, true).await;
    services.write(&[NEW]);
    services_take(&server, OLD, false).await;
    send(OLD).await;
    pushers.write(&[NEW]);
    within("the end of the old token", async {
        while push(server.push_api(), Some(OLD), "too late?").await.status != 401 {}
    })
    .await;
    // Logins, too, go on when comet has seen the new one.
    within("a login", async {
        let auth = token(2, "b", "").to_json();
        loop {
            let mut other = Client::connect(&server, Door::WebSocket).await;
            other.send(op::AUTH, 1, auth.as_bytes()).await;
            match other.packet().await.op {
                op::AUTH_REPLY => return,
                other => assert_eq!(other, op::DISCONNECT_REPLY),
            }
        }
    })
    .await;
    let answer = push(server.push_api(), Some(NEW), "the end").await;
    assert_eq!(taken(&answer), 1);
    while client.message().await.1 != "the end" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_token_can_do_nothing() {
    let services = TokenFile::new("closed-services", &[OLD]);
    let pushers = TokenFile::new("closed-pushers", &[NEW]);
    let server = start(&services, &pushers).await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    // The page's own port serves the push API as well.
    for addr in [server.push_api(), server.door(Door::WebSocket)] {
        for shown in [None, Some(OLD)] {
            let refused = push(addr, shown, "refused").await;
            assert_eq!(refused.status, 401, "{refused:?}");
            let json: Value = serde_json::from_str(&refused.body).unwrap();
            assert_eq!(json["code"], -401, "{json}");
        }
        assert_eq!(taken(&push(addr, Some(NEW), "taken").await), 1);
        client.gets("taken").await;
    }

    // A comet without the token: its clients are not at fault, so they are not told that they are.
    let mut config = server::config().comet;
    "stranger".clone_into(&mut config.env.host);
    config.logic.addresses = vec![server.standalone.logic.grpc_addr().to_string()];
    let end = CancellationToken::new();
    let stranger = Comet::start(&config, Router::new(), Registry::default(), end.clone());
    let stranger = stranger.await.unwrap();
    let _end = end.drop_guard();
    let readiness = stranger.readiness();
    until("the reason", || {
        let waiting = readiness.report().err().unwrap_or_default();
        waiting.iter().any(|(_, why)| why.contains("bearer token"))
    })
    .await;
    let door = Door::WebSocket;
    let mut lost = Client::open(stranger.http_addrs()[0], door, None).await;
    let auth = token(1, "a", "").to_json();
    lost.send(op::AUTH, 1, auth.as_bytes()).await;
    lost.ended().await.is("logic_unavailable", 1013, door);
    client.has_nothing().await;
}
