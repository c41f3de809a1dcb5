//! The gRPC listener: goim's `Comet`, `comet.v1`, health and reflection.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use common::{
    bearer::{Guard, Tokens},
    health,
    incoming::Incoming,
    mutual::Acceptor,
    readiness::Readiness,
};
use protocol::grpc::{
    DESCRIPTORS, comet::v1::comet_server::CometServer as CometV1Server,
    goim::comet::comet_server::CometServer,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, transport::Server};
use tonic_reflection::server::Builder as Reflection;

use crate::{
    config::RpcServer,
    metrics::Metrics,
    push::{CometV1, GoimComet, Pusher},
};

/// goim's windows, in bytes: a pusher that is ahead by less never waits for an acknowledgement.
const WINDOW: u32 = 16 << 20;

/// How often an idle caller is asked for a sign of life, and how long it may take: goim's values.
const KEEPALIVE: Duration = Duration::from_mins(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What lets callers pass.
pub(crate) struct Gate {
    tokens: Option<Tokens>,
    acceptor: Option<Acceptor>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// Reads the files of the configuration. Must be called in a tokio runtime.
    pub(crate) fn open(config: &RpcServer, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let acceptor = Acceptor::configured(&config.tls).context("rpcServer.tls")?;
        if let Some(acceptor) = acceptor.clone() {
            metrics.certificates.add(move || acceptor.shown());
        }
        Ok(Self {
            tokens: Tokens::configured(&config.token_file).context("rpcServer.tokenFile")?,
            acceptor,
            metrics: Arc::clone(metrics),
        })
    }
}

/// Serves those whom `gate` lets pass, until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    gate: Gate,
    pusher: Arc<Pusher>,
    readiness: &Readiness,
    config: &RpcServer,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let max_message = config.max_message;
    let goim = CometServer::new(GoimComet::new(Arc::clone(&pusher)))
        .max_decoding_message_size(max_message)
        .accept_compressed(CompressionEncoding::Gzip);
    let v1 = CometV1Server::new(CometV1::new(pusher))
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message)
        .accept_compressed(CompressionEncoding::Gzip);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    reporter.set_serving::<CometServer<GoimComet>>().await;
    reporter.set_serving::<CometV1Server<CometV1>>().await;
    health::announce(readiness, reporter, shutdown.clone()).await;
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let counted = Arc::clone(&gate.metrics);
    let guard = Guard::new(gate.tokens, config.tls.asks(), move |refused| {
        counted.rpc_refusals(refused.label()).inc();
    });
    let server = Server::builder()
        .max_concurrent_streams(config.max_streams)
        // A caller that gives up many calls at once is slow, not hostile: h2 would close its connection after 20.
        .http2_max_pending_accept_reset_streams(Some(config.max_streams as usize))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(guard)
        .add_service(goim)
        .add_service(v1)
        .add_service(health_service)
        .add_service(reflection().build_v1().context("gRPC reflection")?)
        .add_service(reflection().build_v1alpha().context("gRPC reflection")?);
    let failed = move || {
        gate.metrics.rpc_refusals("handshake").inc();
    };
    let max = config.max_connections;
    let incoming = Incoming::new(listener, max, KEEPALIVE, gate.acceptor, failed);
    tokio::spawn(async move {
        if let Err(error) = server
            .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
            .await
        {
            tracing::error!(%error, "the gRPC server ends");
        }
    });
    Ok(())
}
