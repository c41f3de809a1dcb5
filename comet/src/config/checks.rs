//! What the values may be.

use std::time::Duration;

use common::{
    config::{Checks, Validate},
    listen::parse_bind,
    tls::PairFiles,
};

use super::{Balancers, Config, Limits, Protocol, Subscription, Tcp, WebSocket};
use crate::{networks, transport::http::origins::Origins};

impl Validate for Config {
    fn validate(&self, checks: &mut Checks) {
        self.tcp.validate(checks);
        self.websocket.validate(checks);
        self.validate_tls(checks);
        self.subscription.validate(checks);
        self.protocol.validate(checks);
        addresses("flash.policyBind", &self.flash.policy_bind, checks);
        let connections = self.flash.max_connections;
        checks.range("flash.maxConnections", connections, 1..=1 << 20);
        self.limits.validate(checks);
        self.balancers.validate(checks);
        let drain = &self.drain;
        checks.duration("drain.wait", drain.wait, millis(0)..=secs(3600));
        checks.duration("drain.over", drain.over, millis(0)..=secs(3600));
        checks.duration(
            "drain.reconnectOver",
            drain.reconnect_over,
            millis(0)..=secs(3600),
        );
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
        let server = &self.rpc_server;
        checks.range(
            "rpcServer.maxConnections",
            server.max_connections,
            1..=1 << 20,
        );
        checks.range("rpcServer.maxStreams", server.max_streams, 1..=1 << 20);
        checks.within("rpcServer.tls", |checks| server.tls.validate(checks));
        checks.range("env.weight", self.env.weight, 0..=1_000_000);
        self.validate_logic(checks);
        checks.within("monitor", |checks| self.monitor.validate(checks));
        let whitelist = &self.whitelist;
        checks.range("whitelist.maxBytes", whitelist.max_bytes, 65_536..=1 << 40);
        checks.range("whitelist.max", whitelist.max, 0..=1_000_000);
        checks.range("whitelist.queue", whitelist.queue, 1..=1 << 20);
        let listed = whitelist.whitelist.len() + whitelist.keys.len();
        let max = format!(
            "at most whitelist.max, {}, with whitelist.keys",
            whitelist.max
        );
        checks.that("whitelist.whitelist", listed, listed <= whitelist.max, &max);
        let push = &self.push;
        checks.duration("push.wait", push.wait, millis(1)..=secs(60));
        checks.range("push.maxBody", push.max_body, 1..=16 << 20);
        checks.range("push.maxRaw", push.max_raw, 1..=1 << 20);
        checks.range("push.maxKeys", push.max_keys, 1..=10_000_000);
        checks.range("push.maxAbsent", push.max_absent, 0..=10_000_000);
        checks.range("push.lane", push.lane, 1..=1 << 20);
        checks.range("push.paced", push.paced, 0..=4096);
        checks.range("push.streams", push.streams, 1..=1 << 20);
        checks.range("push.remembered", push.remembered, 1..=1 << 20);
    }
}

impl Config {
    fn validate_tls(&self, checks: &mut Checks) {
        let tls = &self.tls;
        checks.duration("tls.reload", tls.reload, millis(10)..=secs(86_400));
        if !self.has_tls() {
            return;
        }
        let (certificates, keys) = (&self.websocket.cert_file, &self.websocket.private_file);
        let pairs = PairFiles::from_lists(certificates, keys).map(|pairs| pairs.len());
        let is_made = tls.development_certificate;
        checks.that(
            "websocket.certFile",
            certificates,
            matches!(&pairs, Ok(0) if is_made) || matches!(&pairs, Ok(1..) if !is_made),
            "for doors behind TLS one or more files and as many of websocket.privateFile, or none and tls.developmentCertificate",
        );
    }

