//! The one place where a push leaves for a comet: by goim's unary calls.

use std::time::Duration;

use protocol::{
    grpc::goim::{
        comet::{BroadcastReq, BroadcastRoomReq, PushMsgReq},
        protocol::Proto,
    },
    op,
};
use thiserror::Error;
use tonic::Status;

use crate::{
    comets::Comet,
    push::{Message, Push, Target},
};

/// Why a comet did not take a push.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Its sessions are there, and it is not.
    #[error("not known")]
    Unknown,
    /// It has no address that can be called.
    #[error("without an address")]
    NoAddress,
    /// It did not answer in time; it may have taken the push.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It cannot be reached, or said no.
    #[error("{code:?}: {message}")]
    Status {
        /// gRPC's code.
        code: tonic::Code,
        /// gRPC's message.
        message: String,
    },
}

impl From<Status> for SendError {
    fn from(status: Status) -> Self {
        Self::Status {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// Hands `push` to `comet` and waits at most `limit` for its word that it was taken.
pub async fn send(comet: &Comet, push: &Push, limit: Duration) -> Result<(), SendError> {
    let mut client = comet.client.clone().ok_or(SendError::NoAddress)?;
    let proto = Some(raw(&push.message));
    let proto_op = push.message.operation;
    let call = async {
        match &push.target {
            Target::Keys(keys) => {
                let request = PushMsgReq {
                    keys: keys.clone(),
                    proto,
                    proto_op,
                };
                client.push_msg(request).await.map(drop)
            }
            Target::Room(room) => {
                let request = BroadcastRoomReq {
                    room_id: room.as_str().to_owned(),
                    proto,
                };
                client.broadcast_room(request).await.map(drop)
            }
            Target::Everyone { speed } => {
                let request = BroadcastReq {
                    proto_op,
                    proto,
                    speed: *speed,
                };
                client.broadcast(request).await.map(drop)
            }
        }
    };
    match tokio::time::timeout(limit, call).await {
        Ok(answered) => answered.map_err(SendError::from),
        Err(_) => Err(SendError::TimedOut(limit)),
    }
}

/// As goim's job sends it: the frame for the client inside of a Raw.
fn raw(message: &Message) -> Proto {
    Proto {
        ver: 1,
        op: op::RAW,
        seq: 0,
        body: message.frame(),
    }
}
