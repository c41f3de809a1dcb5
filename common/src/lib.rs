//! What every service of this project needs and none is about.
//!
//! # Layout
//!
//! - [`config`]: one loader for all programs: TOML file, then environment, then `--set`
//! - [`listen`]: addresses, listening sockets, exposure of unauthenticated services, the accept loop
//! - [`tls`]: certificates by name, read again when they change
//! - [`ends`]: until when certificates are valid, as a metric
//! - [`incoming`]: a gRPC server's connections, bounded in number
//! - [`watched`]: files that are read again when they change
//! - [`bearer`]: tokens between services; [`mutual`]: TLS between them, with certificates on both sides
//! - [`telemetry`]: logs, as text on a terminal and as JSON otherwise
//! - [`shutdown`]: signals as a cancellation token
//! - [`backoff`]: growing, jittered delays between attempts
//! - [`same_site`]: whether a request comes from another site's page
//! - [`serve`]: an HTTP service, its connections bounded
//! - [`monitor`]: health, readiness and metrics of a service; [`metrics`]: what these are made of
//! - [`readiness`]: named latches that say whether a process is ready; [`health`]: who is told
//! - [`version`]: what `--version` says

pub mod backoff;
pub mod bearer;
pub mod config;
pub mod ends;
pub mod files;
pub mod health;
pub mod incoming;
pub mod listen;
pub mod metrics;
pub mod monitor;
pub mod mutual;
pub mod readiness;
pub mod same_site;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod version;
pub mod watched;

mod follow;
mod nearest;
