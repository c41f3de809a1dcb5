//! Accepted connections for the gRPC server, bounded in number.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::listen::accept_loop;

/// A stream of connections, at most so many at once: one over the bound is closed.
#[derive(Debug)]
pub struct Incoming {
    accepted: mpsc::Receiver<Peer>,
    _accepting: DropGuard,
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Incoming {
    /// Accepts at most `max` connections at once. `stuck`: a peer that takes nothing of what it is sent for so long is gone.
    pub fn new(listener: TcpListener, max: usize, stuck: Duration) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max));
        // As many places as there are permits: it is never full.
        let (hand_over, accepted) = mpsc::channel(max);
        let stop = CancellationToken::new();
        let accepting = stop.clone().drop_guard();
        let failed =
            |error: &io::Error| tracing::warn!(%error, "accepting a gRPC connection failed");
        tokio::spawn(accept_loop(
            listener,
            stop,
            failed,
            move |stream, address| {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    tracing::warn!(%address, "the bound of gRPC connections is reached: one is refused");
                    return;
                };
                settle(&stream, stuck);
                drop(hand_over.try_send(Peer {
                    stream,
                    address,
                    _permit: permit,
                }));
            },
        ));
        Self {
            accepted,
            _accepting: accepting,
        }
    }
}

/// Ends waiting for a peer that takes nothing for as long as `stuck`, where the system can.
pub fn settle(stream: &TcpStream, stuck: Duration) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(stuck)) {
        tracing::debug!(%error, "a connection was gone at once");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, stuck);
}

impl Stream for Incoming {
    type Item = io::Result<Peer>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted.poll_recv(cx).map(|peer| peer.map(Ok))
    }
}

impl Connected for Peer {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.stream.local_addr().ok(),
            remote_addr: Some(self.address),
        }
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
