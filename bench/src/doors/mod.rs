//! How goim's frames come over each door. A new door is a variant here: what opens it, how a frame is wrapped for the server, and
//! what lies around the frames that come back.

mod events;
mod frames;
mod json;
mod polls;
mod tls;
mod websocket;

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::{events::EventWalk, polls::PollWalk, websocket::MessageWalk};
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
    /// JSON in Server-Sent Events, on WebSocket's port.
    Sse,
    /// JSON in answers to long polls, on WebSocket's port.
    Poll,
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tcp,
        Self::Websocket,
        Self::TcpTls,
        Self::Wss,
        Self::Sse,
        Self::Poll,
    ];

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

    /// What is sent for a frame. Over Server-Sent Events and long-poll that can only be an Auth.
    pub fn wrap(self, frame: &[u8]) -> Vec<u8> {
        match self {
            Self::Tcp | Self::TcpTls => frame.to_vec(),
            Self::Websocket | Self::Wss => websocket::wrap(frame),
            Self::Sse => events::login(frame),
            Self::Poll => polls::login(frame),
        }
    }

    /// Whether clients send heartbeats. Each poll is one, and a stream has the server's own signs of life.
    pub fn beats(self) -> bool {
        !matches!(self, Self::Sse | Self::Poll)
    }

    /// The walk over what a new connection is sent.
    pub fn walk(self) -> Walk {
        let around = match self {
            Self::Tcp | Self::TcpTls => Around::Nothing,
            Self::Websocket | Self::Wss => Around::Messages(MessageWalk::default()),
            Self::Sse => Around::Events(Box::default()),
            Self::Poll => Around::Polls(Box::default()),
        };
        Walk {
            around,
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
            Self::Sse => "SSE",
            Self::Poll => "long-poll",
        }
    }
}

/// Where a connection stands in what it is sent. Nothing is copied but headers and marks that come in pieces.
#[derive(Debug)]
pub struct Walk {
    around: Around,
    frames: FrameWalk,
}

/// What lies around frames, or takes their place.
#[derive(Debug)]
enum Around {
    Nothing,
    Messages(MessageWalk),
    Events(Box<EventWalk>),
    Polls(Box<PollWalk>),
}

impl Walk {
    /// Goes on over `input` and tells each frame that ends in it, and each header of a Raw.
    ///
    /// After an error nothing that follows can be understood.
    pub fn feed(&mut self, input: &[u8], on: &mut impl FnMut(Seen)) -> Result<(), WalkError> {
        match &mut self.around {
            Around::Nothing => self.frames.feed(input, on),
            Around::Messages(messages) => messages.feed(input, &mut self.frames, on),
            Around::Events(events) => events.feed(input, on),
            Around::Polls(polls) => polls.feed(input, on),
        }
    }

    /// What the server is sent upon what has come, once.
    pub fn take_request(&mut self) -> Option<Vec<u8>> {
        match &mut self.around {
            Around::Polls(polls) => polls.take_request(),
            Around::Nothing | Around::Messages(_) | Around::Events(_) => None,
        }
    }
}
