//! Two comets, two logic-stubs and a Redis, each a process of its own, and everything that may be away.
//!
//! A test has the machine to itself: [`Cluster::start`] waits for its turn. What a fault does to messages is seen by
//! [`Traffic`]: a pusher at each logic-stub numbers its messages to a room, and clients that stay connected at both comets
//! check that the numbers rise. Times and losses are printed: `cargo test -p standalone --test cluster -- --nocapture`.
//!
//! # Layout
//!
//! - [`chaos`]: all faults, one after the other, with thousands of clients; by hand, `make chaos`
//! - [`pushes`]: without faults; [`comets`], [`logics`], [`redis`], [`partition`]: with those of one part; [`queue`]: the same
//!   with pushes that are stored; [`cost`]: what storing them takes
//! - [`harness`]: the processes, the ways between them, pushers and clients

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "all of it is test code, and what is public here is so for the modules beside it"
)]

mod chaos;
mod comets;
mod cost;
mod harness;
mod logics;
mod partition;
mod pushes;
mod queue;
mod redis;
#[path = "../support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the rest is for the tests of one process"
)]
mod support;
