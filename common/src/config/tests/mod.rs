//! What is accepted, over a configuration shaped like comet's.

mod refused;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    debug: bool,
    labels: BTreeMap<String, String>,
    env: Env,
    tcp: Tcp,
    protocol: Protocol,
    whitelist: Whitelist,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Env {
    region: String,
    weight: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Tcp {
    bind: Vec<String>,
    sndbuf: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Protocol {
    handshake_timeout: Human,
    policy: Policy,
    jitter: f64,
    api_token: String,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Whitelist {
    mids: Vec<i64>,
    names: Vec<String>,
    white_log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Policy {
    DropNewest,
    Disconnect,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            debug: false,
            labels: BTreeMap::new(),
            env: Env {
                weight: 10,
                ..Env::default()
            },
            tcp: Tcp::default(),
            protocol: Protocol::default(),
            whitelist: Whitelist::default(),
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            bind: vec![":3101".into()],
            sndbuf: 4096,
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            handshake_timeout: Human::secs(5),
            policy: Policy::DropNewest,
            jitter: 0.3,
            api_token: String::new(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, checks: &mut Checks) {
        checks.range("tcp.sndbuf", self.tcp.sndbuf, 0..=1 << 20);
        checks.range("protocol.jitter", self.protocol.jitter, 0.0..=1.0);
        checks.duration(
            "protocol.handshakeTimeout",
            self.protocol.handshake_timeout,
            Duration::from_millis(100)..=Duration::from_mins(1),
        );
        checks.that(
            "tcp.bind",
            self.tcp.bind.len(),
            !self.tcp.bind.is_empty(),
            "at least one address",
        );
    }
}

const SPEC: Spec = Spec {
    program: "comet",
    env_prefix: "COMET",
    ignored: &[
        ("tcp.reader", "buffers are pooled for all connections"),
        ("discovery", "logic's addresses are in logic.addrs"),
        ("rpcClient.dial", "calls have one limit each"),
    ],
    plain_env: &[("REGION", "env.region"), ("WEIGHT", "env.weight")],
};

fn from(file: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Loaded<Config>, Vec<String>> {
    let mut layers = Layers::new(&SPEC, defaults::<Config>().unwrap());
    layers.file(Path::new("comet.toml"), &file.parse().unwrap());
    let env: Vec<_> = env
        .iter()
        .map(|(n, v)| ((*n).to_string(), (*v).to_string()))
        .collect();
    layers.environment(&env);
    for flag in set {
        layers.flag(flag);
    }
    match decode(&mut layers) {
        Some(config) if layers.problems.is_empty() => Ok(Loaded {
            config,
            warnings: layers.warnings,
        }),
        _ => Err(layers.problems),
    }
}

fn config(file: &str, env: &[(&str, &str)], set: &[&str]) -> Config {
    from(file, env, set).unwrap().config
}

fn problems(file: &str, env: &[(&str, &str)], set: &[&str]) -> Vec<String> {
    from(file, env, set).unwrap_err()
}

#[test]
fn nothing_given_is_the_default() {
    let loaded: Loaded<Config> = load(&SPEC, &Sources::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn later_sources_win() {
    let file = "[tcp]\nsndbuf = 1\n[protocol]\nhandshakeTimeout = '8s'\n[env]\nregion = 'file'";
    assert_eq!(config(file, &[], &[]).tcp.sndbuf, 1);
    let env = [
        ("COMET__TCP__SNDBUF", "2"),
        ("COMET__PROTOCOL__HANDSHAKE_TIMEOUT", "1m"),
    ];
    let both = config(file, &env, &[]);
    assert_eq!(
        (both.tcp.sndbuf, both.protocol.handshake_timeout),
        (2, Human::secs(60))
    );
    assert_eq!(
        config(file, &env, &["tcp.sndbuf=3", "TCP.SndBuf = 4"])
            .tcp
            .sndbuf,
        4
    );
    assert_eq!(
        config(file, &[("REGION", "plain")], &[]).env.region,
        "plain"
    );
    assert_eq!(config(file, &[("REGION", "")], &[]).env.region, "file");
    let prefixed = [("COMET__ENV__REGION", "prefixed"), ("REGION", "plain")];
    assert_eq!(config(file, &prefixed, &[]).env.region, "prefixed");
}

#[test]
fn a_table_given_in_part_keeps_the_defaults_of_the_whole() {
    // Env's own default weight is 0; that of the configuration is 10.
    assert_eq!(config("[env]\nregion = 'sh'", &[], &[]).env.weight, 10);
}

#[test]
fn variables_and_flags_are_read_as_their_key_wants() {
    let env = [
        ("COMET__TCP__BIND", ":3101,:3104"),
        ("COMET__ENV__REGION", "042"),
        ("COMET__WHITELIST__MIDS", "1, 2"),
        ("COMET__WHITELIST__NAMES", "1,2"),
        ("COMET__PROTOCOL__POLICY", "disconnect"),
        ("COMET__PROTOCOL__JITTER", "1"),
        ("COMET__DEBUG", "true"),
        ("COMET__LABELS", "{ a = 'x' }"),
    ];
    let read = config("", &env, &["whitelist.whiteLog=/tmp/w.log", "labels.b=y"]);
    assert_eq!(read.tcp.bind, [":3101", ":3104"]);
    assert_eq!(read.env.region, "042");
    assert_eq!(read.whitelist.mids, [1, 2]);
    assert_eq!(read.whitelist.names, ["1", "2"]);
    assert_eq!(read.whitelist.white_log, "/tmp/w.log");
    assert_eq!(read.protocol.policy, Policy::Disconnect);
    assert!((read.protocol.jitter - 1.0).abs() < f64::EPSILON);
    assert!(read.debug);
    assert_eq!(
        read.labels,
        BTreeMap::from([("a".into(), "x".into()), ("b".into(), "y".into())])
    );
    assert_eq!(config("", &[], &["tcp={sndbuf = 7}"]).tcp.sndbuf, 7);
}

#[test]
fn goims_capitals_are_read() {
    let read = config(
        "[whitelist]\nWhiteLog = 'w.log'\n[TCP]\nSndbuf = 9",
        &[],
        &[],
    );
    assert_eq!(
        (read.whitelist.white_log.as_str(), read.tcp.sndbuf),
        ("w.log", 9)
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let env = [
        ("COMET_PORT", "tcp://10.0.0.1:3101"),
        ("COMET_SERVICE_HOST", "10.0.0.1"),
        ("COMETX__A", "1"),
    ];
    assert_eq!(config("", &env, &[]), Config::default());
}

#[test]
fn each_ignored_key_gets_one_warning() {
    let file =
        "[tcp]\nreader = 32\n[discovery]\nnodes = ['a', 'b']\nx = 1\n[rpcClient]\ndial = '1s'";
    let env = [
        ("COMET__TCP__READER", "8"),
        ("COMET__DISCOVERY__NODES", "c"),
    ];
    let loaded = from(file, &env, &["Discovery.nodes=d"]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(
        loaded.warnings,
        [
            "discovery (file comet.toml) has no effect here: logic's addresses are in logic.addrs",
            "rpcClient.dial (file comet.toml) has no effect here: calls have one limit each",
            "tcp.reader (file comet.toml) has no effect here: buffers are pooled for all connections",
            "tcp.reader (environment COMET__TCP__READER) has no effect here: buffers are pooled for all connections",
            "discovery (environment COMET__DISCOVERY__NODES) has no effect here: logic's addresses are in logic.addrs",
            "Discovery (--set Discovery.nodes) has no effect here: logic's addresses are in logic.addrs",
        ]
    );
}

#[test]
fn keys_are_listed_for_the_documentation() {
    assert_eq!(
        keys::<Config>(),
        [
            "debug",
            "env.region",
            "env.weight",
            "labels",
            "protocol.apiToken",
            "protocol.handshakeTimeout",
            "protocol.jitter",
            "protocol.policy",
            "tcp.bind",
            "tcp.sndbuf",
            "whitelist.mids",
            "whitelist.names",
            "whitelist.whiteLog",
        ]
    );
}

#[test]
fn the_environment_is_not_debug_printed() {
    let sources = Sources {
        env: vec![("A".into(), "s3cret".into())],
        ..Sources::default()
    };
    assert!(!format!("{sources:?}").contains("s3cret"));
    let own = Sources::from_process(None, vec!["a=1".into()]);
    assert_eq!(own.set, ["a=1"]);
    assert!(own.env.iter().any(|(name, _)| name == "PATH"));
}
