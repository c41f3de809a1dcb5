//! What an operator can set. goim's sections and names where goim has them; `docs/configuration.md` lists every key.

use std::time::Duration;

use common::{
    config::{Checks, Human, Spec, Validate},
    listen::parse_bind,
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
        ("websocket.tlsBind", "this version has no TLS door"),
        ("websocket.certFile", "this version has no TLS door"),
        ("websocket.privateFile", "this version has no TLS door"),
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
        ("whitelist", "this version has no whitelist"),
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
    /// Bounds of a connection.
    pub protocol: Protocol,
    /// The buckets that hold connections and rooms.
    pub bucket: Bucket,
    /// The push service: goim's `Comet` and `comet.v1` over gRPC.
    pub rpc_server: RpcServer,
    /// Calls to logic: time limits, as goim's section of this name.
    pub rpc_client: RpcClient,
    /// Where logic is, and what is asked of it.
    pub logic: Logic,
    /// Bounds of a push.
    pub push: Push,
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
    /// WSS: not in this version; `true` ends the start.
    pub tls_open: bool,
    /// Bytes of a request's line and headers. The HTTP library allows no less than 8192.
    pub max_head: usize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Bytes of one WebSocket message, which may hold several protos: 16 of the largest by default.
    pub max_message: usize,
    /// How long a plain HTTP connection may be idle between requests.
    pub idle: Human,
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
    /// Connections that a fan-out serves before the bucket looks at its other work: about 2 ms at 8 us a write.
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
    /// Whether it may listen beyond loopback although its callers show no proof of who they are.
    #[serde(alias = "allow_unauthenticated")]
    pub allow_unauthenticated: bool,
    /// Bytes of one gRPC message. goim's peers allow 16 MiB.
    pub max_message: usize,
}

/// Time limits of calls to logic.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RpcClient {
    /// Connecting to one address.
    pub dial: Human,
    /// One call, over all addresses that it tries.
    pub timeout: Human,
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
    /// A session's Heartbeat is told after a random time from here ...
    pub heartbeat_min: Human,
    /// ... to here since the last one, when the client's own heartbeat comes.
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
    /// Streams of stored messages whose last position is remembered.
    pub streams: usize,
}

impl Default for Env {
    fn default() -> Self {
        Self {
            host: String::new(),
            region: "region".to_owned(),
            zone: "zone".to_owned(),
            deploy_env: "dev".to_owned(),
            addrs: vec!["127.0.0.1".to_owned()],
            grpc_address: String::new(),
            weight: 10,
            offline: false,
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            bind: vec![":3101".to_owned()],
            sndbuf: 64 << 10,
            rcvbuf: 0,
            keepalive: false,
            backlog: 4096,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            bind: vec![":3102".to_owned()],
            tls_open: false,
            max_head: 8192,
            max_headers: 64,
            max_message: 16 * (4096 + 16),
            idle: Human::secs(60),
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            handshake_timeout: Human::secs(8),
            greeting_frames: 32,
            svr_proto: 128,
            svr_bytes: 64 << 10,
            full_policy: FullPolicy::DropNewest,
            cli_proto: 16,
            max_body: protocol::codec::DEFAULT_MAX_BODY,
            max_room: 256,
            max_accepts: 256,
            read_buf: 8192,
            sweep: Human::secs(1),
            heartbeat: Human::secs(8 * 60),
            close_timeout: Human::secs(3),
            linger_bytes: 256 << 10,
        }
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            size: 0,
            inbox: 1024,
            control: 1024,
            slice: 256,
            join_messages: 64,
            join_bytes: 32 << 10,
        }
    }
}

impl Default for RpcServer {
    fn default() -> Self {
        Self {
            addr: ":3109".to_owned(),
            allow_unauthenticated: false,
            max_message: 16 << 20,
        }
    }
}

impl Default for RpcClient {
    fn default() -> Self {
        Self {
            dial: Human::secs(1),
            timeout: Human::secs(3),
        }
    }
}

impl Default for Logic {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:3119".to_owned()],
            resolve: Human::secs(10),
            renew: Human::secs(10),
            heartbeat_min: Human::secs(10 * 60),
            heartbeat_max: Human::secs(30 * 60),
            register_rate: 2000,
            receive_concurrency: 1,
            goodbyes: 65_536,
            goodbye_age: Human::secs(10 * 60),
        }
    }
}

impl Default for Push {
    fn default() -> Self {
        Self {
            wait: Human::secs(1),
            max_body: 1 << 20,
            max_raw: 4096,
            max_keys: 100_000,
            max_absent: 1000,
            lane: 4096,
            paced: 16,
            streams: 4096,
        }
    }
}

