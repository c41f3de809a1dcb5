//! What every service of this project needs and none is about.
//!
//! # Layout
//!
//! - [`config`]: one loader for all programs: TOML file, then environment, then `--set`
//! - [`listen`]: addresses, listening sockets, exposure of unauthenticated services, the accept loop

pub mod config;
pub mod listen;

mod nearest;
