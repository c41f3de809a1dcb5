//! What is pushed, and to whom.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{HEADER_LEN, Header, MessageId, Position, RoomId};

/// What a key takes beside its bytes.
const KEY_OVERHEAD: usize = size_of::<String>();

/// A message for clients, encoded once for all comets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its name in receipts and logs.
    pub id: MessageId,
    /// The operation under which clients get it.
    pub operation: i32,
    /// Where it stands in a queue; without one, lanes give it a place of their own.
    pub(crate) position: Option<Arc<Position>>,
    frame: Bytes,
}

/// Whom a push is for, as its pusher says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// The connections of these names.
    Keys(Vec<String>),
    /// All connections of these users.
    Mids(Vec<i64>),
    /// All connections of a room.
    Room(RoomId),
    /// All connections.
    Everyone {
        /// Connections a second over all comets; 0 for as fast as it goes.
        speed: i32,
    },
}

/// Whom a message is for, at one comet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// These connections, if they accept the operation.
    Keys(Vec<String>),
    /// All connections of a room.
    Room(RoomId),
    /// All connections that accept the operation.
    Everyone {
        /// Connections a second at this comet; 0 is as fast as it goes.
        speed: i32,
    },
}

impl Message {
    /// A message of `body` under `operation`.
    pub fn new(operation: i32, body: &[u8]) -> Self {
        Self::of(
            MessageId(uuid::Uuid::now_v7().into_bytes()),
            operation,
            body,
        )
    }

    /// A message that has a name and a place already.
    pub(crate) fn stored(id: MessageId, operation: i32, body: &[u8], position: Position) -> Self {
        let position = Some(Arc::new(position));
        Self {
            position,
            ..Self::of(id, operation, body)
        }
    }

    fn of(id: MessageId, operation: i32, body: &[u8]) -> Self {
        let mut frame = Vec::new();
        Header::push(operation).encode(body, &mut frame);
        Self {
            id,
            operation,
            position: None,
            frame: frame.into(),
        }
    }

    /// The frame that clients get.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// What the pusher said.
    pub fn body(&self) -> Bytes {
        self.frame.slice(HEADER_LEN..)
    }

    /// Bytes of that.
    pub(crate) fn body_len(&self) -> usize {
        self.frame.len() - HEADER_LEN
    }
}

impl Whom {
    /// Which kind it is, in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::Mids(_) => "mids",
            Self::Room(_) => "room",
            Self::Everyone { .. } => "all",
        }
    }
}

impl Target {
    /// How much it counts for where no connections are counted: its keys, or one.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Keys(keys) => keys.len() as u64,
            Self::Room(_) | Self::Everyone { .. } => 1,
        }
    }

    /// Bytes of its names. A key has a share for its own place in memory and on the wire.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.iter().map(|key| KEY_OVERHEAD + key.len()).sum(),
            Self::Room(room) => room.as_str().len(),
            Self::Everyone { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_goims_frame() {
        let message = Message::new(1000, b"hi");
        let header = [0, 0, 0, 18, 0, 16, 0, 1, 0, 0, 0x03, 0xe8, 0, 0, 0, 0];
        assert_eq!(message.frame()[..], [&header[..], b"hi"].concat());
        assert_eq!(message.body(), "hi");
    }
}
