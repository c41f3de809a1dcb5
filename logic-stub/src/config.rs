//! What can be configured. `docs/configuration.md` lists the keys; the defaults here say why they are what they are.

mod auth;
mod checks;
mod defaults;
mod queue;
mod redis;

use std::{collections::BTreeMap, time::Duration};

use common::{
    config::{Human, Spec},
    listen::Callers,
    mutual::{ClientTls, ServerTls},
};
use serde::{Deserialize, Serialize};

pub use self::{
    auth::{Auth, AuthMode, Claims},
    queue::{Queue, QueueMode},
    redis::Redis,
};
use crate::sessions::memory::Limits;

/// How the loader finds the configuration of this service. goim's own file for logic is understood.
pub const SPEC: Spec = Spec {
    program: "logic-stub",
    env_prefix: "LOGIC",
    ignored: &[
        ("perf", "there is no profiling port"),
        ("env", "logic-stub registers nowhere"),
        (
            "discovery",
            "comets register themselves with their RenewOnline",
        ),
        ("kafka", "pushes go to the comets directly"),
        ("useNats", "pushes go to the comets directly"),
        ("nats", "pushes go to the comets directly"),
        ("redis.network", "it is always TCP"),
        ("redis.active", "all calls share one connection"),
        ("redis.idle", "all calls share one connection"),
        ("redis.idleTimeout", "the connection is kept"),
        ("redis.writeTimeout", "see redis.readTimeout"),
        ("redis.expire", "see sessions.expire"),
        ("rpcClient.addr", "comets say themselves where they are"),
        ("rpcServer.network", "it is always TCP"),
        ("rpcServer.dial", "a server dials nobody"),
        (
            "rpcServer.maxLifeTime",
            "connections of comets may live for ever",
        ),
        (
            "rpcServer.idleTimeout",
            "an idle connection is probed, not closed",
        ),
        ("rpcServer.forceCloseWait", "see shutdown.grace"),
        ("httpServer.network", "it is always TCP"),
    ],
    plain_env: &[],
};

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where comets call.
    pub rpc_server: RpcServer,
    /// How comets are called.
    pub rpc_client: RpcClient,
    /// What waits for comets, and how it goes to them.
    pub lanes: Lanes,
    /// What waits for the lanes, and survives this process.
    pub queue: Queue,
    /// How connections are closed.
    pub kick: Kick,
    /// Where pushers call.
    pub http_server: HttpServer,
    /// Who a client is.
    pub auth: Auth,
    /// What clients are told about where to connect.
    pub node: Node,
    /// What clients are told about connecting again.
    pub backoff: Backoff,
    /// Provinces of each region, as in goim: `bj = ["Beijing", "Tianjin"]`. Which province a client's address is in is a
    /// question for [`crate::Business`].
    pub regions: BTreeMap<String, Vec<String>>,
    /// What is kept, and for how long.
    pub sessions: Sessions,
    /// Where that is kept, if not in memory.
    pub redis: Redis,
    /// Bounds of what clients and comets may name.
    pub limits: Bounds,
    /// How comets are found.
    pub comets: Comets,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// Health, readiness and metrics.
    pub monitor: Monitor,
}

/// The monitor.
pub type Monitor = common::monitor::Config<3120>;

/// `rpcServer`: the gRPC service for comets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RpcServer {
    /// Address to listen on.
    pub addr: String,
    /// A file of bearer tokens, of which callers must show one; empty: they need none.
    pub token_file: String,
    /// Whether others than this machine may call without a token or a certificate. Without any of them the service listens on
    /// loopback only.
    pub allow_unauthenticated: bool,
    /// Its TLS, and whether callers must show certificates.
    pub tls: ServerTls,
    /// Longest time for one call, after which the caller gets `DEADLINE_EXCEEDED`.
    pub timeout: Human,
    /// Silence after which a connection is probed.
    pub keep_alive_interval: Human,
    /// How long a probe may stay without an answer.
    pub keep_alive_timeout: Human,
    /// Calls at once on one connection. A comet opens one connection; a burst of logins is 32 buckets deep at least.
    pub max_streams: u32,
    /// Connections at once: one for each comet and some for people with grpcurl; 1,024 is ten times the hundred
    /// comets of 100 million clients.
    pub max_connections: usize,
    /// Longest message in bytes, goim's 16 MiB: 400,000 rooms of 40 bytes in a `RenewOnline`.
    pub max_message: usize,
}

