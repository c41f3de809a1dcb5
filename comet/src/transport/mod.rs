//! Bytes to protos and back, one module a door. Nothing here knows buckets or rooms.

pub mod flash;
pub mod http;
pub mod intake;
pub mod websocket;

use protocol::{Frame, HEADER_LEN, Header, frame};

/// The way by which a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// goim's frames on a TCP stream.
    Tcp,
    /// goim's frames in WebSocket messages.
    WebSocket,
}

impl Door {
    /// The door in metrics and in calls to logic.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
        }
    }

    /// The bytes of a frame for this door.
    pub fn bytes(self, frame: &Frame) -> &[u8] {
        match self {
            Self::Tcp => frame.tcp(),
            Self::WebSocket => frame.websocket(),
        }
    }

    /// Appends one proto as this door sends it.
    pub fn encode(self, header: Header, body: &[u8], out: &mut Vec<u8>) {
        if self == Self::WebSocket {
            frame::put_websocket_header(out, HEADER_LEN + body.len());
        }
        header.encode(body, out);
    }
}
