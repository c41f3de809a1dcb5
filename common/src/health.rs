//! gRPC's health service: what a process says there of itself, and the question that `--health` asks it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::HealthReporter,
};

use crate::{
    listen::{self, BindAddressError, Callers},
    mutual::Dialer,
    readiness::Readiness,
};

/// The name under which the service says whether the process is ready. Under the empty name it says that it serves.
pub const READY: &str = "ready";

/// For the whole question; a probe from outside should allow more.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a process is not known to be ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The address of the configuration is none.
    #[error(transparent)]
    Address(#[from] BindAddressError),
    /// There is no process, or it hangs.
    #[error("not ready: {addr} does not answer: {why}")]
    Silent {
        /// Where it was asked.
        addr: SocketAddr,
        /// The transport's words.
        why: String,
    },
    /// It says so.
    #[error(
        "not ready: the process at {addr} serves and waits for what it needs; its log says why"
    )]
    Waiting {
        /// Where it was asked.
        addr: SocketAddr,
    },
    /// The question could not be asked.
    #[error(transparent)]
    Runtime(#[from] io::Error),
}

/// Has `reporter` say whether the process is ready, from now on and at each change, until `shutdown`: then it is not.
pub async fn announce(
    readiness: &Readiness,
    reporter: HealthReporter,
    shutdown: CancellationToken,
) {
    let mut changes = readiness.changes();
    say(&reporter, readiness.report().is_ok()).await;
    let readiness = readiness.clone();
    tokio::spawn(async move {
        while let Some(Ok(())) = shutdown.run_until_cancelled(changes.changed()).await {
            say(&reporter, readiness.report().is_ok()).await;
        }
        say(&reporter, false).await;
    });
}

/// Asks the process whose configuration has a gRPC service on `bind` whether it is ready, over TLS if the service has that.
/// Blocks for 3 s at most.
pub fn check(bind: &str, callers: Callers, tls: bool) -> Result<(), NotReady> {
    let (addr, _) = listen::guard(listen::parse_bind(bind)?, callers);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let dialer = if tls {
        Dialer::to_anyone().map_err(io::Error::other)?
    } else {
        Dialer::default()
    };
    runtime.block_on(ask(reachable(addr), &dialer))
}

async fn say(reporter: &HealthReporter, is_ready: bool) {
    let status = if is_ready {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    reporter.set_service_status(READY, status).await;
}

/// A listener on all interfaces is on the loopback one too; one on all of IPv6 takes IPv4.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port())
    } else {
        addr
    }
}

async fn ask(addr: SocketAddr, dialer: &Dialer) -> Result<(), NotReady> {
    let silent = |why: String| NotReady::Silent { addr, why };
    match timeout(PATIENCE, status(addr, dialer)).await {
        Ok(Ok(health_check_response::ServingStatus::Serving)) => Ok(()),
        Ok(Ok(_)) => Err(NotReady::Waiting { addr }),
        Ok(Err(status)) => Err(silent(status.message().to_owned())),
        Err(_) => Err(silent(format!("no answer in {PATIENCE:?}"))),
    }
}

async fn status(
    addr: SocketAddr,
    dialer: &Dialer,
) -> Result<health_check_response::ServingStatus, Status> {
    let unreachable = |error: tonic::transport::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Status::unavailable(cause.unwrap_or_else(|| error.to_string()))
    };
    let endpoint = dialer.endpoint(addr).map_err(unreachable)?;
    let channel = dialer.connect(&endpoint).await.map_err(unreachable)?;
    let request = HealthCheckRequest {
        service: READY.to_owned(),
    };
    let reply = HealthClient::new(channel).check(request).await?;
    Ok(reply.into_inner().status())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;

    use super::*;

    /// Asks again until the answer is as wanted; what is told arrives a moment later.
    async fn becomes(addr: SocketAddr, wanted: impl Fn(&Result<(), NotReady>) -> bool) {
        let asking = async {
            while !wanted(&ask(addr, &Dialer::default()).await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), asking).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_is_ready_while_its_latches_are_and_until_it_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let latch = readiness.latch("store");
        let (reporter, service) = tonic_health::server::health_reporter();
        announce(&readiness, reporter, shutdown.clone()).await;
        let serving = Server::builder().add_service(service);
        let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));

        let waits = |answer: &Result<(), NotReady>| matches!(answer, Err(NotReady::Waiting { .. }));
        assert!(waits(&ask(addr, &Dialer::default()).await));
        latch.ready();
        becomes(addr, Result::is_ok).await;
        latch.not_ready("away");
        becomes(addr, waits).await;
        latch.ready();
        becomes(addr, Result::is_ok).await;
        shutdown.cancel();
        becomes(addr, waits).await;
        serving.abort();
        becomes(addr, |answer| {
            matches!(answer, Err(NotReady::Silent { .. }))
        })
        .await;
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = ask(addr, &Dialer::default()).await.unwrap_err();
        assert!(matches!(answer, NotReady::Silent { .. }), "{answer}");
    }

    #[test]
    fn a_listener_on_all_interfaces_is_asked_on_loopback() {
        for (bound, asked) in [
            ("0.0.0.0:3109", "127.0.0.1:3109"),
            ("[::]:3109", "127.0.0.1:3109"),
            ("10.0.0.11:3109", "10.0.0.11:3109"),
            ("[::1]:3109", "[::1]:3109"),
        ] {
            let addr = reachable(bound.parse().unwrap());
            assert_eq!(addr, asked.parse().unwrap());
        }
    }
}
