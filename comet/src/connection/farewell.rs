//! Closing a connection so that its client can read why: everything that is still to be said is written, then our side is shut,
//! and what the client still sends is read and thrown away, since a socket that is closed with unread bytes resets the
//! connection and takes what was sent with it.

use std::{future::poll_fn, io, net::Shutdown};

use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{channel::Channel, close::CloseReason, config};

/// Says the last words, within the configured time, and ends the channel.
pub(super) async fn say(config: &config::Protocol, channel: &Channel) {
    let deadline = Instant::now() + config.close_timeout.get();
    let closing = async {
        poll_fn(|cx| channel.poll_flushed(cx)).await?;
        match channel.socket() {
            // A client that closed sends nothing more, and waits for us to close (RFC 6455 section 7.1.1).
            Some(socket) if channel.closing() != Some(CloseReason::PeerClosed) => {
                linger(socket, config.linger_bytes).await
            }
            _ => Ok(()),
        }
    };
    // Whether the client listened to the end, or failed to, is its own affair.
    let _ = timeout_at(deadline, closing).await;
    channel.finish();
}

/// Shuts our side and waits for the client's, reading at most `limit` bytes.
pub(super) async fn linger(socket: &TcpStream, limit: usize) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)?;
    let mut waste = [0; 1024];
    let mut read = 0;
    while read < limit {
        socket.readable().await?;
        match socket.try_read(&mut waste) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
