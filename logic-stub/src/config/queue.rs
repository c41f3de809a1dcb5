//! `queue`: where pushes are stored until the comets have answered.

use std::time::Duration;

use common::config::{Checks, Human};
use serde::{Deserialize, Serialize};

use super::Config;
use crate::queue::Limits;

/// `queue`: where pushes are stored until the comets have answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Queue {
    /// Whether pushes are stored.
    pub mode: QueueMode,
    /// Streams: as many as share the work. All logic-stubs of one Redis must have the same number.
    pub streams: u16,
    /// Entries in one stream. At 1,000 pushes a second over 32 streams, half an hour of them.
    pub messages: usize,
    /// Bytes in one stream: all 32 together are at most 1 GiB of Redis's memory.
    pub bytes: usize,
    /// Entries of one stream that are under way. While a comet is away, a room of 800 messages a second goes on at the others for
    /// 20 s; four such streams fill its lane.
    pub window: usize,
    /// Replicas of Redis that must have a push before it is answered with code 0: what a fail-over cannot lose then.
    pub replicas: usize,
    /// How long a logic-stub that is dead, or away from Redis, keeps its streams.
    pub lease: Human,
    /// How long a stored message may wait for a comet that is away, or for any: `lanes.retry` of stored messages. Two leases of comets.
    pub retry: Human,
}

/// Whether pushes are stored before they are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueMode {
    /// Where sessions are in Redis.
    #[default]
    Auto,
    /// They are: in Redis, or in this process, which they do not survive.
    Stored,
    /// They go to the lanes at once.
    Direct,
}

impl Config {
    /// The bounds of the queue.
    pub fn queue_limits(&self) -> Limits {
        Limits {
            streams: self.queue.streams,
            messages: self.queue.messages,
            bytes: self.queue.bytes,
            lease: self.queue.lease.get(),
            // Whoever waits for longer is gone.
            replies: self.lanes.report.get() * 2,
            replicas: self.queue.replicas,
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            mode: QueueMode::Auto,
            streams: 32,
            messages: 65_536,
            bytes: 32 << 20,
            window: 16_384,
            replicas: 0,
            lease: Human::secs(5),
            retry: Human::secs(60),
        }
    }
}

impl Queue {
    pub(super) fn validate(&self, checks: &mut Checks) {
        checks.range("queue.streams", self.streams, 1..=1_024);
        checks.range("queue.messages", self.messages, 1..=1 << 24);
        checks.range("queue.bytes", self.bytes, 65_536..=1 << 36);
        checks.range("queue.window", self.window, 1..=65_536);
        checks.range("queue.replicas", self.replicas, 0..=8);
        checks.duration(
            "queue.lease",
            self.lease,
            Duration::from_millis(100)..=Duration::from_hours(1),
        );
        checks.duration(
            "queue.retry",
            self.retry,
            Duration::from_millis(1)..=Duration::from_hours(1),
        );
    }
}
