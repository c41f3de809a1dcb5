//! Who a client is, where its sessions are, and the way of a push: goim's logic for Comet.
//!
//! # Layout
//!
//! - [`business`]: what a product decides for itself: who may come in, what becomes of messages from clients
//! - [`sessions`]: the store of sessions, leases and room counts, behind one trait
//! - [`comets`]: which comets there are
//! - [`nodes`]: which of them a client should connect to
//! - [`push`]: from keys, mids, a room or everyone to the comets; [`lanes`]: to one of them, in order
//! - [`queue`]: where a push is stored until the comets have answered
//! - [`kick`]: closing connections; [`whitelist`]: having connections noted
//! - [`logic`]: what the services share; [`login`]: what logins mean for the sessions
//! - [`grpc`]: goim's service for comets
//! - [`http`]: goim's API for pushers
//! - [`metrics`]: what is counted; `monitor`: what is shown beside that
//! - [`auth`]: who a client is, by a signed token; [`access`]: who may call
//! - [`config`], [`clock`]: arguments of all that

pub mod access;
pub mod auth;
pub mod business;
pub mod clock;
pub mod comets;
pub mod config;
pub mod grpc;
pub mod http;
pub mod kick;
pub mod lanes;
pub mod logic;
pub mod login;
pub mod metrics;
mod monitor;
pub mod nodes;
pub mod push;
pub mod queue;
mod server;
pub mod sessions;
pub mod whitelist;

pub use business::{Business, GoimBusiness};
pub use config::Config;
pub use server::{Builder, LogicStub, StartError};
