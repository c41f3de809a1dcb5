//! The policy server of Flash, as goim's: a Flash client asks on a port of its own to which ports it may connect, and is told: to all.

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// What a client asks. A NUL follows, for which nobody waits.
pub const REQUEST: &[u8; 22] = b"<policy-file-request/>";

/// What it is told: goim's bytes.
pub const POLICY: &[u8] = b"<cross-domain-policy><allow-access-from domain=\"*\" to-ports=\"*\" /></cross-domain-policy>\n\0";

/// Bytes that are read and thrown away behind a request, so that the answer is not lost with them.
const MAX_DISCARDED: u64 = 1024;

/// Why a client was not told the policy; it is at fault, if anyone is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FlashError {
    /// There are as many connections as may be.
    #[error("too many connections")]
    Full,
    /// No whole request came in time, or the answer was not taken.
    #[error("not in time")]
    Late,
    /// What came is no request.
    #[error("not a request for a policy")]
    Malformed,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
}

/// The policy server: what all of its connections share.
#[derive(Debug, Clone)]
pub struct Flash {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl Flash {
    /// One with so many connections at once, each of which ends after `timeout`.
    pub fn new(connections: usize, timeout: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections)),
            timeout,
        }
    }

    /// Answers one request, and closes. The connection has its place, if there is one, when this returns.
    pub fn serve(
        &self,
        mut stream: TcpStream,
    ) -> impl Future<Output = Result<(), FlashError>> + Send + use<> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let deadline = Instant::now() + self.timeout;
        async move {
            let _permit = permit.map_err(|_| FlashError::Full)?;
            let answered = timeout_at(deadline, answer(&mut stream)).await;
            answered.unwrap_or(Err(FlashError::Late))?;
            let mut rest = stream.take(MAX_DISCARDED);
            let mut sink = tokio::io::sink();
            let discarding = tokio::io::copy(&mut rest, &mut sink);
            // It has its answer; how it goes away is its own affair.
            let _ = timeout_at(deadline, discarding).await;
            Ok(())
        }
    }
}

async fn answer(stream: &mut TcpStream) -> Result<(), FlashError> {
    let mut request = [0; REQUEST.len()];
    stream.read_exact(&mut request).await?;
    if request != *REQUEST {
        return Err(FlashError::Malformed);
    }
    stream.write_all(POLICY).await?;
    stream.shutdown().await?;
    Ok(())
}

impl FlashError {
    /// The reason in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Late => "late",
            Self::Malformed => "malformed",
            Self::Lost(_) => "lost",
        }
    }
}
