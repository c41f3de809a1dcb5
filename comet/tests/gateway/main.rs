//! One comet alone, over real sockets, with a logic that does what the test says.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "all of it is test code"
)]

mod balancers;
mod bounds;
mod client;
mod connector;
mod flash;
mod goim;
mod half_open;
mod lanes;
mod limits;
mod logic_away;
mod monitor;
mod origins;
mod register;
mod shutdown;
mod slow_logic;
mod subscription;
mod support;
mod tls;
mod tokens;
