//! What is counted of the queue.

use std::sync::atomic::AtomicU64;

use common::metrics::{Adder, Seconds};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::CallLabel;

/// The queue's counters.
#[derive(Debug, Default)]
pub struct Queue {
    /// Entries that this process has stored.
    pub stored: Counter,
    /// Entries that have ended and are deleted.
    pub ended: Counter,
    /// Keys that parts were sent to again, where they were then; and comets that were busy.
    pub resent: Counter,
    /// Claims of streams, each with a new epoch.
    pub claims: Counter,
    /// Those of them whose reader had not given the stream back: it was dead, or silent for too long.
    pub takeovers: Counter,
    /// Streams that this process reads.
    pub streams: Gauge,
    /// Streams that there are for all processes together; 0 without a queue.
    pub max_streams: Gauge,
    /// Entries in these, as of the last renewal of their claims.
    pub entries: Gauge,
    /// Entries that one stream may have; 0 without a queue.
    pub max_entries: Gauge,
    /// Seconds since the oldest of these was stored.
    pub oldest: Gauge<f64, AtomicU64>,
    /// From storing an entry to reading it.
    pub(crate) wait: Seconds,
    failures: Family<CallLabel, Counter>,
}

impl Queue {
    pub(super) fn register(&self, logic: &mut Registry) {
        let mut add = Adder(logic);
        let help = "Parts of pushes stored in the queue";
        add.metric("queue_stored", help, &self.stored);
        let help = "Parts of pushes that have ended and are deleted";
        add.metric("queue_ended", help, &self.ended);
        let help = "Keys that parts of pushes were sent to again where they were then";
        add.metric("queue_resent", help, &self.resent);
        let help = "Streams that were taken to be read";
        add.metric("queue_claims", help, &self.claims);
        let help = "Streams that were taken over from a reader that is dead";
        add.metric("queue_takeovers", help, &self.takeovers);
        add.metric("queue_streams", "Streams read here", &self.streams);
        let help = "Streams that there are for all logic-stubs together";
        add.metric("queue_max_streams", help, &self.max_streams);
        let help = "Parts of pushes that one stream may have";
        add.metric("queue_max_entries", help, &self.max_entries);
        let help = "Parts of pushes in the streams read here";
        add.metric("queue_entries", help, &self.entries);
        let help = "Age of the oldest part of a push in the streams read here";
        add.metric("queue_oldest_seconds", help, &self.oldest);
        let help = "Time from storing to reading";
        add.seconds("queue_wait", help, &self.wait);
        let help = "What readers of the queue could not do, by call";
        add.metric("queue_failures", help, &self.failures);
    }

    /// What readers could not do: `read`, `decode`, `find`, `acknowledge`, `reply`, `claim`, `release`, `readers`, `leave`.
    pub fn failures(&self, call: &'static str) -> Counter {
        self.failures.get_or_create_owned(&CallLabel { call })
    }
}
