//! The TLS handshake of a connection, under the deadline of its login.

use std::net::SocketAddr;

use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::farewell;
use crate::{
    gateway::Gateway,
    transport::{
        Door,
        stream::Stream,
        tls::{Acceptor, Failed},
    },
};

/// The door as it is with TLS, if there is TLS.
pub(super) fn door(door: Door, tls: Option<&Acceptor>) -> Door {
    if tls.is_some() { door.secured() } else { door }
}

/// Does the handshake, if there is TLS. `None`: the connection has ended, which is counted.
pub(super) async fn begin(
    gateway: &Gateway,
    tls: Option<Acceptor>,
    socket: TcpStream,
    client: SocketAddr,
    deadline: Instant,
) -> Option<Stream> {
    let Some(tls) = tls else {
        return Some(socket.into());
    };
    let accepting = timeout_at(deadline, tls.accept(socket));
    // As long as the doors are open, even those who are turned away hear of it behind TLS.
    let accepted = gateway.doors.run_until_cancelled(accepting).await;
    let result = match accepted {
        None => "going_away",
        Some(Err(_)) => "timeout",
        Some(Ok(Ok(stream))) => {
            gateway.metrics.tls_handshakes("ok").inc();
            return Some(stream.into());
        }
        Some(Ok(Err(Failed { socket, error }))) => {
            tracing::debug!(%client, %error, "a TLS handshake fails");
            gateway.metrics.tls_handshakes(error.label()).inc();
            // So that the alert is not lost in a reset.
            let lingering = farewell::linger(&socket, gateway.protocol.linger_bytes);
            let _ = timeout(gateway.protocol.close_timeout.get(), lingering).await;
            return None;
        }
    };
    gateway.metrics.tls_handshakes(result).inc();
    None
}
