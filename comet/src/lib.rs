//! The push gateway: it holds many client connections and delivers messages to them by key, by room, or to all.
//!
//! # Layout
//!
//! A message comes in by [`push`], goes to the [`bucket`]s of its receivers, and from there to their [`channel`]s. A client comes
//! in by a [`transport`]; [`connection`] joins that with a [`session`] and a channel.
//!
//! - [`server`]: one comet, started and ended; [`config`]: what can be set; `certificates`: those of its doors
//! - [`gateway`]: what all connections share; [`gate`]: who may come in; [`balancers`]: who says who a client is; [`networks`]:
//!   sets of addresses
//! - [`transport`]: bytes to protos and back, one module a door
//! - [`session`]: what a connection may do next, without I/O
//! - [`connection`]: the life of a connection
//! - [`channel`]: a connection as the rest sees it; [`close`]: why it ends; [`drain`]: the end of all
//! - [`bucket`], [`room`]: who is where
//! - [`push`], `grpc`: pushes in
//! - [`logic`], [`operation`]: calls out
//! - [`whitelist`]: users whose every step is noted
//! - [`metrics`], [`clock`], [`round`], `addresses`: counters, coarse time, read buffers, client addresses
//! - `monitor`: what is shown beside the counters

mod addresses;
pub mod balancers;
pub mod bucket;
mod certificates;
pub mod channel;
pub mod clock;
pub mod close;
pub mod config;
pub mod connection;
pub mod drain;
pub mod gate;
pub mod gateway;
mod grpc;
pub mod logic;
pub mod metrics;
mod monitor;
pub mod networks;
pub mod operation;
pub mod push;
pub mod room;
pub mod round;
pub mod server;
pub mod session;
pub mod transport;
pub mod whitelist;

pub use config::Config;
pub use server::Comet;
