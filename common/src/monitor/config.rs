//! What can be set of a monitor.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::{Checks, Human, Validate},
    listen::parse_bind,
};

/// `monitor`: health, readiness and metrics, on `PORT` unless it is told otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// Without `bound`, serde looks for one of its own and does not know constants.
#[serde(default, deny_unknown_fields, rename_all = "camelCase", bound = "")]
pub struct Config<const PORT: u16> {
    /// Whether there is a monitor.
    pub open: bool,
    /// Where it listens.
    pub addrs: Vec<String>,
    /// Whether it may listen beyond loopback although it asks nobody who they are.
    pub allow_unauthenticated: bool,
    /// Connections at once: a few of Prometheus, of probes and of people.
    pub max_connections: usize,
    /// Longest time for a request, and for which a peer may take nothing of an answer. Prometheus asks every minute at most, and
    /// keeps its connection between.
    pub timeout: Human,
}

impl<const PORT: u16> Default for Config<PORT> {
    fn default() -> Self {
        Self {
            open: true,
            addrs: vec![format!(":{PORT}")],
            allow_unauthenticated: false,
            max_connections: 64,
            timeout: Human::secs(90),
        }
    }
}

impl<const PORT: u16> Validate for Config<PORT> {
    /// Keys are those within the section.
    fn validate(&self, checks: &mut Checks) {
        for addr in &self.addrs {
            checks.that("addrs", addr, parse_bind(addr).is_ok(), "[host]:port");
        }
        checks.range("maxConnections", self.max_connections, 1..=65_536);
        let (least, most) = (Duration::from_millis(1), Duration::from_hours(1));
        checks.duration("timeout", self.timeout, least..=most);
    }
}
