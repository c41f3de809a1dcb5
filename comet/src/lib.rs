//! The push gateway.

pub mod transport;
