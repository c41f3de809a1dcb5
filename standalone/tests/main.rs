//! Comet from end to end: both services on real sockets, clients through both doors, pushers over HTTP and gRPC.
//!
//! # Layout
//!
//! - [`operations`]: what a client may ask for; [`pushes`]: every kind of push; [`doors`]: through every door
//! - [`identity`]: one key, several connections; [`kicks`]: connections that are closed from outside; [`drains`], [`exodus`]:
//!   comets that end
//! - [`order`], [`rooms`]: what holds under load and in races
//! - [`slow`], [`memory`]: clients that do not read
//! - [`hostile`], [`handshake`]: clients that do what they must not
//! - [`polls`], [`events`]: long-poll and Server-Sent Events; [`browsers`]: what pages of other sites may of them
//! - [`push_api`]: goim's HTTP API; [`lanes`]: the way behind it; [`page_origin`]: who may push through the page's port
//! - [`tokens`], [`mutual`]: services and pushers that show who they are; [`jwt`]: clients that do
//! - [`monitor`]: health and metrics of both; [`whitelist`]: users whose every step is noted
//! - [`foreign`], [`binary`]: clients of other languages, the page, the program itself
//! - [`goims_peers`]: goim's services on the other side
//! - [`deploy`]: the manifests; [`monitoring`]: the alerts and the dashboard
//! - [`support`]: servers, clients and pushers for all of them

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "all of it is test code, and what is public here is so for the modules beside it"
)]

mod binary;
mod browsers;
mod deploy;
mod doors;
mod drains;
mod events;
mod exodus;
mod foreign;
mod goims_peers;
mod handshake;
mod hostile;
mod identity;
mod jwt;
mod kicks;
mod lanes;
mod memory;
mod monitor;
mod monitoring;
mod mutual;
mod operations;
mod order;
mod page_origin;
mod polls;
mod push_api;
mod pushes;
mod rooms;
mod slow;
mod support;
mod tokens;
mod whitelist;
