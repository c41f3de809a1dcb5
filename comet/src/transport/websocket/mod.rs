//! WebSocket (RFC 6455) without I/O: bytes of a client to messages, and the bytes of the frames that answer them.
//!
//! - [`assembler`]: what a client's frames amount to
//! - [`encode`]: the frames of a server
//! - [`error`]: what a client may get wrong, and the code that it is closed with

pub mod assembler;
pub mod encode;
pub mod error;
mod mask;
mod partial;

pub use assembler::{Assembler, CloseFrame, Incoming, Kind, Payload};
pub use encode::{close_frame, message, pong};
pub use error::WebSocketError;
