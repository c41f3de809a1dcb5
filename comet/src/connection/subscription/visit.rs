//! Requests for a session, and what they get.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Header;
use tokio::sync::{mpsc, oneshot};

use super::{SessionId, held::Parcel};
use crate::{close::Farewell, gate::Refused};

/// Where the outcome of a request goes.
pub(super) type Reply = oneshot::Sender<Result<Outcome, Rejection>>;

/// A request for a session.
#[derive(Debug)]
pub(super) enum Visit {
    /// Everything that came after `ack`; if nothing has, as soon as something does.
    Poll { ack: u64, reply: Reply },
    /// goim 1's: one proto, and the session's end.
    Once { reply: Reply },
    /// Everything that came after a number, and will come, as events.
    Stream { after: u64, reply: Reply },
    /// A proto from the client.
    Send {
        header: Header,
        body: Bytes,
        reply: Reply,
    },
}

/// What a request gets.
#[derive(Debug)]
pub(super) enum Outcome {
    /// What came, possibly nothing.
    Answer(Answer),
    /// One proto; nothing came in time without one.
    One(Option<(Header, Vec<u8>)>),
    /// Events.
    Stream(mpsc::Receiver<Bytes>),
    /// It is done, or under way.
    Taken,
}

/// What came, and of whom.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: SessionId,
    pub(super) key: Arc<str>,
    pub(super) mid: i64,
    pub(super) parcel: Parcel,
    pub(super) last: u64,
    pub(super) online: u32,
}

/// Why a request gets nothing.
#[derive(Debug)]
pub(super) enum Rejection {
    /// The login failed, or the request has ended the session.
    Closed(Farewell),
    /// A newer request of the session came.
    Superseded,
    /// It acknowledges what was never sent.
    BadAck,
    /// There are as many sessions as may be.
    Full,
    /// There are as many connections as may be, or too many new ones.
    Limit(Refused),
    /// There is neither a session to go on with nor a token.
    NoToken,
    /// As many answers are owed as may be.
    RingFull,
    /// The client has sent too much for a second.
    TooFast,
    /// The session has ended. `stay_away`: and its client is not to come back by itself.
    Over { stay_away: bool },
}

/// The request that gets what comes.
#[derive(Debug)]
pub(super) enum Attached {
    Nobody,
    Poll(Reply),
    Once(Reply),
    Stream(Stream),
}

/// The way to a stream's HTTP connection, which holds one chunk.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sink: mpsc::Sender<Bytes>,
    /// Whether the writer has accepted the last chunk.
    pub(super) is_free: bool,
    /// The number of the last proto that was sent.
    pub(super) sent: u64,
}

/// What becomes of the request that is attached.
pub(super) enum Change {
    /// Its client has gone.
    Gone,
    /// The writer has accepted the last chunk.
    Free,
}

impl Attached {
    /// Whether it can be given something now.
    pub(super) fn wants(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::Poll(_) | Self::Once(_) => true,
            Self::Stream(stream) => stream.is_free,
        }
    }

    /// Waits until its client goes, or can be given more.
    pub(super) async fn change(&mut self) -> Change {
        match self {
            Self::Nobody => std::future::pending().await,
            Self::Poll(reply) | Self::Once(reply) => {
                reply.closed().await;
                Change::Gone
            }
            Self::Stream(Stream {
                sink,
                is_free: true,
                ..
            }) => {
                sink.closed().await;
                Change::Gone
            }
            Self::Stream(stream) => match stream.sink.reserve().await {
                Ok(_) => Change::Free,
                Err(_) => Change::Gone,
            },
        }
    }
}
