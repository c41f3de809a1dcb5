//! TLS on a door: the handshake, and bytes to records and back.
//!
//! # Layout
//!
//! - [`Acceptor`]: the handshake, after which there is a [`TlsStream`]
//! - [`TlsStream`]: a socket and its session together, for as long as someone reads and writes it as a stream
//! - [`Session`]: the protocol alone, without a socket; what an online connection keeps

mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::{future::poll_fn, io, sync::Arc};

use rustls::{InvalidMessage, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;

pub use self::{
    session::{RECORD, Session},
    stream::TlsStream,
};

/// Why TLS on a connection failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// What the client sends is no TLS.
    #[error("the client does not speak TLS")]
    NotTls,
    /// No version, cipher or protocol is spoken by both.
    #[error("nothing that both speak: {0}")]
    Incompatible(rustls::Error),
    /// The client does not want to go on, as when it does not trust the certificate.
    #[error("the client refuses: {0}")]
    Refused(rustls::Error),
    /// The client breaks the protocol.
    #[error("a violation of TLS: {0}")]
    Violation(rustls::Error),
    /// A record or a message of the handshake is longer than any may be.
    #[error("a record or handshake message without end")]
    TooLong,
    /// The client went.
    #[error("the client closed the connection")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection whose handshake failed.
#[derive(Debug)]
pub struct Failed {
    /// The client was told why, if it can be told.
    pub socket: TcpStream,
    /// Why.
    pub error: TlsError,
}

/// Accepts TLS on connections.
#[derive(Debug, Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// For connections of this kind.
    pub fn new(config: ServerConfig) -> Self {
        Self {
            config: Arc::new(config),
        }
    }

    /// Does the handshake. It has no time limit of its own.
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsStream, Failed> {
        let session = match Session::new(Arc::clone(&self.config)) {
            Ok(session) => Box::new(session),
            Err(error) => return Err(Failed { socket, error }),
        };
        let mut stream = TlsStream::new(socket, session);
        match poll_fn(|cx| stream.poll_handshake(cx)).await {
            Ok(()) => Ok(stream),
            Err(error) => Err(Failed {
                socket: stream.into_socket(),
                error,
            }),
        }
    }
}

impl TlsError {
    /// The name for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Incompatible(_) => "incompatible",
            Self::Refused(_) => "refused",
            Self::Violation(_) | Self::TooLong => "violation",
            Self::Closed => "closed",
            Self::Io(_) => "lost",
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
                Self::Incompatible(error)
            }
            rustls::Error::AlertReceived(_) => Self::Refused(error),
            error => Self::Violation(error),
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => error,
            error => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
