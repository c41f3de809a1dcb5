//! What an operator can set. goim's sections and names where goim has them; `docs/configuration.md` lists every key.

mod checks;
mod defaults;

use std::time::Duration;

use common::{
    config::{Human, Spec},
    listen::Callers,
    mutual::{ClientTls, ServerTls},
    tls::MinVersion,
};
use serde::{Deserialize, Serialize};

use crate::channel::FullPolicy;

/// goim's keys that a goim file may carry and that have no effect here, and the variables that goim reads.
pub const SPEC: Spec = Spec {
    program: "comet",
    env_prefix: "COMET",
    ignored: &[
        ("discovery", "logic is found by `logic.addresses`"),
        (
            "rpcServer.timeout",
            "calls into comet have no time limit of their own: a push waits for at most `push.wait`",
        ),
        (
            "tcp.reader",
            "read buffers are pooled, see `protocol.readBuf`",
        ),
        (
            "tcp.readBuf",
            "read buffers are pooled, see `protocol.readBuf`",
        ),
        (
            "tcp.readBufSize",
            "read buffers are pooled, see `protocol.readBuf`",
        ),
        ("tcp.writer", "writes need no buffer: frames are shared"),
        ("tcp.writeBuf", "writes need no buffer: frames are shared"),
        (
            "tcp.writeBufSize",
            "writes need no buffer: frames are shared",
        ),
        (
            "protocol.timer",
            "heartbeats are swept by the buckets, see `protocol.sweep`",
        ),
        (
            "protocol.timerSize",
            "heartbeats are swept by the buckets, see `protocol.sweep`",
        ),
        ("bucket.channel", "maps grow as they need"),
        ("bucket.room", "maps grow as they need"),
        ("bucket.routineAmount", "a bucket is one task"),
        ("bucket.routineSize", "see `bucket.inbox`"),
    ],
    plain_env: &[
        ("REGION", "env.region"),
        ("ZONE", "env.zone"),
        ("DEPLOY_ENV", "env.deployEnv"),
        ("ADDRS", "env.addrs"),
        ("WEIGHT", "env.weight"),
        ("OFFLINE", "env.offline"),
    ],
};

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Who this comet is among others.
    pub env: Env,
    /// The TCP door.
    pub tcp: Tcp,
    /// The HTTP door, on which WebSocket is upgraded.
    pub websocket: WebSocket,
    /// What the doors behind TLS have in common beside their certificates.
    pub tls: Tls,
    /// Long-poll and Server-Sent Events, on the HTTP door.
    pub subscription: Subscription,
    /// Bounds of a connection.
    pub protocol: Protocol,
    /// The policy server of Flash.
    pub flash: Flash,
    /// The buckets that hold connections and rooms.
    pub bucket: Bucket,
    /// The push service: goim's `Comet` and `comet.v1` over gRPC.
    pub rpc_server: RpcServer,
    /// How logic is called: goim's section of this name.
    pub rpc_client: RpcClient,
    /// Where logic is, and what is asked of it.
    pub logic: Logic,
    /// Bounds of a push.
    pub push: Push,
    /// Health, readiness and metrics.
    pub monitor: Monitor,
    /// Whose every step is noted.
    pub whitelist: Whitelist,
    /// Bounds of what clients may take of this comet together, and of what each may do in a second.
    pub limits: Limits,
    /// The balancers before this comet, which say who their clients are.
    pub balancers: Balancers,
    /// The times of its end.
    pub drain: Drain,
}

/// The monitor, on goim's keys of its first version.
pub type Monitor = common::monitor::Config<3110>;

impl RpcServer {
    /// How it knows who calls it.
    pub fn callers(&self) -> Callers {
        let asks = !self.token_file.is_empty() || self.tls.asks();
        Callers::of(asks, self.allow_unauthenticated)
    }
}

impl Config {
    /// Whether a door is behind TLS.
    pub fn has_tls(&self) -> bool {
        self.websocket.tls_open || !self.tcp.tls_bind.is_empty()
    }