/// `rpcClient`: calls to comets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RpcClient {
    /// A file of bearer tokens, of which comets are shown the first; empty: none.
    pub token_file: String,
    /// What comets' certificates must be, and what comets are shown.
    pub tls: ClientTls,
    /// Longest time for a connection to come about.
    pub dial: Human,
    /// Longest time without an answer while one is owed. A comet whose inboxes are full lets each push wait first.
    pub timeout: Human,
    /// How often a connection is probed, also an idle one. goim's 10 s.
    pub keep_alive_interval: Human,
    /// How long a probe may stay without an answer. goim's 3 s.
    pub keep_alive_timeout: Human,
    /// Longest message in bytes, either way: goim's 16 MiB.
    pub max_message: usize,
    /// Keys in one message. With keys of 256 bytes, 10,000 are 2.5 MiB, well below `maxMessage`.
    pub keys_per_call: usize,
}

/// `lanes`: the queue and the call for each comet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Lanes {
    /// Messages in one lane, waiting or without an answer. At 1,000 pushes a second, the 10 s of `retry` are 10,000; the rest is
    /// for bursts.
    pub messages: usize,
    /// Their bytes with keys and about 300 for each. Bodies are shared by lanes, so a hundred comets that are all away hold 64 MiB of
    /// bodies of room messages, and 6.4 GiB only if each is owed its own.
    pub bytes: usize,
    /// Messages in one batch: enough that what a batch costs by itself is below a hundredth of what its messages cost.
    pub batch_messages: usize,
    /// Bytes in one batch, unless one message alone has more. A sixteenth of what comets take in one message; beyond
    /// `rpcClient.maxMessage` that is the limit.
    pub batch_bytes: usize,
    /// Batches without an answer. A comet answers in order when connections have a message, so a fan-out of 100 ms holds up the
    /// answers behind it, not the messages, while 16 batches are enough.
    pub window: usize,
    /// Calls at once to a comet that lacks the streaming one: goim's 32 routines for each comet.
    pub calls: usize,
    /// Messages for one room in one such call: goim's 20.
    pub merge: usize,
    /// How long a message may wait for a comet that is away. A third of a lease, and longer than a comet takes to restart.
    pub retry: Human,
    /// Longest time between two attempts to connect.
    pub reconnect: Human,
    /// How long a push with `report=1` waits for the comets.
    pub report: Human,
    /// Absent keys, and as many lost ones, that a report names. With keys of 256 bytes, 1,000 are 250 KiB.
    pub report_keys: usize,
}

/// `httpServer`: the push API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpServer {
    /// Address to listen on.
    pub addr: String,
    /// A file of bearer tokens, of which pushers must show one; empty: they need none.
    pub token_file: String,
    /// Whether others than this machine may push without a token. Without either the service listens on loopback only.
    pub allow_unauthenticated: bool,
    /// Longest time for a request's head, counted from the end of the answer before it, and again for its body. Pushers keep
    /// connections for later pushes: a short time closes them in between.
    pub read_timeout: Human,
    /// Longest time for which a client may take nothing of an answer (Linux).
    pub write_timeout: Human,
    /// Longest body of a push in bytes. Comets bound what a connection may have waiting by 64 KiB: a longer message would
    /// never fit.
    pub max_body: usize,
    /// Longest head of a request in bytes. The HTTP library takes paths with queries of at most 65,534 bytes, which is 1,500
    /// keys of 36 characters; the rest is for headers.
    pub max_head: usize,
    /// Values of `keys`, `mids` or `rooms` in one request: more than a query can hold of any but the shortest.
    pub max_values: usize,
    /// Connections at once; each has at most `maxHead` + `maxBody` in memory, so 1,024 are at most 144 MiB when all of them
    /// try.
    pub max_connections: usize,
}

/// `node`: where clients should connect, as goim's logic answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Node {
    /// The answer when no comet is known.
    pub default_domain: String,
    /// What follows a comet's host name for web clients.
    pub host_domain: String,
    /// How often clients should send a heartbeat.
    pub heartbeat: Human,
    /// After how many heartbeats missed a client is closed.
    pub heartbeat_max: u32,
    /// The port for TCP.
    pub tcp_port: u16,
    /// The port for WebSocket.
    pub ws_port: u16,
    /// The port for WebSocket under TLS.
    pub wss_port: u16,
    /// How much more a comet weighs for clients of its region.
    pub region_weight: f64,
}

/// `backoff`: how clients should space their attempts to connect again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Backoff {
    /// Seconds at most.
    pub max_delay: i32,
    /// Seconds at first.
    pub base_delay: i32,
    /// How each delay grows into the next.
    pub factor: f32,
    /// Share of a delay by which it may differ.
    pub jitter: f32,
}

