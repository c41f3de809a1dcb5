//! How goim's frames come over each door. A new door is a variant here: what opens it, how a frame is wrapped for the server, and
//! what lies around the frames that come back.

mod frames;
mod tls;
mod websocket;

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::websocket::MessageWalk;
pub use self::{
    frames::{FrameWalk, Mark, Seen, WalkError},
    tls::Tls,
};

/// By which clients come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// goim's frames as they are.
    Tcp,
    /// goim's frames in binary messages.
    Websocket,
    /// As `tcp`, behind TLS.
    TcpTls,
    /// As `websocket`, behind TLS.
    Wss,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Websocket, Self::TcpTls, Self::Wss];

    /// Whether it is behind TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::TcpTls | Self::Wss)
    }

    /// Whether frames are in WebSocket messages.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Websocket | Self::Wss)
    }

    /// What is sent before any frame, if the server has to answer it first.
    pub fn hello(self, server: SocketAddr) -> Option<Vec<u8>> {
        self.is_websocket().then(|| websocket::hello(server))
    }

    /// How many bytes of `input` the answer to [`Self::hello`] takes; nothing while it has not come whole.
    pub fn welcome(self, input: &[u8]) -> Result<Option<usize>, WalkError> {
        if self.is_websocket() {
            websocket::welcome(input)
        } else {
            Ok(Some(0))
        }
    }

    /// What is sent for a frame.
    pub fn wrap(self, frame: &[u8]) -> Vec<u8> {
        if self.is_websocket() {
            websocket::wrap(frame)
        } else {
            frame.to_vec()
        }
    }

    /// The walk over what a new connection is sent.
    pub fn walk(self) -> Walk {
        Walk {
            message: self.is_websocket().then(MessageWalk::default),
            frames: FrameWalk::default(),
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Websocket => "WebSocket",
            Self::TcpTls => "TCP TLS",
            Self::Wss => "WSS",
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
