//! Who may call the push service: whoever shows one of its tokens.

use std::{net::SocketAddr, path::PathBuf};

use comet::Config;
use common::{
    bearer::{self, Credential},
    health,
    listen::Callers,
};
use protocol::grpc::{
    comet::v1::{KickRequest, PushBatch, comet_client::CometClient as CometV1Client},
    goim::comet::{RoomsReq, comet_client::CometClient},
};
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
};

use crate::support::{FakeLogic, Gateway, config, until, within};

const ONE: &str = "the.first.token.of.the.list";
const TWO: &str = "the.second.token.of.the.list";

/// A file that goes with the test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, tokens: &[&str]) -> Self {
        let path = std::env::temp_dir().join(format!("comet-{name}-{}", std::process::id()));
        std::fs::write(&path, tokens.join("\n")).unwrap();
        Self(path)
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

fn showing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

async fn rooms(gateway: &Gateway, request: Request<RoomsReq>) -> Result<(), Status> {
    let mut client = CometClient::new(gateway.rpc());
    within(client.rooms(request)).await.map(drop)
}

fn is_refused<T>(answer: Result<T, Status>) {
    let status = answer.err().unwrap();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(bearer::is_refused(&status), "{status:?}");
}

#[tokio::test]
async fn only_health_is_open_to_whoever_has_no_token() {
    let logic = FakeLogic::start();
    let file = TokenFile::new("open", &[ONE, TWO]);
    let mut config = config(&[logic.addr]);
    config.rpc_server.token_file = file.path();
    let gateway = Gateway::start(&config).await;

    is_refused(rooms(&gateway, Request::new(RoomsReq {})).await);
    let mut v1 = CometV1Client::new(gateway.rpc());
    is_refused(within(v1.kick(KickRequest::default())).await);
    let batches = tokio_stream::once(PushBatch::default());
    is_refused(within(v1.push(batches)).await);
    let mut reflection = ServerReflectionClient::new(gateway.rpc());
    let question = tokio_stream::once(ServerReflectionRequest::default());
    is_refused(within(reflection.server_reflection_info(question)).await);
    let refusals = |reason| gateway.comet.metrics().rpc_refusals(reason).get();
    assert_eq!((refusals("no_token"), refusals("wrong_token")), (4, 0));

    for wrong in [&ONE[1..], "the.third.token.of.the.list", ""] {
        is_refused(rooms(&gateway, showing(RoomsReq {}, wrong)).await);
    }
    assert_eq!(refusals("wrong_token") + refusals("no_token"), 4 + 3);
    for good in [ONE, TWO] {
        rooms(&gateway, showing(RoomsReq {}, good)).await.unwrap();
    }

    // As `--health` asks.
    until(|| gateway.comet.readiness().report().is_ok()).await;
    let addr = gateway.comet.grpc_addr().to_string();
    let asking = tokio::task::spawn_blocking(move || health::check(&addr, Callers::Proven, false));
    within(asking).await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_asks_for_tokens_may_listen_everywhere() {
    let logic = FakeLogic::start();
    let file = TokenFile::new("everywhere", &[ONE]);
    let mut config = config(&[logic.addr]);
    config.rpc_server.addr = ":0".to_owned();
    let listens = async |config: &Config| {
        let gateway = Gateway::start(config).await;
        gateway.comet.grpc_addr()
    };
    let closed: SocketAddr = listens(&config).await;
    assert!(closed.ip().is_loopback(), "{closed}");
    config.rpc_server.token_file = file.path();
    let open = listens(&config).await;
    assert!(open.ip().is_unspecified(), "{open}");
}

#[tokio::test]
async fn a_client_shows_the_first_of_its_tokens() {
    let logic = FakeLogic::start();
    let file = TokenFile::new("first", &[ONE, TWO]);
    let wanted = TokenFile::new("wanted", &[ONE]);
    let mut config = config(&[logic.addr]);
    config.rpc_server.token_file = wanted.path();
    let gateway = Gateway::start(&config).await;
    let credential = Credential::configured(&file.path()).unwrap();
    rooms(&gateway, credential.request(RoomsReq {}))
        .await
        .unwrap();
}
