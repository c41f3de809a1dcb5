//! HTTP on one connection, until it is upgraded to WebSocket or ends. Long-poll and Server-Sent Events are plain requests.
//!
//! hyper speaks HTTP/1 and is gone, with its buffers, before the WebSocket begins: what is left of it are the bytes that
//! came behind the handshake.

pub mod origins;
mod patient;
pub mod subscribe;
mod upgrade;
mod visit;

use std::{future::poll_fn, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use http::HeaderMap;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::upgrade::{PATH, Refusal, cookie};
use self::{
    origins::Origins,
    patient::Patient,
    subscribe::Subscribe,
    visit::{Visit, Visitor},
};
use super::stream::Stream;
use crate::gate::{Claim, Refused};

/// The smallest limit for a head that hyper can keep, in bytes.
pub const MIN_MAX_HEAD: usize = 8192;

/// Judges whether a client may come in, and says who it is. Is given the request's headers, and who is at the other end.
pub type Admit = dyn Fn(&HeaderMap, SocketAddr) -> Result<Admitted, Refused> + Send + Sync;

/// A client that may come in.
#[derive(Debug)]
pub struct Admitted {
    /// Who it is.
    pub client: SocketAddr,
    /// Its place among those of its address, where it is another than that at the other end.
    pub claim: Option<Claim>,
}

/// Bytes that are read and thrown away before a connection is closed, so that the last answer is not lost with it.
const MAX_DISCARDED: u64 = 64 * 1024;

/// The HTTP door: what all of its connections share.
#[derive(Clone)]
pub struct Door {
    /// What is served on every path but [`PATH`].
    pub pages: Router,
    /// Who answers on [`PATH`] where no WebSocket is asked for, if anyone does.
    pub subscribe: Option<Subscribe>,
    /// What a client may ask for.
    pub limits: HttpLimits,
    /// Whose pages may connect.
    pub origins: Origins,
    /// Judges each good handshake.
    pub admit: Arc<Admit>,
    /// Ends connections when they have had the answer that they wait for.
    pub shutdown: CancellationToken,
    /// Is told of each request that is refused. What ends a connection is in [`HttpError`].
    pub on_refused: Arc<dyn Fn(Refusal) + Send + Sync>,
}

/// Bounds of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a request's line and headers; below [`MIN_MAX_HEAD`] it is taken for that. Bounds the answers that wait to
    /// be written, too.
    pub max_head: usize,
    /// Headers of a request.
    pub max_headers: usize,
    /// From one answer until the next request is there; also how long a client may refuse to take an answer.
    pub idle: Duration,
    /// How long a connection that is being closed may go on sending.
    pub linger: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_head: MIN_MAX_HEAD,
            max_headers: 64,
            idle: Duration::from_mins(1),
            linger: Duration::from_secs(1),
        }
    }
}

/// A connection that speaks WebSocket from now on: the handshake's answer has been written.
#[derive(Debug)]
pub struct Upgraded {
    /// The connection.
    pub stream: Stream,
    /// What came behind the handshake: at most [`HttpLimits::max_head`], and behind TLS as much as came with it.
    pub early: Bytes,
    /// Who the client is.
    pub admitted: Admitted,
    /// The handshake's `Cookie` header, or nothing.
    pub cookie: String,
    /// The end of the login: the deadline that [`Door::serve`] was given. After plain requests on the same connection it
    /// is moved by as long as they took.
    pub deadline: Instant,
}

/// How a connection went that nobody is to blame for.
#[derive(Debug)]
pub enum Outcome {
    /// It is a WebSocket now.
    Upgraded(Upgraded),
    /// It was plain HTTP and has ended.
    Ended,
}

/// Why HTTP ended before its time. The client is at fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The deadline passed.
    #[error("no complete request came in time")]
    NoRequest,
    /// The client was told 431 or 414.
    #[error("the head of a request is over the limit")]
    HeadTooLarge,
    /// The client was told 400, if what it speaks is HTTP at all.
    #[error("malformed request: {0}")]
    Malformed(#[source] hyper::Error),
    /// The client does not read.
    #[error("the client does not take its answer")]
    Stalled,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[source] hyper::Error),
}

impl Door {
    /// Serves plain HTTP on one connection until it is upgraded on [`PATH`], or ends.
    ///
    /// The first request must be complete by `deadline`.
    pub async fn serve(
        &self,
        stream: impl Into<Stream>,
        peer: SocketAddr,
        deadline: Instant,
    ) -> Result<Outcome, HttpError> {
        let visit = Visit::new(deadline);
        let io = Patient::new(stream.into(), self.limits.idle);
        let mut connection = self.http().serve_connection(
            io,
            Visitor {
                door: self,
                visit: &visit,
                peer,
            },
        );
        let ended = self.drive(&mut connection, &visit).await;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        let accepted = visit.take_accepted().filter(|_| ended.is_ok());
        if let Some((admitted, cookie, deadline)) = accepted {
            // A copy, so that the buffer of hyper is not kept for a few bytes.
            let early = [&parts.read_buf[..], &stream.take_unread()].concat();
            return Ok(Outcome::Upgraded(Upgraded {
                stream,
                early: early.into(),
                admitted,
                cookie,
                deadline,
            }));
        }
        if !matches!(ended, Err(HttpError::Stalled | HttpError::Lost(_))) {
            self.close(stream).await;
        }
        ended.map(|()| Outcome::Ended)
    }

    fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .max_buf_size(self.limits.max_head.max(MIN_MAX_HEAD))
            .max_headers(self.limits.max_headers)
            .header_read_timeout(self.limits.idle);
        http
    }

    /// Runs hyper until the connection is upgraded, at its end, or in error.
    async fn drive(
        &self,
        connection: &mut http1::Connection<Patient, Visitor<'_>>,
        visit: &Visit,
    ) -> Result<(), HttpError> {
        let mut stopping = false;
        let mut first = true;
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    stop(connection);
                }
                end = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                    return end.or_else(|error| fault(error, visit));
                }
                () = sleep_until(visit.deadline()), if first => {
                    if visit.is_first() {
                        return Err(HttpError::NoRequest);
                    }
                    first = false;
                }
            }
        }
    }

    /// Closes without a reset, which would take the last answer from the client.
    async fn close(&self, mut stream: Stream) {
        let goodbye = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(MAX_DISCARDED), &mut tokio::io::sink()).await
        };
        // Whether the client listened to the end is its own affair.
        let _ = timeout(self.limits.linger, goodbye).await;
    }
}

impl Admitted {
    /// Whoever is at the other end.
    pub fn is(client: SocketAddr) -> Self {
        Self {
            client,
            claim: None,
        }
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl HttpError {
    /// The name for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NoRequest => "no_request",
            Self::HeadTooLarge => "head_too_large",
            Self::Malformed(_) => "malformed",
            Self::Stalled => "stalled",
            Self::Lost(_) => "lost",
        }
    }
}

/// Lets the answer that is under way go out, and nothing after it.
fn stop(connection: &mut http1::Connection<Patient, Visitor<'_>>) {
    Pin::new(connection).graceful_shutdown();
}

fn fault(error: hyper::Error, visit: &Visit) -> Result<(), HttpError> {
    Err(if error.is_parse_too_large() {
        HttpError::HeadTooLarge
    } else if error.is_parse() {
        HttpError::Malformed(error)
    } else if patient::is_out_of_patience(&error) {
        HttpError::Stalled
    } else if !error.is_timeout() {
        HttpError::Lost(error)
    } else if visit.is_first() {
        HttpError::NoRequest
    } else {
        return Ok(());
    })
}

#[cfg(test)]
mod tests;
