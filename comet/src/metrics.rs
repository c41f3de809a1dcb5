//! What is counted. Message counts are of inner messages, never of Raws; a message to three connections counts three.
//!
//! `taken = delivered + lost + still waiting`, and what is pushed to someone and not taken is `absent`, `filtered` or
//! `dropped`: a message is in exactly one of them.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::transport::Door;

/// All of comet's counters. Cheap to update; registered once.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: Family<DoorLabel, Gauge>,
    accepted: Family<DoorLabel, Counter>,
    accept_errors: Counter,
    logins: Family<DoorLabel, Counter>,
    closes: Family<ReasonLabel, Counter>,
    http_refusals: Family<ReasonLabel, Counter>,
    ignored: Family<ReasonLabel, Counter>,
    protos_in: Family<OperationLabel, Counter>,
    pushes: Family<ReasonLabel, Counter>,
    refused_pushes: Family<ReasonLabel, Counter>,
    /// Messages written or put in a backlog.
    pub taken: Counter,
    /// Messages whose last byte a socket has accepted.
    pub delivered: Counter,
    /// Messages by key for which no connection was here.
    pub absent: Counter,
    /// Messages to connections that do not accept the operation.
    pub filtered: Counter,
    dropped: Family<ReasonLabel, Counter>,
    lost: Family<ReasonLabel, Counter>,
    /// Writes to sockets that carried messages or answers.
    pub writes: Counter,
    logic_calls: Family<CallLabel, Counter>,
    /// Disconnects that logic was never told of.
    pub goodbyes_lost: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabel {
    door: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Makes the counters and registers them under the prefix `comet`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let comet = registry.sub_registry_with_prefix("comet");
        let m = &metrics;
        comet.register("connections", "Open connections", m.connections.clone());
        comet.register("accepted", "Connections accepted", m.accepted.clone());
        comet.register(
            "accept_errors",
            "Accepts that failed",
            m.accept_errors.clone(),
        );
        comet.register("logins", "Logins that succeeded", m.logins.clone());
        comet.register("closes", "Connections closed, by reason", m.closes.clone());
        comet.register(
            "http_refusals",
            "HTTP requests refused, by reason",
            m.http_refusals.clone(),
        );
        comet.register(
            "ignored",
            "Frames without effect, by reason",
            m.ignored.clone(),
        );
        comet.register(
            "protos_in",
            "Frames from clients, by operation",
            m.protos_in.clone(),
        );
        comet.register("pushes", "Pushes accepted, by target", m.pushes.clone());
        comet.register(
            "refused_pushes",
            "Pushes refused whole, by reason",
            m.refused_pushes.clone(),
        );
        comet.register(
            "messages_taken",
            "Messages written or queued",
            m.taken.clone(),
        );
        comet.register(
            "messages_delivered",
            "Messages a socket accepted",
            m.delivered.clone(),
        );
        comet.register(
            "messages_absent",
            "Messages for keys that are not here",
            m.absent.clone(),
        );
        comet.register(
            "messages_filtered",
            "Messages not accepted by their connection",
            m.filtered.clone(),
        );
        comet.register(
            "messages_dropped",
            "Messages not taken, by reason",
            m.dropped.clone(),
        );
        comet.register(
            "messages_lost",
            "Messages taken and not delivered, by reason",
            m.lost.clone(),
        );
        comet.register("writes", "Writes to sockets", m.writes.clone());
        comet.register(
            "logic_calls",
            "Calls to logic, by result",
            m.logic_calls.clone(),
        );
        comet.register(
            "goodbyes_lost",
            "Disconnects logic was never told",
            m.goodbyes_lost.clone(),
        );
        metrics
    }

    /// Open connections of a door, logged in or not.
    pub fn connections(&self, door: Door) -> Gauge {
        self.connections
            .get_or_create_owned(&DoorLabel { door: door.label() })
    }

    /// Connections that a door accepted.
    pub fn accepted(&self, door: Door) -> Counter {
        self.accepted
            .get_or_create_owned(&DoorLabel { door: door.label() })
    }

    /// Accepts that failed, for lack of files for example.
    pub fn accept_errors(&self) -> &Counter {
        &self.accept_errors
    }

    /// Logins that succeeded.
    pub fn logins(&self, door: Door) -> Counter {
        self.logins
            .get_or_create_owned(&DoorLabel { door: door.label() })
    }

    /// Connections closed for a reason: see [`crate::close::CloseReason::label`].
    pub fn closes(&self, reason: &'static str) -> Counter {
        self.closes.get_or_create_owned(&ReasonLabel { reason })
    }

    /// HTTP requests that got an error as their answer.
    pub fn http_refusals(&self, reason: &'static str) -> Counter {
        self.http_refusals
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// Frames from clients that had no effect.
    pub fn ignored(&self, reason: &'static str) -> Counter {
        self.ignored.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Frames from clients that have logged in.
    pub fn protos_in(&self, operation: &'static str) -> Counter {
        self.protos_in
            .get_or_create_owned(&OperationLabel { operation })
    }

    /// Pushes that were accepted, by `keys`, `room` or `all`.
    pub fn pushes(&self, target: &'static str) -> Counter {
        self.pushes
            .get_or_create_owned(&ReasonLabel { reason: target })
    }

    /// Pushes of which nothing was taken.
    pub fn refused_pushes(&self, reason: &'static str) -> Counter {
        self.refused_pushes
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// Messages for a connection that did not take them: `backlog_full` or `closing`.
    pub fn dropped(&self, reason: &'static str) -> Counter {
        self.dropped.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Messages that were taken and not delivered: the reason of the close, or `oldest`.
    pub fn lost(&self, reason: &'static str) -> Counter {
        self.lost.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Calls to logic, by their result: `ok`, `unavailable`, `timeout`, `refused`.
    pub fn logic_calls(&self, call: &'static str, result: &'static str) -> Counter {
        self.logic_calls
            .get_or_create_owned(&CallLabel { call, result })
    }
}
