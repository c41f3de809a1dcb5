//! Which values are allowed.

use std::time::Duration;

use common::{
    config::{Checks, Validate},
    listen::parse_bind,
};

use super::{
    Backoff, Bounds, Comets, Config, HttpServer, Kick, Lanes, Node, QueueMode, RpcClient,
    RpcServer, Sessions,
};

impl Validate for Config {
    fn validate(&self, checks: &mut Checks) {
        self.rpc_server.validate(checks);
        self.rpc_client.validate(checks);
        self.lanes.validate(checks);
        self.queue.validate(checks);
        self.kick.validate(checks);
        self.http_server.validate(checks);
        self.auth.validate(checks);
        self.node.validate(checks);
        self.backoff.validate(checks);
        self.sessions.validate(checks);
        self.redis.validate(checks);
        if let Err(error) = self.store_place() {
            let key = if self.redis.url.is_empty() {
                "redis.addr"
            } else {
                "redis.url"
            };
            // Texts of any form may hold a password.
            checks.that(key, "(hidden)", false, &error.to_string());
        }
        if self.queue.replicas > 0 {
            let in_redis = matches!(self.store_place(), Ok(Some(_)));
            let ok = in_redis && self.queue.mode != QueueMode::Direct;
            let allowed =
                "0, or redis.addr or redis.url, and a queue.mode that stores pushes there";
            checks.that("queue.replicas", self.queue.replicas, ok, allowed);
        }
        self.limits.validate(checks);
        self.comets.validate(checks);
        checks.duration("shutdown.grace", self.shutdown.grace, Duration::ZERO..=HOUR);
        checks.within("monitor", |checks| self.monitor.validate(checks));
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// The largest message that HTTP/2 libraries take without harm: 256 MiB.
const MAX_MESSAGE: usize = 256 << 20;

impl RpcServer {
    fn validate(&self, checks: &mut Checks) {
        address("rpcServer.addr", &self.addr, checks);
        checks.duration("rpcServer.timeout", self.timeout, MILLISECOND..=HOUR);
        checks.duration(
            "rpcServer.keepAliveInterval",
            self.keep_alive_interval,
            SECOND..=HOUR,
        );
        checks.duration(
            "rpcServer.keepAliveTimeout",
            self.keep_alive_timeout,
            SECOND..=HOUR,
        );
        checks.within("rpcServer.tls", |checks| self.tls.validate(checks));
        checks.range("rpcServer.maxStreams", self.max_streams, 1..=1 << 20);
        checks.range(
            "rpcServer.maxConnections",
            self.max_connections,
            1..=1 << 20,
        );
        checks.range(
            "rpcServer.maxMessage",
            self.max_message,
            1_024..=MAX_MESSAGE,
        );
    }
}

impl RpcClient {
    fn validate(&self, checks: &mut Checks) {
        checks.duration("rpcClient.dial", self.dial, MILLISECOND..=HOUR);
        checks.duration("rpcClient.timeout", self.timeout, MILLISECOND..=HOUR);
        checks.duration(
            "rpcClient.keepAliveInterval",
            self.keep_alive_interval,
            SECOND..=HOUR,
        );
        checks.duration(
            "rpcClient.keepAliveTimeout",
            self.keep_alive_timeout,
            SECOND..=HOUR,
        );
        checks.range(
            "rpcClient.maxMessage",
            self.max_message,
            1_024..=MAX_MESSAGE,
        );
        checks.range("rpcClient.keysPerCall", self.keys_per_call, 1..=1_000_000);
        checks.within("rpcClient.tls", |checks| self.tls.validate(checks));
    }
}

impl Lanes {
    fn validate(&self, checks: &mut Checks) {
        checks.range("lanes.messages", self.messages, 1..=1 << 24);
        checks.range("lanes.bytes", self.bytes, 65_536..=1 << 36);
        checks.range("lanes.batchMessages", self.batch_messages, 1..=65_536);
        checks.range("lanes.batchBytes", self.batch_bytes, 1_024..=MAX_MESSAGE);
        checks.range("lanes.window", self.window, 1..=65_536);
        checks.range("lanes.calls", self.calls, 1..=65_536);
        // What comet takes in one Raw.
        checks.range("lanes.merge", self.merge, 1..=4_096);
        checks.duration("lanes.retry", self.retry, MILLISECOND..=HOUR);
        checks.duration("lanes.reconnect", self.reconnect, MILLISECOND..=HOUR);
        checks.duration("lanes.report", self.report, MILLISECOND..=HOUR);
        checks.range("lanes.reportKeys", self.report_keys, 0..=1_000_000);
    }
}

impl Kick {
    fn validate(&self, checks: &mut Checks) {
        checks.duration("kick.timeout", self.timeout, MILLISECOND..=HOUR);
        checks.duration("kick.retry", self.retry, Duration::ZERO..=HOUR);
        checks.duration("kick.settle", self.settle, Duration::ZERO..=HOUR);
        checks.range("kick.waiting", self.waiting, 1..=1 << 24);
    }
}

impl HttpServer {
    fn validate(&self, checks: &mut Checks) {
        address("httpServer.addr", &self.addr, checks);
        checks.duration(
            "httpServer.readTimeout",
            self.read_timeout,
            MILLISECOND..=HOUR,
        );
        checks.duration(
            "httpServer.writeTimeout",
            self.write_timeout,
            MILLISECOND..=HOUR,
        );
        checks.range("httpServer.maxBody", self.max_body, 1..=MAX_MESSAGE);
        // The HTTP library takes no smaller buffer than 8 KiB.
        checks.range("httpServer.maxHead", self.max_head, 8_192..=MAX_MESSAGE);
        checks.range("httpServer.maxValues", self.max_values, 1..=1_000_000);
        checks.range(
            "httpServer.maxConnections",
            self.max_connections,
            1..=1 << 20,
        );
    }
}

impl Node {
    fn validate(&self, checks: &mut Checks) {
        checks.duration("node.heartbeat", self.heartbeat, SECOND..=DAY);
        checks.range("node.heartbeatMax", self.heartbeat_max, 1..=1_000);
        checks.range("node.tcpPort", self.tcp_port, 1..=u16::MAX);
        checks.range("node.wsPort", self.ws_port, 1..=u16::MAX);
        checks.range("node.wssPort", self.wss_port, 1..=u16::MAX);
        checks.range("node.regionWeight", self.region_weight, 0.01..=1_000.0);
    }
}

impl Backoff {
    fn validate(&self, checks: &mut Checks) {
        checks.range("backoff.maxDelay", self.max_delay, 1..=86_400);
        checks.range("backoff.baseDelay", self.base_delay, 0..=86_400);
        checks.range("backoff.factor", self.factor, 1.0..=100.0);
        checks.range("backoff.jitter", self.jitter, 0.0..=10.0);
    }
}

impl Sessions {
    fn validate(&self, checks: &mut Checks) {
        checks.duration("sessions.expire", self.expire, SECOND..=DAY);
        checks.range("sessions.max", self.max, 1..=1_000_000_000);
        checks.duration("sessions.lease", self.lease, SECOND..=HOUR);
        checks.duration("sessions.sweep", self.sweep, MILLISECOND..=HOUR);
        checks.range("sessions.maxPerMid", self.max_per_mid, 1..=10_000);
    }
}

impl Bounds {
    fn validate(&self, checks: &mut Checks) {
        checks.range("limits.token", self.token, 1..=1 << 20);
        // A random key is a UUID of 36 characters.
        checks.range("limits.key", self.key, 36..=65_536);
        checks.range("limits.room", self.room, 1..=65_536);
        checks.range("limits.platform", self.platform, 0..=4_096);
        checks.range("limits.server", self.server, 1..=65_536);
        checks.range("limits.accepts", self.accepts, 0..=1 << 20);
        checks.range("limits.rooms", self.rooms, 1..=100_000_000);
    }
}

impl Comets {
    fn validate(&self, checks: &mut Checks) {
        checks.duration("comets.refresh", self.refresh, MILLISECOND..=HOUR);
        checks.duration("comets.cutOff", self.cut_off, Duration::ZERO..=HOUR);
        checks.range("comets.max", self.max, 1..=65_536);
        for (index, comet) in self.fixed.iter().enumerate() {
            let key = |name| format!("comets.fixed.{index}.{name}");
            let doubled = self.fixed[..index]
                .iter()
                .any(|other| other.server == comet.server);
            let named = !comet.server.is_empty() && !doubled;
            checks.that(
                &key("server"),
                &comet.server,
                named,
                "a name of its own for each comet",
            );
            let reachable =
                tonic::transport::Endpoint::from_shared(format!("http://{}", comet.grpc_address));
            let has_port = comet
                .grpc_address
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let reachable = reachable.is_ok() && has_port;
            checks.that(
                &key("grpcAddress"),
                &comet.grpc_address,
                reachable,
                "host:port",
            );
            checks.range(&key("weight"), comet.weight, 1..=1 << 20);
        }
    }
}

fn address(key: &str, value: &str, checks: &mut Checks) {
    checks.that(key, value, parse_bind(value).is_ok(), "[host]:port");
}

#[cfg(test)]
mod tests {
    use common::config::{self, Human, Sources};

    use super::*;
    use crate::config::SPEC;

    fn load(text: &str, set: &[&str]) -> Result<Config, String> {
        let file = std::env::temp_dir().join(format!("logic-stub-{}.toml", uuid::Uuid::new_v4()));
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file.clone()),
            env: Vec::new(),
            set: set.iter().map(|&set| set.to_owned()).collect(),
        };
        let loaded = config::load(&SPEC, &sources);
        std::fs::remove_file(file).unwrap();
        loaded
            .map(|loaded| loaded.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_goims_and_allowed() {
        let config = load("", &[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.node.client_timeout(), Duration::from_mins(8));
        assert_eq!(
            (
                config.rpc_server.addr.as_str(),
                config.http_server.addr.as_str()
            ),
            (":3119", ":3111")
        );
    }

    #[test]
    fn a_file_of_goims_logic_is_understood() {
        let text = r#"
            perf = "0.0.0.0:8010"
            [regions]
            "bj" = ["Beijing", "Tianjin"]
            [node]
            defaultDomain = "goim.example"
            heartbeat = "30s"
            heartbeatMax = 3
            tcpPort = 8001
            [discovery]
            nodes = ["127.0.0.1:7171"]
            [httpServer]
            addr = "0.0.0.0:8011"
            readTimeout = "1s"
            [kafka]
            topic = "goim-push-topic"
            [redis]
            network = "tcp"
            addr = "127.0.0.1:6379"
            active = 60000
            idle = 1024
            dialTimeout = "200ms"
            readTimeout = "500ms"
            writeTimeout = "500ms"
            idleTimeout = "120s"
            expire = "30m"
        "#;
        let config = load(text, &[]).unwrap();
        assert_eq!(config.node.client_timeout(), Duration::from_secs(90));
        assert_eq!(config.regions["bj"], ["Beijing", "Tianjin"]);
        assert_eq!(config.http_server.read_timeout, Human::secs(1));
        assert_eq!(config.redis.read_timeout, Human::millis(500));
        let place = config.store_place().unwrap().unwrap();
        assert_eq!(place.to_string(), "redis 127.0.0.1:6379");
    }

    #[test]
    fn redis_is_where_its_keys_say_and_its_password_is_told_nobody() {
        let place = |set: &[&str]| load("", set).map(|config| config.store_place().unwrap());
        assert!(place(&[]).unwrap().is_none());
        let url = "redis.url=redis+cluster://:hush@a:1,b:2";
        let both = place(&[url, "redis.addr=c:3"]).unwrap().unwrap();
        assert_eq!(both.to_string(), "redis cluster a:1,b:2");
        let config = load("", &[url, "redis.auth=hush"]).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        for wrong in ["redis.url=redis+x://:hush@a:1", "redis.url=:hush@a:1"] {
            let error = load("", &[wrong]).unwrap_err();
            assert!(
                error.contains("redis.url") && !error.contains("hush"),
                "{error}"
            );
        }
    }

    #[test]
    fn bad_values_are_named() {
        for (text, key) in [
            ("[rpcServer]\naddr = \"nowhere\"", "rpcServer.addr"),
            ("[node]\nheartbeat = \"0s\"", "node.heartbeat"),
            ("[node]\nregionWeight = 0.0", "node.regionWeight"),
            ("[httpServer]\nmaxBody = 0", "httpServer.maxBody"),
            (
                "[[comets.fixed]]\nserver = \"a\"\ngrpcAddress = \"a\"",
                "comets.fixed.0.grpcAddress",
            ),
            (
                "[[comets.fixed]]\ngrpcAddress = \"a:1\"",
                "comets.fixed.0.server",
            ),
            (
                "[rpcServer.tls]\ncertFile = \"a\"",
                "rpcServer.tls.certFile",
            ),
            (
                "[rpcServer.tls]\nclientCaFile = \"a\"",
                "rpcServer.tls.clientCaFile",
            ),
            (
                "[rpcClient.tls]\ncertFile = \"a\"\nprivateFile = \"a\"",
                "rpcClient.tls.certFile",
            ),
            (
                "[rpcClient.tls]\ncaFile = \"a\"\nserverName = \"a b\"",
                "rpcClient.tls.serverName",
            ),
            ("[auth]\nmode = \"jwt\"", "auth.mode"),
            ("[auth]\nleeway = \"1h\"", "auth.leeway"),
            ("[auth.claims]\nmid = \"\"", "auth.claims.mid"),
            ("[redis]\naddr = \"nowhere:port\"", "redis.addr"),
            ("[redis]\nreadTimeout = \"0s\"", "redis.readTimeout"),
            ("[httpServer]\nmaxBoddy = 1", "httpServer.maxBoddy"),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(key), "{key} is not in: {error}");
        }
    }
}
