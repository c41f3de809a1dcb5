//! What is on Comet's wires: goim's frame, its operations, the token of a login, room ids, and the gRPC schemas. No I/O
//! and no clock, so that clients, servers and benchmarks share it.
//!
//! # Layout
//!
//! - [`op`]: the operations and their numbers
//! - [`codec`]: the 16-byte header, incremental decoding, encoding
//! - [`frame`]: a message encoded once for TCP and WebSocket, and batches of them
//! - [`message`]: what identifies a message beyond its bytes
//! - [`token`]: the JSON that a client shows to log in
//! - [`room`]: room ids, `type://room`
//! - [`proxy`]: the header by which a balancer says who its client is
//! - [`query`]: what a request for long-poll or Server-Sent Events asks for
//! - [`grpc`]: goim's and this project's gRPC packages

pub mod codec;
pub mod frame;
pub mod grpc;
pub mod message;
pub mod op;
pub mod proxy;
pub mod query;
pub mod room;
pub mod token;

pub use codec::{DecodeError, Decoded, HEADER_LEN, Header};
pub use frame::{Frame, RawError};
pub use message::{MessageId, Meta, Position};
pub use room::RoomId;
pub use token::Token;
