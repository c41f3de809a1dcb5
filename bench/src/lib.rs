//! Measures any server that speaks goim's protocol, from outside: `comet-bench`.
//!
//! # Layout
//!
//! - [`doors`]: how frames come over TCP and WebSocket
//! - [`clients`]: the connections, on threads of their own that cost little
//! - [`pusher`]: pushes over gRPC, at a rate or with a window
//! - [`scenario`]: what is measured
//! - [`million`]: many comets and many processes of clients
//! - [`limit`]: the bare loop of `send()` that results stand beside
//! - [`logic`]: a minimal logic, for servers that need one
//! - [`server`]: where the server is, or how it is started
//! - [`measure`]: CPU time, memory, clocks
//! - [`files`]: as many connections as the system allows
//! - [`report`]: tables, JSON, curves
//! - [`cli`]: the command line

pub mod cli;
pub mod clients;
pub mod doors;
pub mod files;
pub mod limit;
pub mod logic;
pub mod measure;
pub mod million;
pub mod pusher;
pub mod report;
pub mod scenario;
pub mod server;

/// The operation of the messages that are pushed.
pub const DATA: i32 = 1000;

/// Bytes at the start of each body: where a message stands in its stream, and when it was sent.
pub const MARK_LEN: usize = 16;
