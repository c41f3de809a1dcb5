//! How goim's frames come over each door. A new door is a variant here: what opens it, how a frame is wrapped for the server, and
//! what lies around the frames that come back.

mod frames;
mod websocket;

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::frames::{FrameWalk, Mark, Seen, WalkError};
use self::websocket::MessageWalk;

/// By which clients come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// goim's frames as they are.
    Tcp,
    /// goim's frames in binary messages.
    Websocket,
}

impl Door {
    /// What is sent before any frame, if the server has to answer it first.
    pub fn hello(self, server: SocketAddr) -> Option<Vec<u8>> {
        match self {
            Self::Tcp => None,
            Self::Websocket => Some(websocket::hello(server)),
        }
    }

    /// How many bytes of `input` the answer to [`Self::hello`] takes; nothing while it has not come whole.
    pub fn welcome(self, input: &[u8]) -> Result<Option<usize>, WalkError> {
        match self {
            Self::Tcp => Ok(Some(0)),
            Self::Websocket => websocket::welcome(input),
        }
    }

    /// What is sent for a frame.
    pub fn wrap(self, frame: &[u8]) -> Vec<u8> {
        match self {
            Self::Tcp => frame.to_vec(),
            Self::Websocket => websocket::wrap(frame),
        }
    }

    /// The walk over what a new connection is sent.
    pub fn walk(self) -> Walk {
        let message = match self {
            Self::Tcp => None,
            Self::Websocket => Some(MessageWalk::default()),
        };
        Walk {
            message,
            frames: FrameWalk::default(),
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Websocket => "WebSocket",
        }
    }
}

/// Where a connection stands in what it is sent. Nothing is copied but headers and marks that come in pieces.
#[derive(Debug)]
pub struct Walk {
    message: Option<MessageWalk>,
    frames: FrameWalk,
}

impl Walk {
    /// Goes on over `input` and tells each frame that ends in it, and each header of a Raw.
    ///
    /// After an error nothing that follows can be understood.
    pub fn feed(&mut self, input: &[u8], on: &mut impl FnMut(Seen)) -> Result<(), WalkError> {
        match &mut self.message {
            None => self.frames.feed(input, on),
            Some(message) => message.feed(input, &mut self.frames, on),
        }
    }
}
