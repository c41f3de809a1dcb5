//! What is counted of pushes, of the queue, of comets' calls and of kicks. docs/operations.md lists all of it.
//!
//! Of what lanes take, each key of a message, or the message itself when it is for a room or everyone, ends as `lost`, as
//! `uncounted`, or with a receipt whose connections are counted as `taken`, `absent`, `filtered` or `dropped`.

mod queue;

use std::{sync::Arc, time::Duration};

use common::{
    ends::Ends,
    metrics::{Adder, Seconds, Sizes},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

pub use self::queue::Queue;
use crate::lanes::report::{Loss, Outcome};

/// All of logic-stub's counters. Cheap to update; registered once.
#[derive(Debug, Default)]
pub struct Metrics {
    pushes: Family<TargetLabel, Counter>,
    refused_pushes: Family<ReasonLabel, Counter>,
    /// Keys and mids of pushes that have no session.
    pub offline: Counter,
    lane_depth: Family<CometLabel, Gauge>,
    /// Times that a lane with something to send lost its connection or had none.
    pub lane_reconnects: Counter,
    batches: Sizes,
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
    calls: Family<ResultLabel, Counter>,
    times: Family<CallLabel, Seconds>,
    kicked: Family<ReasonLabel, Counter>,
    lost_kicks: Family<ReasonLabel, Counter>,
    rpc_refusals: Family<ReasonLabel, Counter>,
    api_refusals: Family<ReasonLabel, Counter>,
    refused_logins: Family<ReasonLabel, Counter>,
    /// Certificates that comets are shown, which call and are called.
    pub certificates: Ends,
    /// The queue's.
    pub queue: Queue,
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
struct CallLabel {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    call: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CometLabel {
    comet: String,
}

impl Metrics {
    /// Makes the counters and registers them under the prefix `logic`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("logic");
        metrics.register_pushes(registry);
        metrics.queue.register(registry);
        metrics.register_comets(registry);
        metrics
    }

    fn register_pushes(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        add.metric("pushes", "Pushes accepted, by target", &self.pushes);
        let help = "Pushes refused whole, by reason";
        add.metric("refused_pushes", help, &self.refused_pushes);
        let help = "Keys and mids that were pushed to and have no session";
        add.metric("messages_offline", help, &self.offline);
        add.metric("lane_depth", "Messages in a comet's lane", &self.lane_depth);
        let help = "Connections that a lane lost with work to do";
        add.metric("lane_reconnects", help, &self.lane_reconnects);
        let help = "Messages of one batch or call";
        add.metric("lane_batch_messages", help, &self.batches);
        let help = "Connections that took a message";
        add.metric("messages_taken", help, &self.taken);
        let help = "Keys not connected where they should be";
        add.metric("messages_absent", help, &self.absent);
        let help = "Connections that do not accept a message";
        add.metric("messages_filtered", help, &self.filtered);
        let help = "Connections too slow for a message";
        add.metric("messages_dropped", help, &self.dropped);
        let help = "Messages taken without counts";
        add.metric("messages_uncounted", help, &self.uncounted);
        let help = "Messages that did not reach a comet, by reason";
        add.metric("messages_lost", help, &self.lost);
    }

    fn register_comets(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        add.metric("calls", "Calls of comets, by result", &self.calls);
        let help = "Time of calls of comets";
        add.seconds("call", help, &self.times);
        let help = "Connections that were told to close, by why";
        add.metric("kicked", help, &self.kicked);
        let help = "Connections that should have been closed and were not, by reason";
        add.metric("kicks_lost", help, &self.lost_kicks);
        let help = "gRPC calls refused before they were looked at, by reason";
        add.metric("rpc_refusals", help, &self.rpc_refusals);
        let help = "HTTP requests refused before they were looked at, by reason";
        add.metric("api_refusals", help, &self.api_refusals);
        let help = "Logins refused, by reason";
        add.metric("logins_refused", help, &self.refused_logins);
        let help = "Until when a certificate is valid, in seconds since 1970";
        add.metric("tls_certificate_end_seconds", help, &self.certificates);
    }

    /// Counts a call of a comet that took so long: `ok`, `refused`, `superseded`, `unavailable`, `invalid` or `error`.
    pub(crate) fn called(&self, call: &'static str, result: &'static str, time: Duration) {
        self.calls
            .get_or_create(&ResultLabel { call, result })
            .inc();
        self.times.get_or_create(&CallLabel { call }).observe(time);
    }

    /// Pushes that every lane concerned has taken, or that are stored, by `keys`, `mids`, `room` or `all`.
    pub fn pushes(&self, target: &'static str) -> Counter {
        self.pushes.get_or_create_owned(&TargetLabel { target })
    }

    /// Pushes of which nothing was taken: `lane_full`, `queue_full`, `store`, `no_comet`.
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

    /// Logins that were refused: `per_mid` beyond the bound of a user's connections, `limits` beyond those of names, `open`
    /// by what [`crate::Business`] says, and what a JWT lacks: see [`crate::auth::Refused::label`].
    pub fn refused_logins(&self, reason: &'static str) -> Counter {
        self.refused_logins
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// gRPC calls whose callers did not show who they are: `no_token`, `wrong_token`, `no_certificate`; and connections whose
    /// TLS did not come about: `handshake`.
    pub fn rpc_refusals(&self, reason: &'static str) -> Counter {
        self.rpc_refusals
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// HTTP requests that may not be made: `no_token`, `wrong_token`.
    pub fn api_refusals(&self, reason: &'static str) -> Counter {
        self.api_refusals
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// A comet that is gone has no depth.
    pub(crate) fn forget_lane(&self, comet: &Arc<str>) {
        let comet = comet.to_string();
        self.lane_depth.remove(&CometLabel { comet });
    }

    /// So many messages have gone out together.
    pub(crate) fn batch(&self, messages: usize) {
        self.batches.observe_many(messages as u64, 1);
    }

    /// The end of a message of so many keys.
    pub(crate) fn settled(&self, outcome: &Outcome, weight: u64) {
        match outcome {
            Outcome::Counted {
                counts, repeated, ..
            } => {
                self.uncounted.inc_by(*repeated);
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