    /// After what time the system gives up a client of TCP or WebSocket that takes nothing, or whose network is gone. Not before this
    /// comet itself has closed it as one that does not read, and has told it so.
    pub fn gone_after(&self) -> Duration {
        self.limits.write_timeout.get() * 3 / 2 + self.protocol.close_timeout.get()
    }

    /// The same for a connection of HTTP, of which Server-Sent Events are one.
    pub fn http_gone_after(&self) -> Duration {
        self.websocket.idle.get() + self.protocol.close_timeout.get()
    }
}

/// Who this comet is. goim's environment variables and flags of the same names set these too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Env {
    /// The name under which sessions are stored; empty: the host's name. Two comets must not share one.
    pub host: String,
    /// Where it stands, for `nodes/weighted`.
    pub region: String,
    /// Within the region.
    pub zone: String,
    /// `dev`, `prod`, ...: shown by `nodes/instances`.
    pub deploy_env: String,
    /// Where clients reach it: host names or addresses without a port.
    pub addrs: Vec<String>,
    /// Where logic reaches its gRPC: host:port; empty: the listening address, with the host's name for a wildcard.
    pub grpc_address: String,
    /// Its share of new clients beside the other comets' weights.
    pub weight: i32,
    /// Not to be offered to new clients.
    pub offline: bool,
}

/// The TCP door.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tcp {
    /// Where it listens; `:3101` is every interface. Empty: no TCP door.
    pub bind: Vec<String>,
    /// Where it listens for the same behind TLS, with the certificates of `websocket`. Empty: nowhere.
    pub tls_bind: Vec<String>,
    /// `SO_SNDBUF` of connections in bytes; 0: the system's own growth, up to megabytes for a peer that does not read.
    pub sndbuf: usize,
    /// `SO_RCVBUF` of connections in bytes; 0: the system's.
    pub rcvbuf: usize,
    /// TCP keepalive probes. Heartbeats make them superfluous.
    pub keepalive: bool,
    /// Connections that wait to be accepted, for both doors.
    pub backlog: u32,
}

/// The HTTP door.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WebSocket {
    /// Where it listens; `:3102` is every interface. Empty: no HTTP door.
    pub bind: Vec<String>,
    /// The origins whose pages may connect: `*` for all, `https://example.com`, `https://*.example.com`, or without scheme and
    /// port. Programs that are no browsers name none, and may always.
    pub origins: Vec<String>,
    /// Whether the same is served behind TLS (WSS, HTTPS) at `tlsBind`.
    pub tls_open: bool,
    /// Where it listens behind TLS.
    pub tls_bind: Vec<String>,
    /// Files with a certificate and those above it, in PEM; several with commas between them. A client gets the first that is
    /// for the name it asks for (SNI), else the first of all.
    pub cert_file: String,
    /// Files with the private keys of `certFile`, in the same order, in PEM.
    pub private_file: String,
    /// Bytes of a request's line and headers. The HTTP library allows no less than 8192.
    pub max_head: usize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of one WebSocket message, which may hold several protos: 16 of the largest by default.
    pub max_message: usize,
    /// How long a plain HTTP connection may be idle between requests.
    pub idle: Human,
}

