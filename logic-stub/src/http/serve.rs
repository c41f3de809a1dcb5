//! Connections of the HTTP API.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::ConnectInfo};
use common::{incoming::settle, listen::accept_loop};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::config::HttpServer;

/// Serves `router` on `listener` until `shutdown`, then waits for the requests under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpServer,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let connections = TaskTracker::new();
    let stop = shutdown.clone();
    let failed = |error: &std::io::Error| tracing::warn!(%error, "accepting a connection of a pusher failed");
    accept_loop(listener, shutdown, failed, |stream, peer| {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::warn!(%peer, "the bound of connections is reached: one of a pusher is refused");
            return;
        };
        settle(&stream, config.write_timeout.get());
        let (router, config, stop) = (router.clone(), config.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, peer, router, &config, stop).await;
            drop(permit);
        });
    })
    .await;
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: &HttpServer,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(config.read_timeout.get())
        .max_buf_size(config.max_head)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection of a pusher ended");
    }
}