    fn validate_logic(&self, checks: &mut Checks) {
        let logic = &self.logic;
        let client = &self.rpc_client;
        checks.duration("rpcClient.dial", client.dial, millis(10)..=secs(60));
        checks.duration("rpcClient.timeout", client.timeout, millis(10)..=secs(300));
        checks.within("rpcClient.tls", |checks| client.tls.validate(checks));
        checks.that(
            "logic.addresses",
            logic.addresses.join(","),
            !logic.addresses.is_empty()
                && logic.addresses.iter().all(|address| address.contains(':')),
            "one or more host:port",
        );
        checks.duration("logic.resolve", logic.resolve, secs(1)..=secs(3600));
        checks.duration("logic.renew", logic.renew, millis(10)..=secs(3600));
        // A client that waits for that is not to be told that it was late itself.
        let longest = self.protocol.handshake_timeout.get();
        checks.duration("logic.settle", logic.settle, millis(0)..=longest);
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
        addresses("tcp.tlsBind", &self.tls_bind, checks);
        checks.range("tcp.sndbuf", self.sndbuf, 0..=1 << 30);
        checks.range("tcp.rcvbuf", self.rcvbuf, 0..=1 << 30);
        checks.range("tcp.backlog", self.backlog, 1..=65_535);
    }
}

impl WebSocket {
    fn validate(&self, checks: &mut Checks) {
        addresses("websocket.bind", &self.bind, checks);
        if let Err(error) = Origins::parse(&self.origins) {
            let form = "*, null, or [scheme://]host[:port], where the host may begin with *.";
            checks.that("websocket.origins", error, false, form);
        }
        addresses("websocket.tlsBind", &self.tls_bind, checks);
        checks.range("websocket.maxHead", self.max_head, 8192..=1 << 20);
        checks.range("websocket.maxHeaders", self.max_headers, 8..=1024);
        checks.range("websocket.maxMessage", self.max_message, 16..=64 << 20);
        checks.duration("websocket.idle", self.idle, secs(1)..=secs(3600));
    }
}

impl Subscription {
    fn validate(&self, checks: &mut Checks) {
        checks.range("subscription.sessions", self.sessions, 1..=10_000_000);
        checks.duration("subscription.hold", self.hold, millis(10)..=secs(3600));
        checks.duration("subscription.idle", self.idle, millis(100)..=secs(3600));
        checks.duration(
            "subscription.heartbeat",
            self.heartbeat,
            millis(10)..=secs(3600),
        );
        checks.duration("subscription.retry", self.retry, millis(1)..=secs(3600));
        checks.range("subscription.replay", self.replay, 0..=1 << 20);
        checks.range("subscription.replayBytes", self.replay_bytes, 0..=1 << 30);
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

impl Limits {
    fn validate(&self, checks: &mut Checks) {
        checks.range("limits.connections", self.connections, 1..=100_000_000);
        checks.range("limits.perAddress", self.per_address, 0..=100_000_000);
        checks.range("limits.rate", self.rate, 0..=10_000_000);
        checks.range("limits.addressRate", self.address_rate, 0..=10_000_000);
        checks.range("limits.networkBits", self.network_bits, 32..=128);
        checks.range("limits.addresses", self.addresses, 1..=100_000_000);
        checks.range("limits.refusals", self.refusals, 0..=65_536);
        checks.range("limits.operations", self.operations, 0..=100_000_000);
        checks.range("limits.bytes", self.bytes, 0..=1 << 31);
        checks.duration(
            "limits.writeTimeout",
            self.write_timeout,
            millis(100)..=secs(86_400),
        );
        checks.range("limits.rooms", self.rooms, 0..=100_000_000);
    }
}

impl Balancers {
    fn validate(&self, checks: &mut Checks) {
        for text in &self.addresses {
            checks.that(
                "balancers.addresses",
                text,
                networks::network(text).is_some(),
                "an address or a network: 10.0.0.1, 10.0.0.0/8, 2001:db8::/32",
            );
        }
        checks.range("balancers.maxHeader", self.max_header, 232..=65_551);
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
