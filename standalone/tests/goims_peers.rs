//! goim on the other side, played by Python with Google's gRPC and goim's schemas alone: neither knows a field or a service
//! of this project.

use comet::Comet;
use common::config::Human;
use logic_stub::{LogicStub, config::FixedComet};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, script, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_under_goims_logic_and_job() {
    let peer = peer("goim_logic.py").await;
    let mut config = server::config().comet;
    config.env.host = "interop".to_owned();
    config.logic.addresses = vec![peer.address.clone()];
    // Nearly each heartbeat of a client renews its session.
    config.logic.heartbeat_min = Human::millis(1);
    config.logic.heartbeat_max = Human::millis(1);
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    let comet = Comet::start(&config, axum::Router::new(), Registry::default(), shutdown);
    let comet = comet.await.unwrap();
    let (tcp, http) = (comet.tcp_addrs()[0], comet.http_addrs()[0]);
    let grpc = comet.grpc_addr();
    peer.passes(&format!("tcp={tcp} http={http} grpc={grpc}"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logic_stub_over_goims_comet() {
    let peer = peer("goim_comet.py").await;
    let mut config = server::config().logic;
    config.comets.fixed = vec![FixedComet {
        server: "interop".to_owned(),
        grpc_address: peer.address.clone(),
        addrs: vec!["10.0.0.12".to_owned()],
        ..FixedComet::default()
    }];
    config.lanes.retry = Human::secs(60);
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    let stub: LogicStub = LogicStub::builder(config).start(shutdown).unwrap();
    let (grpc, http) = (stub.grpc_addr(), stub.http_addr());
    peer.passes(&format!("grpc={grpc} http={http}")).await;
}

async fn peer(script: &'static str) -> script::Peer {
    let mut has_grpc = script::python();
    has_grpc.args(["-c", "import grpc, grpc_tools"]);
    assert!(
        script::run(&mut has_grpc, PATIENCE).await.status.success(),
        "the Python packages `grpcio` and `grpcio-tools` are missing: `make test` installs them and says where by \
         COMET_TEST_PYTHON"
    );
    script::Peer::start(script).await
}
