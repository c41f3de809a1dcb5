//! Accepted connections for the gRPC server, bounded in number, over TLS where it has some.

use std::{
    fmt, io,
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
use tonic::transport::server::Connected;

use crate::{listen::accept_loop, mutual::Acceptor};

/// A stream of connections, at most so many at once: one over the bound is closed.
#[derive(Debug)]
pub struct Incoming {
    accepted: mpsc::Receiver<Peer>,
    _accepting: DropGuard,
}

/// A connection that counts until it is dropped.
pub struct Peer {
    stream: Pin<Box<dyn Duplex>>,
    info: PeerInfo,
    _permit: OwnedSemaphorePermit,
}

/// What is known of a peer. It is in the extensions of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerInfo {
    /// Where it calls from.
    pub address: SocketAddr,
    /// Whether it has shown a certificate that one of the server's authorities has signed.
    pub is_certified: bool,
}

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

impl Incoming {
    /// Accepts at most `max` connections at once, over TLS if there is an `acceptor`; `on_failed` is told of each handshake that
    /// fails. `stuck`: a peer that takes nothing of what it is sent for so long is gone.
    pub fn new(
        listener: TcpListener,
        max: usize,
        stuck: Duration,
        acceptor: Option<Acceptor>,
        on_failed: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Self {
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
                let Some(acceptor) = acceptor.clone() else {
                    drop(hand_over.try_send(Peer::plain(stream, address, permit)));
                    return;
                };
                let (hand_over, on_failed) = (hand_over.clone(), on_failed.clone());
                tokio::spawn(async move {
                    let accepting = Peer::over_tls(&acceptor, stream, address, permit);
                    match unless_closed(&hand_over, accepting).await {
                        None => {}
                        Some(Ok(peer)) => drop(hand_over.try_send(peer)),
                        Some(Err(error)) => {
                            tracing::debug!(%address, %error, "a caller's handshake failed");
                            on_failed();
                        }
                    }
                });
            },
        ));
        Self {
            accepted,
            _accepting: accepting,
        }
    }
}

impl Peer {
    fn plain(stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        Self {
            stream: Box::pin(stream),
            info: PeerInfo {
                address,
                is_certified: false,
            },
            _permit: permit,
        }
    }

    async fn over_tls(
        acceptor: &Acceptor,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        let stream = acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let is_certified = session.peer_certificates().is_some();
        Ok(Self {
            stream: Box::pin(stream),
            info: PeerInfo {
                address,
                is_certified,
            },
            _permit: permit,
        })
    }
}

/// The future's result, or nothing once nobody takes connections any more.
async fn unless_closed<T>(
    hand_over: &mpsc::Sender<Peer>,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        () = hand_over.closed() => None,
        result = future => Some(result),
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
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}