/// What the doors behind TLS have in common beside their certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// How often the files of the certificates are looked at. What is new in them counts from the next look on that sees the
    /// same; SIGHUP has them read at once.
    pub reload: Human,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`.
    pub min_version: MinVersion,
    /// Whether a certificate for `localhost`, `127.0.0.1` and `::1` is made at the start, in place of files. For development.
    pub development_certificate: bool,
}

/// The policy server of Flash, by goim's keys of its first version. A request has `protocol.handshakeTimeout`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Flash {
    /// Whether there is one.
    pub policy_open: bool,
    /// Where it listens: Flash asks at 843, which needs the right to ports below 1024.
    pub policy_bind: Vec<String>,
    /// Connections at once. Each lasts for a round trip.
    pub max_connections: usize,
}

/// Long-poll and Server-Sent Events: sessions that live on HTTP requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Subscription {
    /// Whether there are any.
    pub open: bool,
    /// Sessions at once, those between two requests included.
    pub sessions: usize,
    /// How long a poll is held when nothing comes. Proxies often give up after 60 s.
    pub hold: Human,
    /// How long a session lives without a request.
    pub idle: Human,
    /// How often a stream is sent a sign of life. Proxies often give up after 60 s of silence, some after 30.
    pub heartbeat: Human,
    /// After what time a browser whose stream broke comes back.
    pub retry: Human,
    /// Messages that a stream was sent and that are held in case it breaks.
    pub replay: usize,
    /// Bytes of them.
    pub replay_bytes: usize,
}

/// Bounds of a connection, the same behind each door.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Protocol {
    /// From accept to AuthReply.
    pub handshake_timeout: Human,
    /// Frames before Auth that are ignored before the connection is closed.
    pub greeting_frames: u32,
    /// Messages that wait for a slow client.
    pub svr_proto: usize,
    /// Bytes that wait for a slow client. The last message may go beyond, if nothing else waits.
    pub svr_bytes: usize,
    /// What a message finds that does not fit: `drop_newest`, `drop_oldest` or `disconnect`.
    pub full_policy: FullPolicy,
    /// Answers owed to a client before its connection is no longer read.
    pub cli_proto: usize,
    /// Bytes of the body of a client's frame.
    pub max_body: usize,
    /// Bytes of a room id.
    pub max_room: usize,
    /// Operations that one connection may accept.
    pub max_accepts: usize,
    /// Bytes of a pooled read buffer: one read takes at most so many.
    pub read_buf: usize,
    /// How often a bucket looks for clients whose heartbeats are overdue.
    pub sweep: Human,
    /// The silence after which a client is closed where logic names none.
    pub heartbeat: Human,
    /// How long a connection that we close may take to accept what it is still sent, and then to close its side.
    pub close_timeout: Human,
    /// Bytes from a client that are read and thrown away while its connection closes.
    pub linger_bytes: usize,
}

/// The buckets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Bucket {
    /// How many; 0: one for each core.
    pub size: usize,
    /// Pushes that wait in a bucket's inbox, of each kind.
    pub inbox: usize,
    /// Logins, goodbyes and room changes that wait in a bucket's inbox.
    pub control: usize,
    /// Connections that a fan-out serves before all else has a turn: about 0.25 ms at 8 us a write. Among that is gRPC, which may
    /// have the next messages for the same room: the sooner they wait in the inbox, the more are joined.
    pub slice: usize,
    /// Messages that are joined into one write.
    pub join_messages: usize,
    /// Bytes that are joined into one write.
    pub join_bytes: usize,
}

/// The push service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RpcServer {
    /// Where it listens.
    pub addr: String,
    /// A file of bearer tokens, of which callers must show one; empty: they need none.
    pub token_file: String,
    /// Whether it may listen beyond loopback although its callers show no proof of who they are.
    #[serde(alias = "allow_unauthenticated")]
    pub allow_unauthenticated: bool,
    /// Its TLS, and whether callers must show certificates.
    pub tls: ServerTls,
    /// Bytes of one gRPC message. goim's peers allow 16 MiB.
    pub max_message: usize,
    /// Connections at once: one for each logic or job, and some for people with grpcurl.
    pub max_connections: usize,
    /// Calls at once on one connection.
    pub max_streams: u32,
}

/// How logic is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RpcClient {
    /// Connecting to one address.
    pub dial: Human,
    /// One call, over all addresses that it tries.
    pub timeout: Human,
    /// A file of bearer tokens, of which logic is shown the first; empty: none.
    pub token_file: String,
    /// What logic's certificate must be, and what logic is shown.
    pub tls: ClientTls,
}

/// Logic.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Logic {
    /// `host:port` of each logic; a name stands for all addresses that DNS has for it.
    pub addresses: Vec<String>,
    /// How often names are looked up again.
    pub resolve: Human,
    /// How often RenewOnline tells the room counts.
    pub renew: Human,
    /// Longest time for which a comet that has just started lets nobody in, when logic says that not all who route pushes know
    /// it yet. logic-stub says 1.5 s; goim's logic says nothing.
    pub settle: Human,
    /// A session's Heartbeat is told after a random time from here ...
    pub heartbeat_min: Human,
    /// ... to here since the last one, when the client's own heartbeat comes. goim's 30 m are the whole life of a session, which
    /// then runs out before the client's next heartbeat: 20 m and two heartbeats of 4 m are within it.
    pub heartbeat_max: Human,
    /// Sessions a second that are registered again after logic has lost them.
    pub register_rate: u32,
    /// Receive calls of one connection that are under way at once. 1 keeps a client's messages in order.
    pub receive_concurrency: u32,
    /// Disconnects that wait to be told while logic is away: about 200 bytes each.
    pub goodbyes: usize,
    /// How long a Disconnect is tried before it is given up and counted.
    pub goodbye_age: Human,
}

/// Bounds of a push.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Push {
    /// How long a push waits for room in the inboxes before its caller gets RESOURCE_EXHAUSTED.
    pub wait: Human,
    /// Bytes of a message's body, also within a Raw.
    pub max_body: usize,
    /// Messages in a Raw that a pusher made.
    pub max_raw: usize,
    /// Keys of one push.
    pub max_keys: usize,
    /// Absent keys that a receipt names; the others are only counted.
    pub max_absent: usize,
    /// Messages of one `comet.v1` lane whose receipts are not yet sent.
    pub lane: usize,
    /// Paced broadcasts (`speed` above 0) under way at once.
    pub paced: usize,
    /// Streams of positions whose last position is remembered.
    pub streams: usize,
    /// Keys, each with a message, that are remembered of each stream of stored pushes.
    pub remembered: usize,
}

/// The whitelist: goim's list and log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Whitelist {
    /// Users whose steps are noted from the start.
    pub whitelist: Vec<i64>,
    /// Keys, the same.
    pub keys: Vec<String>,
    /// The file; empty: the process's log.
    pub white_log: String,
    /// Bytes of that file. At that it is renamed, and the one that was renamed before is gone.
    pub max_bytes: u64,
    /// Users and keys on the list.
    pub max: usize,
    /// Lines that wait to be written, about 250 bytes each: 16,384 are 4 MB.
    pub queue: usize,
}

/// Bounds of what clients may take of this comet together, and of what each may do in a second. For those that say so, 0 is
/// no bound.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Connections at once, logged in or not, through all doors. At 1 KiB for an idle one a million are 1 GiB.
    pub connections: usize,
    /// Connections at once from one client address. 0: no bound.
    pub per_address: u32,
    /// New connections a second, and as many at once after a pause. 0: no bound.
    pub rate: u32,
    /// The same for each client address. 0: no bound.
    pub address_rate: u32,
    /// Leading bits of an IPv6 address that make a client address: networks hand out 64 to one customer.
    pub network_bits: u8,
    /// Client addresses without a connection that are remembered for `addressRate`: about 100 bytes each.
    pub addresses: usize,
    /// Refused HTTP connections that are told why at once; one more is closed without a word.
    pub refusals: usize,
    /// Operations of one connection that are taken in a second; more wait in the network. 0: no bound.
    pub operations: u32,
    /// Bytes of one connection that are taken in a second; more wait in the network. 0: no bound.
    pub bytes: u32,
    /// How long a client may take nothing of what waits for it.
    pub write_timeout: Human,
    /// Rooms at once. 0: no bound.
    pub rooms: usize,
}

/// The balancers before this comet. What others say of clients is not believed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Balancers {
    /// From where they connect: addresses and networks, `10.0.0.1` or `10.0.0.0/8`.
    pub addresses: Vec<String>,
    /// Whether they begin each connection with a header of the PROXY protocol, version 1 or 2.
    pub proxy_protocol: bool,
    /// Whether they say in `X-Forwarded-For` who asks. Each has to append the address that it sees, as all common ones do.
    pub forwarded_for: bool,
    /// Bytes of a header of PROXY version 2 with its extensions.
    pub max_header: usize,
}

/// The times of a comet's end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Drain {
    /// From the beginning until clients are told: for balancers to see that this comet is not ready.
    pub wait: Human,
    /// The time over which clients are told to go; at least 100 a second are.
    pub over: Human,
    /// The time over which clients are told to come back elsewhere; at least 100 a second are.
    pub reconnect_over: Human,
}
