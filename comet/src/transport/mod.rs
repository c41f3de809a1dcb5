//! Bytes to protos and back, one module a door. Nothing here knows buckets or rooms.

pub mod flash;
pub mod http;
pub mod intake;
pub mod stream;
pub mod tls;
pub mod websocket;

use protocol::{Frame, HEADER_LEN, Header, frame};

/// The way by which a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// goim's frames on a TCP stream.
    Tcp,
    /// goim's frames in WebSocket messages.
    WebSocket,
    /// As [`Self::Tcp`], behind TLS.
    TcpTls,
    /// As [`Self::WebSocket`], behind TLS.
    Wss,
    /// JSON in answers to long polls.
    Poll,
    /// JSON in Server-Sent Events.
    Sse,
}

impl Door {
    /// The door in metrics and in calls to logic.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::WebSocket => "websocket",
            Self::TcpTls => "tcp_tls",
            Self::Wss => "wss",
            Self::Poll => "poll",
            Self::Sse => "sse",
        }
    }

    /// This door behind TLS.
    #[must_use]
    pub fn secured(self) -> Self {
        match self {
            Self::Tcp | Self::TcpTls => Self::TcpTls,
            Self::WebSocket | Self::Wss => Self::Wss,
            // Sessions, whatever their requests come over.
            Self::Poll | Self::Sse => self,
        }
    }

    /// Whether its bytes are WebSocket messages.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::Wss)
    }

    /// The bytes of a frame for this door. Those that send JSON make it of the protos.
    pub fn bytes(self, frame: &Frame) -> &[u8] {
        if self.is_websocket() {
            frame.websocket()
        } else {
            frame.tcp()
        }
    }

    /// Appends one proto as this door has it.
    pub fn encode(self, header: Header, body: &[u8], out: &mut Vec<u8>) {
        if self.is_websocket() {
            frame::put_websocket_header(out, HEADER_LEN + body.len());
        }
        header.encode(body, out);
    }
}
