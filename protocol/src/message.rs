//! What identifies a message beyond its bytes, on its whole way from the pusher to the client's door.

use std::{fmt, sync::Arc};

/// The 16 bytes that name a pushed message in receipts, logs and event ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub [u8; 16]);

/// A message's place in an ordered store that may send it more than once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The ordered store, or the part of it, that the number counts in.
    pub stream: String,
    /// Of the store's reader: grows with every change of hands.
    pub epoch: u64,
    /// Grows from message to message.
    pub number: u64,
}

/// What travels with a message's bytes and is on no client's wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// The message's name.
    pub id: MessageId,
    /// Its place, where its pusher keeps one.
    pub position: Option<Arc<Position>>,
}

impl From<MessageId> for Meta {
    fn from(id: MessageId) -> Self {
        Self { id, position: None }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<&[u8]> for MessageId {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}
