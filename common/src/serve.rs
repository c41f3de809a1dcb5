//! An HTTP service for programs and people: its connections are bounded in number, size and time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{incoming::settle, listen::accept_loop};

/// The smallest bound of a head that the HTTP library keeps, in bytes.
pub const MIN_HEAD: usize = 8192;

/// Bounds of one service's connections.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// At once; one more is closed.
    pub connections: usize,
    /// Bytes of a request's head; below [`MIN_HEAD`] it is taken for that.
    pub head: usize,
    /// Longest time for a request's head, counted from the end of the answer before it.
    pub read: Duration,
    /// Longest time for which a peer may take nothing of an answer (Linux).
    pub write: Duration,
}

/// Serves `router` on `listener` until `shutdown`, then waits for the requests under way. `service` names it in logs.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    service: &'static str,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let stop = shutdown.clone();
    let failed =
        |error: &std::io::Error| tracing::warn!(%error, service, "accepting a connection failed");
    accept_loop(listener, shutdown, failed, |stream, peer| {
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::warn!(%peer, service, "the bound of connections is reached: one is refused");
            return;
        };
        settle(&stream, limits.write);
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, peer, router, service, limits, stop).await;
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
    service: &'static str,
    limits: ServeLimits,
    stop: CancellationToken,
) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read)
        .max_buf_size(limits.head.max(MIN_HEAD))
        .serve_connection(TokioIo::new(stream), answer);
    let mut serving = std::pin::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, service, "a connection ended");
    }
}
