//! Room ids. goim composes them of a type and a room: `live://1000`.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The name of a room: `type://room` where goim's HTTP API made it, any text where a client chose it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

/// Why bytes are no room id: whoever sent them is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoomIdError {
    /// The name is longer than allowed.
    #[error("a room id of {len} bytes is over the limit of {max}")]
    TooLong {
        /// Bytes.
        len: usize,
        /// Bytes.
        max: usize,
    },
    /// The name is not UTF-8.
    #[error("the room id is not UTF-8")]
    NotUtf8,
    /// An empty name is no room.
    #[error("the room id is empty")]
    Empty,
}

impl RoomId {
    /// The id of `room` among the rooms of type `kind`, as goim writes it.
    pub fn new(kind: &str, room: &str) -> Self {
        Self(format!("{kind}://{room}").into())
    }

    /// Takes a room id from a peer, of at most `max` bytes.
    pub fn from_bytes(bytes: &[u8], max: usize) -> Result<Self, RoomIdError> {
        if bytes.is_empty() {
            return Err(RoomIdError::Empty);
        }
        if bytes.len() > max {
            return Err(RoomIdError::TooLong {
                len: bytes.len(),
                max,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RoomIdError::NotUtf8)?;
        Ok(Self(text.into()))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type and the room, where the id has goim's form.
    pub fn split(&self) -> Option<(&str, &str)> {
        self.0.split_once("://")
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        &self.0
    }
}
