//! What a thread of clients has counted.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies above this count as this: nanoseconds.
const MAX_LATENCY: u64 = 120_000_000_000;

/// Nanoseconds, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, MAX_LATENCY, 3).expect("the bounds are in order")
}

/// Counters, ever growing, but for the latencies.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Messages of pushes.
    pub received: u64,
    /// Reads that found something.
    pub reads: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Raw headers: WebSocket messages that hold several.
    pub raws: u64,
    /// Messages of another series of pushes, or to connections in no group: not counted otherwise.
    pub stale: u64,
    /// Messages that were for someone else.
    pub strays: u64,
    /// Frames in which the server says that it closes.
    pub disconnects: u64,
    /// Connections that the server closed after their login.
    pub closed: u64,
    /// Connections that ended with an error after their login.
    pub errors: u64,
    /// The last of them.
    pub last_error: Option<String>,
    /// Heartbeats sent.
    pub asked: u64,
    /// Heartbeats answered.
    pub beats: u64,
    /// When the last message came.
    pub last_receipt: u64,
    /// From push, or heartbeat, to receipt, since [`super::Task::Mark`].
    pub latency: Histogram<u64>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            received: 0,
            reads: 0,
            bytes: 0,
            raws: 0,
            stale: 0,
            strays: 0,
            disconnects: 0,
            closed: 0,
            errors: 0,
            last_error: None,
            asked: 0,
            beats: 0,
            last_receipt: 0,
            latency: histogram(),
        }
    }
}

impl Stats {
    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.reads += other.reads;
        self.bytes += other.bytes;
        self.raws += other.raws;
        self.stale += other.stale;
        self.strays += other.strays;
        self.disconnects += other.disconnects;
        self.closed += other.closed;
        self.errors += other.errors;
        self.last_error = self.last_error.take().or_else(|| other.last_error.clone());
        self.asked += other.asked;
        self.beats += other.beats;
        self.last_receipt = self.last_receipt.max(other.last_receipt);
        // Both have the same bounds.
        self.latency.add(&other.latency).unwrap_or(());
    }
}

/// How logins went.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Logged in.
    pub opened: u32,
    /// Not logged in.
    pub failed: u32,
    /// Why not, the last of them.
    pub last_error: Option<String>,
    /// From the first connect to the last answer, in nanoseconds.
    pub elapsed: u64,
    /// From connect to AuthReply.
    pub latency: Histogram<u64>,
}

impl Default for Opened {
    fn default() -> Self {
        Self {
            opened: 0,
            failed: 0,
            last_error: None,
            elapsed: 0,
            latency: histogram(),
        }
    }
}

impl Opened {
    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.failed += other.failed;
        self.last_error = self.last_error.take().or_else(|| other.last_error.clone());
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency.add(&other.latency).unwrap_or(());
    }
}

/// What connections have and have not received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that they should have.
    pub expected: u64,
    /// Of which did not come.
    pub lost: u64,
    /// Messages that came twice.
    pub duplicated: u64,
    /// Messages that came behind later ones.
    pub reordered: u64,
    /// Connections that were closed meanwhile.
    pub gone: u64,
}

impl Tally {
    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.gone += other.gone;
    }
}
