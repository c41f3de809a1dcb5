//! Before the first byte of a client's own: whether it may come in, and who it is, where a balancer stands between.

use std::{net::SocketAddr, sync::Arc};

use protocol::proxy::{ProxyError, Step, step};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    gate::{Presence, Refused},
    gateway::Gateway,
    transport::Door,
};

/// Bytes of a refused request that are read and thrown away, so that its answer is not lost in a reset.
const MAX_DISCARDED: u64 = 64 << 10;

/// Why a connection ends before its client has said anything.
#[derive(Debug, Error)]
pub(super) enum NoArrival {
    /// There are too many.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A balancer's header is none, or did not come in time.
    #[error("no PROXY header: {0}")]
    Header(#[from] HeaderError),
    /// The doors were closed before a balancer said anything.
    #[error("nobody comes in any more")]
    GoingAway,
}

/// Why a balancer has not said who its client is. The balancer is at fault, or the configuration.
#[derive(Debug, Error)]
pub(super) enum HeaderError {
    #[error(transparent)]
    Malformed(#[from] ProxyError),
    #[error("it did not come in time")]
    Late,
    #[error("the connection ended: {0}")]
    Lost(#[from] std::io::Error),
}

/// Lets a connection in, and counts it for its address unless that is a balancer's.
pub(super) fn enter(gateway: &Gateway, door: Door, peer: SocketAddr) -> Result<Presence, Refused> {
    let mut presence = gateway.gate.enter(door)?;
    if !gateway.balancers.include(peer.ip()) {
        presence.take(gateway.gate.claim(peer.ip())?);
    }
    Ok(presence)
}

/// Who is at the other end: the peer itself, or the client of which the balancer there says that it is, by `deadline`. Of what
/// comes behind the balancer's header nothing is read.
pub(super) async fn client(
    gateway: &Gateway,
    stream: &mut TcpStream,
    peer: SocketAddr,
    presence: &mut Presence,
    deadline: Instant,
) -> Result<SocketAddr, NoArrival> {
    let Some(max) = gateway.balancers.proxy_header(peer.ip()) else {
        return Ok(peer);
    };
    let reading = timeout_at(deadline, read_header(stream, max));
    let read = gateway.doors.run_until_cancelled(reading).await;
    let said = read.ok_or(NoArrival::GoingAway)?;
    let said = said.unwrap_or(Err(HeaderError::Late));
    let Some(client) = said.inspect_err(|error| {
        tracing::debug!(%peer, %error, "a balancer does not say who its client is");
        gateway.metrics.refused_connections("proxy_header").inc();
    })?
    else {
        return Ok(peer);
    };
    presence.take(gateway.gate.claim(client.ip())?);
    Ok(client)
}

/// Answers the request of a connection that is refused, and closes it. It may take as long as any that is closed.
pub(super) async fn turn_away(
    gateway: Arc<Gateway>,
    mut stream: TcpStream,
    refused: Refused,
    _permit: OwnedSemaphorePermit,
) {
    let answering = async {
        // A client may take an answer before its request for no answer.
        stream.readable().await?;
        stream.write_all(refused.http().as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_DISCARDED), &mut tokio::io::sink()).await
    };
    // Whether the client listened to the end is its own affair.
    let _ = timeout(gateway.protocol.close_timeout.get(), answering).await;
}

async fn read_header(
    stream: &mut TcpStream,
    max: usize,
) -> Result<Option<SocketAddr>, HeaderError> {
    let mut header = Vec::new();
    loop {
        match step(&header, max)? {
            Step::Done(client) => return Ok(client),
            Step::More(count) => {
                let at = header.len();
                header.resize(at + count, 0);
                stream.read_exact(&mut header[at..]).await?;
            }
        }
    }
}
