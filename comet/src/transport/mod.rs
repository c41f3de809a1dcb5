//! Bytes to protos and back, one module a door.

pub mod http;
pub mod websocket;
