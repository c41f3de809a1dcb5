//! What is counted of pushes and kicks.
//!
//! Of what lanes take, each key of a message, or the message itself when it is for a room or everyone, ends as `lost`, as
//! `uncounted`, or with a receipt whose connections are counted as `taken`, `absent`, `filtered` or `dropped`.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::lanes::report::{Loss, Outcome};

/// All of logic-stub's counters. Cheap to update; registered once.
#[derive(Debug)]
pub struct Metrics {
    pushes: Family<TargetLabel, Counter>,
    refused_pushes: Family<ReasonLabel, Counter>,
    lane_depth: Family<CometLabel, Gauge>,
    /// Times that a lane with something to send lost its connection or had none.
    pub lane_reconnects: Counter,
    batches: Histogram,
    /// Connections that took a message, as receipts say.
    pub taken: Counter,
    /// Keys that were not connected where their session said.
    pub absent: Counter,
    /// Connections that do not accept the operation.
    pub filtered: Counter,
    /// Connections that were too slow, or closing.
    pub dropped: Counter,
    /// Keys or messages that a comet took without saying what became of them.
    pub uncounted: Counter,
    lost: Family<ReasonLabel, Counter>,
    kicked: Family<ReasonLabel, Counter>,
    lost_kicks: Family<ReasonLabel, Counter>,
    /// Logins that were refused since the user had as many connections as may be.
    pub refused_logins: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CometLabel {
    comet: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            pushes: Family::default(),
            refused_pushes: Family::default(),
            lane_depth: Family::default(),
            lane_reconnects: Counter::default(),
            // 1, 2, 4 .. 1024: the largest batch is 512 by default.
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            taken: Counter::default(),
            absent: Counter::default(),
            filtered: Counter::default(),
            dropped: Counter::default(),
            uncounted: Counter::default(),
            lost: Family::default(),
            kicked: Family::default(),
            lost_kicks: Family::default(),
            refused_logins: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes the counters and registers them under the prefix `logic`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let logic = registry.sub_registry_with_prefix("logic");
        let m = &metrics;
        logic.register("pushes", "Pushes accepted, by target", m.pushes.clone());
        logic.register(
            "refused_pushes",
            "Pushes refused whole, by reason",
            m.refused_pushes.clone(),
        );
        logic.register(
            "lane_depth",
            "Messages in a comet's lane",
            m.lane_depth.clone(),
        );
        logic.register(
            "lane_reconnects",
            "Connections that a lane lost with work to do",
            m.lane_reconnects.clone(),
        );
        logic.register(
            "lane_batch_messages",
            "Messages of one batch or call",
            m.batches.clone(),
        );
        logic.register(
            "messages_taken",
            "Connections that took a message",
            m.taken.clone(),
        );
        logic.register(
            "messages_absent",
            "Keys not connected where they should be",
            m.absent.clone(),
        );
        logic.register(
            "messages_filtered",
            "Connections that do not accept a message",
            m.filtered.clone(),
        );
        logic.register(
            "messages_dropped",
            "Connections too slow for a message",
            m.dropped.clone(),
        );
        logic.register(
            "messages_uncounted",
            "Messages taken without counts",
            m.uncounted.clone(),
        );
        logic.register(
            "messages_lost",
            "Messages that did not reach a comet, by reason",
            m.lost.clone(),
        );
        logic.register(
            "kicked",
            "Connections that were told to close, by why",
            m.kicked.clone(),
        );
        logic.register(
            "kicks_lost",
            "Connections that should have been closed and were not, by reason",
            m.lost_kicks.clone(),
        );
        logic.register(
            "logins_refused",
            "Logins beyond the bound of a user's connections",
            m.refused_logins.clone(),
        );
        metrics
    }

    /// Pushes that every lane concerned has taken, by `keys`, `mids`, `room` or `all`.
    pub fn pushes(&self, target: &'static str) -> Counter {
        self.pushes.get_or_create_owned(&TargetLabel { target })
    }

    /// Pushes of which nothing was taken: `lane_full`, `store`, `no_comet`.
    pub fn refused_pushes(&self, reason: &'static str) -> Counter {
        self.refused_pushes
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// Messages that wait in a comet's lane or are under way.
    pub fn lane_depth(&self, comet: &Arc<str>) -> Gauge {
        let comet = comet.to_string();
        self.lane_depth.get_or_create_owned(&CometLabel { comet })
    }

    /// Keys or messages that were lost: see [`Loss::label`].
    pub fn lost(&self, reason: &'static str) -> Counter {
        self.lost.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Connections that were told to close: `asked`, `replaced`, `newest`, `platform`.
    pub fn kicked(&self, reason: &'static str) -> Counter {
        self.kicked.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Connections that should have been closed by what logic-stub itself saw: `comet_away`, `unimplemented`, `refused`,
    /// `no_connection`, `full`, `stopped`; and users whose connections could not be counted: `store`.
    pub fn lost_kicks(&self, reason: &'static str) -> Counter {
        self.lost_kicks.get_or_create_owned(&ReasonLabel { reason })
    }

    /// A comet that is gone has no depth.
    pub(crate) fn forget_lane(&self, comet: &Arc<str>) {
        let comet = comet.to_string();
        self.lane_depth.remove(&CometLabel { comet });
    }

    /// So many messages have gone out together.
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches are bounded far below 2^53"
    )]
    pub(crate) fn batch(&self, messages: usize) {
        self.batches.observe(messages as f64);
    }

    /// The end of a message of so many keys.
    pub(crate) fn settled(&self, outcome: &Outcome, weight: u64) {
        match outcome {
            Outcome::Counted(counts, _) => {
                self.taken.inc_by(counts.taken);
                self.absent.inc_by(counts.absent);
                self.filtered.inc_by(counts.filtered);
                self.dropped.inc_by(counts.dropped);
            }
            Outcome::Uncounted => drop(self.uncounted.inc_by(weight)),
            Outcome::Lost(why) => self.lose(*why, weight),
        }
    }

    /// So many keys, or one message, were lost.
    pub(crate) fn lose(&self, why: Loss, weight: u64) {
        self.lost(why.label()).inc_by(weight);
    }
}