impl Validate for Config {
    fn validate(&self, checks: &mut Checks) {
        self.tcp.validate(checks);
        self.websocket.validate(checks);
        self.protocol.validate(checks);
        let bucket = &self.bucket;
        checks.range("bucket.size", bucket.size, 0..=crate::room::MAX_BUCKETS);
        checks.range("bucket.inbox", bucket.inbox, 1..=1 << 20);
        checks.range("bucket.control", bucket.control, 1..=1 << 20);
        checks.range("bucket.slice", bucket.slice, 1..=1 << 20);
        checks.range("bucket.joinMessages", bucket.join_messages, 1..=65_536);
        checks.range("bucket.joinBytes", bucket.join_bytes, 1..=16 << 20);
        let addr = std::slice::from_ref(&self.rpc_server.addr);
        addresses("rpcServer.addr", addr, checks);
        checks.range(
            "rpcServer.maxMessage",
            self.rpc_server.max_message,
            4096..=256 << 20,
        );
        checks.range("env.weight", self.env.weight, 0..=1_000_000);
        self.validate_logic(checks);
        let push = &self.push;
        checks.duration("push.wait", push.wait, millis(1)..=secs(60));
        checks.range("push.maxBody", push.max_body, 1..=16 << 20);
        checks.range("push.maxRaw", push.max_raw, 1..=1 << 20);
        checks.range("push.maxKeys", push.max_keys, 1..=10_000_000);
        checks.range("push.maxAbsent", push.max_absent, 0..=10_000_000);
        checks.range("push.lane", push.lane, 1..=1 << 20);
        checks.range("push.paced", push.paced, 0..=4096);
        checks.range("push.streams", push.streams, 1..=1 << 20);
    }
}

impl Config {
    fn validate_logic(&self, checks: &mut Checks) {
        let logic = &self.logic;
        let client = &self.rpc_client;
        checks.duration("rpcClient.dial", client.dial, millis(10)..=secs(60));
        checks.duration("rpcClient.timeout", client.timeout, millis(10)..=secs(300));
        checks.that(
            "logic.addresses",
            logic.addresses.join(","),
            !logic.addresses.is_empty()
                && logic.addresses.iter().all(|address| address.contains(':')),
            "one or more host:port",
        );
        checks.duration("logic.resolve", logic.resolve, secs(1)..=secs(3600));
        checks.duration("logic.renew", logic.renew, millis(10)..=secs(3600));
        checks.duration(
            "logic.heartbeatMin",
            logic.heartbeat_min,
            millis(1)..=secs(86_400),
        );
        checks.duration(
            "logic.heartbeatMax",
            logic.heartbeat_max,
            logic.heartbeat_min.get()..=secs(86_400),
        );
        checks.range("logic.registerRate", logic.register_rate, 1..=1_000_000);
        checks.range(
            "logic.receiveConcurrency",
            logic.receive_concurrency,
            1..=1024,
        );
        checks.range("logic.goodbyes", logic.goodbyes, 1..=100_000_000);
        checks.duration(
            "logic.goodbyeAge",
            logic.goodbye_age,
            secs(1)..=secs(86_400),
        );
    }
}

impl Tcp {
    fn validate(&self, checks: &mut Checks) {
        addresses("tcp.bind", &self.bind, checks);
        checks.range("tcp.sndbuf", self.sndbuf, 0..=1 << 30);
        checks.range("tcp.rcvbuf", self.rcvbuf, 0..=1 << 30);
        checks.range("tcp.backlog", self.backlog, 1..=65_535);
    }
}

impl WebSocket {
    fn validate(&self, checks: &mut Checks) {
        addresses("websocket.bind", &self.bind, checks);
        checks.that(
            "websocket.tlsOpen",
            self.tls_open,
            !self.tls_open,
            "false: this version has no TLS door, put a TLS terminator in front",
        );
        checks.range("websocket.maxHead", self.max_head, 8192..=1 << 20);
        checks.range("websocket.maxHeaders", self.max_headers, 8..=1024);
        checks.range("websocket.maxMessage", self.max_message, 16..=64 << 20);
        checks.duration("websocket.idle", self.idle, secs(1)..=secs(3600));
    }
}

impl Protocol {
    fn validate(&self, checks: &mut Checks) {
        checks.duration(
            "protocol.handshakeTimeout",
            self.handshake_timeout,
            millis(100)..=secs(300),
        );
        checks.range("protocol.greetingFrames", self.greeting_frames, 0..=65_535);
        checks.range("protocol.svrProto", self.svr_proto, 1..=1 << 20);
        checks.range("protocol.svrBytes", self.svr_bytes, 1024..=1 << 30);
        checks.range("protocol.cliProto", self.cli_proto, 1..=4096);
        checks.range("protocol.maxBody", self.max_body, 0..=16 << 20);
        checks.range("protocol.maxRoom", self.max_room, 1..=4096);
        checks.range("protocol.maxAccepts", self.max_accepts, 1..=65_536);
        checks.range("protocol.readBuf", self.read_buf, 512..=1 << 20);
        checks.duration("protocol.sweep", self.sweep, millis(100)..=secs(60));
        checks.duration("protocol.heartbeat", self.heartbeat, secs(1)..=secs(86_400));
        checks.duration(
            "protocol.closeTimeout",
            self.close_timeout,
            millis(1)..=secs(60),
        );
        checks.range("protocol.lingerBytes", self.linger_bytes, 0..=1 << 30);
    }
}

fn addresses(key: &str, values: &[String], checks: &mut Checks) {
    for value in values {
        checks.that(key, value, parse_bind(value).is_ok(), "[host]:port");
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