/// `sessions`: what is kept of clients and comets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Sessions {
    /// Life of a session that is not renewed. Comets renew every 10 to 20 minutes; goim's 30 m.
    pub expire: Human,
    /// Sessions at once in memory. One takes about 400 bytes with its place in the index: a million are 400 MB. In Redis the
    /// bound is its own `maxmemory`.
    pub max: usize,
    /// Life of a comet's lease: three of the renewals that come every 10 s.
    pub lease: Human,
    /// How often what has run out is cleared from memory.
    pub sweep: Human,
    /// What becomes of a login of a user who has connections already.
    pub per_mid: PerMid,
    /// Connections that a user may have, by `perMid`.
    pub max_per_mid: usize,
}

/// What becomes of a login of a user who has as many connections as may be. Those of goim's comets cannot be closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerMid {
    /// There is no bound.
    #[default]
    Unlimited,
    /// The oldest connections are closed.
    Newest,
    /// The oldest connections of the same platform are closed.
    Platform,
    /// It is refused.
    Refuse,
}

/// `kick`: closing connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Kick {
    /// Longest time that one comet may take. It answers when its buckets have closed the connections: milliseconds for
    /// thousands.
    pub timeout: Human,
    /// How long a connection that must go is tried to be closed while its comet is away: two leases.
    pub retry: Human,
    /// How long it is looked for at a comet that does not have it: as long as a login may take to get from logic to its bucket,
    /// comet's `protocol.handshakeTimeout`.
    pub settle: Human,
    /// Connections that must go, and users whose connections are to be counted. One takes about 400 bytes: 65,536 are 26 MB.
    pub waiting: usize,
}

/// `limits`: bounds of what peers may name. All lengths are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Bounds {
    /// A client's token. goim's frames carry bodies of 4,096 at most.
    pub token: usize,
    /// A key.
    pub key: usize,
    /// A room id.
    pub room: usize,
    /// A platform. It is kept with each session; the known ones have about ten characters.
    pub platform: usize,
    /// A comet's name: host names have at most 253 characters.
    pub server: usize,
    /// Operations in one token: what a body of 4,096 could hold of four-digit ones, rounded up.
    pub accepts: usize,
    /// Rooms in one report of a comet. See `rpcServer.maxMessage`.
    pub rooms: usize,
}

/// `comets`: where pushes go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Comets {
    /// Comets that do not register themselves, such as goim's own.
    pub fixed: Vec<FixedComet>,
    /// How often the leases are read from the store. Those that come to this process are seen at once.
    pub refresh: Human,
    /// How long a comet whose lease has ended without a word is taken to be cut off, with its clients: what is pushed to rooms and
    /// to all meanwhile is counted as lost to it. As long as its room counts live.
    pub cut_off: Human,
    /// Names of comets at once. A hundred comets serve 100 million clients.
    pub max: usize,
}

/// A comet that does not register itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct FixedComet {
    /// The name under which it calls logic: goim's `host`.
    pub server: String,
    /// Its gRPC service: `host:port`.
    pub grpc_address: String,
    /// Where clients reach it: addresses without a port.
    pub addrs: Vec<String>,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// Its deployment environment.
    pub env: String,
    /// Its share of new clients beside the others' weights.
    pub weight: i32,
    /// Not to be offered to new clients.
    pub offline: bool,
}

/// `shutdown`: how the process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Shutdown {
    /// How long calls under way may take to end.
    pub grace: Human,
}

impl Config {
    /// The bounds of the store.
    pub fn store_limits(&self) -> Limits {
        Limits {
            expire: self.sessions.expire.get(),
            lease: self.sessions.lease.get(),
            max_sessions: self.sessions.max,
            max_comets: self.comets.max,
        }
    }
}

impl RpcServer {
    /// How it knows who calls it.
    pub fn callers(&self) -> Callers {
        let asks = !self.token_file.is_empty() || self.tls.asks();
        Callers::of(asks, self.allow_unauthenticated)
    }
}

impl HttpServer {
    /// How it knows who calls it.
    pub fn callers(&self) -> Callers {
        Callers::of(!self.token_file.is_empty(), self.allow_unauthenticated)
    }
}

impl Node {
    /// Silence after which a comet closes a client.
    pub fn client_timeout(&self) -> Duration {
        self.heartbeat.get().saturating_mul(self.heartbeat_max)
    }
}
