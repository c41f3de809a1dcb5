//! What is counted. Message counts are of inner messages, never of Raws; a message to three connections counts three.
//! docs/operations.md lists all of it.
//!
//! `taken = delivered + lost + still waiting`, and what is pushed to someone and not taken is `absent`, `filtered` or
//! `dropped`: a message is in exactly one of them. One to a room or to all that meets nobody is `nobody`.

use std::{array, time::Duration};

use common::{
    ends::Ends,
    metrics::{Adder, Seconds, Sizes},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use protocol::op;

use crate::transport::Door;

/// All of comet's counters. Cheap to update; registered once.
#[derive(Debug, Default)]
pub struct Metrics {
    connections: Family<DoorLabel, Gauge>,
    accepted: Family<DoorLabel, Counter>,
    accept_errors: Counter,
    refused_connections: Family<ReasonLabel, Counter>,
    throttled: Family<ReasonLabel, Counter>,
    logins: Family<DoorLabel, Counter>,
    refused_logins: Family<ReasonLabel, Counter>,
    closes: Family<ReasonLabel, Counter>,
    http_refusals: Family<ReasonLabel, Counter>,
    flash_policies: Family<ResultLabel, Counter>,
    ignored: Family<ReasonLabel, Counter>,
    protos_in: Operations,
    protos_out: Operations,
    /// Open `comet.v1` Push calls.
    pub lanes: Gauge,
    pushes: Family<TargetLabel, Counter>,
    refused_pushes: Family<ReasonLabel, Counter>,
    /// Messages to rooms, or to all, that met nobody here.
    pub nobody: Counter,
    /// Messages written or put in a backlog.
    pub taken: Counter,
    /// Messages whose last byte a socket has accepted.
    pub delivered: Counter,
    /// Messages by key for which no connection was here.
    pub absent: Counter,
    /// Messages to connections that do not accept the operation.
    pub filtered: Counter,
    /// Messages that a stream's client had not got when it came back, and that were not held any more.
    pub missed: Counter,
    resumed: Family<ResultLabel, Counter>,
    dropped: Family<ReasonLabel, Counter>,
    lost: Family<ReasonLabel, Counter>,
    /// Writes to sockets, by the messages that they completed; 0 for answers alone and for parts.
    pub writes: Sizes,
    /// Sampled: from a push's place in the inbox of a bucket until the bucket has served all of its connections there.
    pub pushed: Seconds,
    /// Sampled: from the first message or answer that waits for a connection until nothing waits.
    pub backlogs: Seconds,
    rpc_refusals: Family<ReasonLabel, Counter>,
    logic_calls: Family<CallLabel, Counter>,
    logic_times: Family<NameLabel, Seconds>,
    /// Disconnects that logic was never told of.
    pub goodbyes_lost: Counter,
    /// Lines for the whitelist's log.
    pub whitelist_lines: Counter,
    /// Such lines that did not get there.
    pub whitelist_lines_lost: Counter,
    /// 1 from the beginning of the end on.
    pub draining: Gauge,
    /// Connections that were told to go elsewhere since this comet ends.
    pub drained: Counter,
    tls_handshakes: Family<ResultLabel, Counter>,
    tls_reloads: Family<ResultLabel, Counter>,
    /// Certificates of the doors, and those that logic-stubs and pushers are shown.
    pub certificates: Ends,
}

/// A counter for each operation of the protocol and one for all of the applications', found without a look-up.
#[derive(Debug)]
struct Operations {
    family: Family<OperationLabel, Counter>,
    counters: [Counter; OPERATIONS],
}

/// The protocol's own operations are those below.
const APPLICATIONS: usize = 18;
const OPERATIONS: usize = APPLICATIONS + 1;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabel {
    door: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabel {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
    result: &'static str,
}

impl Default for Operations {
    fn default() -> Self {
        let family = Family::<OperationLabel, Counter>::default();
        let counters = array::from_fn(|op| {
            let operation = op::name(i32::try_from(op).unwrap_or(i32::MAX));
            family.get_or_create_owned(&OperationLabel { operation })
        });
        Self { family, counters }
    }
}

impl Operations {
    fn of(&self, op: i32) -> &Counter {
        let index = usize::try_from(op).unwrap_or(APPLICATIONS);
        &self.counters[index.min(APPLICATIONS)]
    }
}

impl Metrics {
    /// Makes the counters and registers them under the prefix `comet`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("comet");
        metrics.register_clients(registry);
        metrics.register_tls(registry);
        metrics.register_pushes(registry);
        metrics.register_logic(registry);
        metrics
    }

    fn register_clients(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        add.metric("connections", "Open connections", &self.connections);
        add.metric("accepted", "Connections accepted", &self.accepted);
        add.metric("accept_errors", "Accepts that failed", &self.accept_errors);
        let help = "Connections refused before they could log in, by reason";
        add.metric("refused_connections", help, &self.refused_connections);
        let help = "Pauses in reading a connection that sends too much, by reason";
        add.metric("throttled", help, &self.throttled);
        add.metric("logins", "Logins that succeeded", &self.logins);
        let help = "Connections that ended before they had logged in, by reason";
        add.metric("logins_refused", help, &self.refused_logins);
        add.metric("closes", "Connections closed, by reason", &self.closes);
        let help = "HTTP requests refused, by reason";
        add.metric("http_refusals", help, &self.http_refusals);
        let help = "Connections to the policy server of Flash, by result";
        add.metric("flash_policies", help, &self.flash_policies);
        add.metric("ignored", "Frames without effect, by reason", &self.ignored);
        let help = "Frames from clients that have logged in, by operation";
        add.metric("protos_in", help, &self.protos_in.family);
        let help = "Frames for clients, pushed ones among them, by operation";
        add.metric("protos_out", help, &self.protos_out.family);
    }

    fn register_pushes(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        add.metric("lanes", "Open comet.v1 Push calls", &self.lanes);
        add.metric("pushes", "Pushes accepted, by target", &self.pushes);
        let help = "Pushes refused whole, by reason";
        add.metric("refused_pushes", help, &self.refused_pushes);
        let help = "Messages to rooms and to all that met nobody";
        add.metric("messages_nobody", help, &self.nobody);
        add.metric("messages_taken", "Messages written or queued", &self.taken);
        let help = "Messages whose last byte a socket accepted";
        add.metric("messages_delivered", help, &self.delivered);
        let help = "Messages for keys that are not here";
        add.metric("messages_absent", help, &self.absent);
        let help = "Messages not accepted by their connection";
        add.metric("messages_filtered", help, &self.filtered);
        let help = "Messages not taken, by reason";
        add.metric("messages_dropped", help, &self.dropped);
        let help = "Messages taken and not delivered, by reason";
        add.metric("messages_lost", help, &self.lost);
        let help =
            "Delivered messages that a client of Server-Sent Events lacked when it came back";
        add.metric("messages_missed", help, &self.missed);
        let help = "Clients of Server-Sent Events that came back, by result";
        add.metric("resumed", help, &self.resumed);
        let help = "Messages that one write to a socket completed";
        add.metric("write_messages", help, &self.writes);
        let help = "From a bucket's inbox to its sockets and backlogs, of one push in 16";
        add.seconds("push", help, &self.pushed);
        let help = "How long messages or answers waited for a slow client, one time in 16";
        add.seconds("backlog", help, &self.backlogs);
    }

    fn register_logic(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        let help = "gRPC calls refused before they were looked at, by reason";
        add.metric("rpc_refusals", help, &self.rpc_refusals);
        let help = "Calls to logic, by result";
        add.metric("logic_calls", help, &self.logic_calls);
        add.seconds("logic_call", "Time of calls to logic", &self.logic_times);
        let help = "Disconnects logic was never told";
        add.metric("goodbyes_lost", help, &self.goodbyes_lost);
        add.metric("draining", "1 while this comet drains", &self.draining);
        let help = "Connections told to go elsewhere by the drain";
        add.metric("drained", help, &self.drained);
        let help = "Lines for the whitelist's log";
        add.metric("whitelist_lines", help, &self.whitelist_lines);
        let help = "Lines that did not get into the whitelist's log";
        add.metric("whitelist_lines_lost", help, &self.whitelist_lines_lost);
    }

    fn register_tls(&self, registry: &mut Registry) {
        let mut add = Adder(registry);
        let help = "TLS handshakes, by result";
        add.metric("tls_handshakes", help, &self.tls_handshakes);
        let help = "Certificates that changed, by what became of that";
        add.metric("tls_reloads", help, &self.tls_reloads);
        let help = "Until when a certificate is valid, in seconds since 1970";
        add.metric("tls_certificate_end_seconds", help, &self.certificates);
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

    /// Connections that were refused before login: see [`crate::gate::Refused::label`], and `proxy_header`.
    pub fn refused_connections(&self, reason: &'static str) -> Counter {
        self.refused_connections
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// Times that a connection was not read for the rest of a second: it sent too many `operations` or `bytes`.
    pub fn throttled(&self, reason: &'static str) -> Counter {
        self.throttled.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Logins that succeeded.
    pub fn logins(&self, door: Door) -> Counter {
        self.logins
            .get_or_create_owned(&DoorLabel { door: door.label() })
    }

    /// Connections that ended before they had logged in. Each is among [`Self::closes`] too.
    pub fn refused_logins(&self, reason: &'static str) -> Counter {
        self.refused_logins
            .get_or_create_owned(&ReasonLabel { reason })
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

    /// Connections to the policy server of Flash: `told`, or why not.
    pub fn flash_policies(&self, result: &'static str) -> Counter {
        self.flash_policies
            .get_or_create_owned(&ResultLabel { result })
    }

    /// Frames from clients that had no effect.
    pub fn ignored(&self, reason: &'static str) -> Counter {
        self.ignored.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Frames from clients that have logged in.
    pub fn protos_in(&self, op: i32) -> &Counter {
        self.protos_in.of(op)
    }

    /// Frames for clients: messages that were taken, answers and farewells.
    pub fn protos_out(&self, op: i32) -> &Counter {
        self.protos_out.of(op)
    }

    /// Pushes that were accepted, by `keys`, `room` or `all`.
    pub fn pushes(&self, target: &'static str) -> Counter {
        self.pushes.get_or_create_owned(&TargetLabel { target })
    }

    /// Pushes of which nothing was taken.
    pub fn refused_pushes(&self, reason: &'static str) -> Counter {
        self.refused_pushes
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// So many connections were written a frame of so many messages each, whole and at once.
    pub fn written(&self, messages: u64, times: u64) {
        if times > 0 {
            self.writes.observe_many(messages, times);
            self.delivered.inc_by(messages * times);
        }
    }

    /// Streams whose client came back: `whole`, `gap` where messages were not held any more, `unknown` where the session was not.
    pub fn resumed(&self, result: &'static str) -> Counter {
        self.resumed.get_or_create_owned(&ResultLabel { result })
    }

    /// Messages for a connection that did not take them: `backlog_full` or `closing`.
    pub fn dropped(&self, reason: &'static str) -> Counter {
        self.dropped.get_or_create_owned(&ReasonLabel { reason })
    }

    /// Messages that were taken and not delivered: the reason of the close, or `oldest`.
    pub fn lost(&self, reason: &'static str) -> Counter {
        self.lost.get_or_create_owned(&ReasonLabel { reason })
    }

    /// gRPC calls whose callers did not show who they are: `no_token`, `wrong_token`, `no_certificate`; and connections whose
    /// TLS did not come about: `handshake`.
    pub fn rpc_refusals(&self, reason: &'static str) -> Counter {
        self.rpc_refusals
            .get_or_create_owned(&ReasonLabel { reason })
    }

    /// Calls to logic, by their result: `ok`, `unavailable`, `timeout`, `refused`.
    pub fn logic_calls(&self, call: &'static str, result: &'static str) -> Counter {
        self.logic_calls
            .get_or_create_owned(&CallLabel { call, result })
    }

    /// Counts a call to logic that took so long.
    pub fn called_logic(&self, call: &'static str, result: &'static str, time: Duration) {
        self.logic_calls(call, result).inc();
        self.logic_times
            .get_or_create(&NameLabel { call })
            .observe(time);
    }

    /// TLS handshakes, by their result: `ok`, `timeout`, `going_away`, or see [`crate::transport::tls::TlsError::label`].
    pub fn tls_handshakes(&self, result: &'static str) -> Counter {
        self.tls_handshakes
            .get_or_create_owned(&ResultLabel { result })
    }

    /// New pairs of certificate and key: `taken`, or `refused`, so that the old one stays.
    pub fn tls_reloads(&self, result: &'static str) -> Counter {
        self.tls_reloads
            .get_or_create_owned(&ResultLabel { result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_counter() {
        let metrics = Metrics::default();
        for op in [op::HEARTBEAT, op::UNSUB_REPLY, 18, 1000, -1, i32::MIN] {
            metrics.protos_in(op).inc();
        }
        assert_eq!(metrics.protos_in(op::HEARTBEAT).get(), 1);
        assert_eq!(metrics.protos_in(op::UNSUB_REPLY).get(), 1);
        assert_eq!(metrics.protos_in(i32::MAX).get(), 4);
        assert_eq!(op::name(18), "application");
        assert_ne!(op::name(17), "application");
    }
}
