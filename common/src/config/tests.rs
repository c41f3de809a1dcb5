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
fn wrong_types_are_reported_all_at_once() {
    let file = "debug = 'yes'\n[tcp]\nbind = [':3101', 7]\n[protocol]\npolicy = 'drop'\njitter = []\nhandshakeTimeout = 8";
    assert_eq!(
        problems(
            file,
            &[("COMET__TCP__SNDBUF", "x"), ("WEIGHT", "heavy")],
            &["whitelist.mids=1,b"]
        ),
        [
            "debug = \"yes\" (file comet.toml): expected true or false",
            "env.weight = \"heavy\" (environment WEIGHT): expected an integer from 0 to 4294967295",
            "protocol.handshakeTimeout = 8 (file comet.toml): expected a time such as \"250ms\", \"8s\" or \"1h 30m\"",
            "protocol.jitter = [] (file comet.toml): expected a number",
            "protocol.policy = \"drop\" (file comet.toml): expected `drop_newest` or `disconnect`",
            "tcp.bind[1] = 7 (file comet.toml): expected a string",
            "tcp.sndbuf = \"x\" (environment COMET__TCP__SNDBUF): expected an integer from 0 to 4294967295",
            "whitelist.mids[0] = \"1\" (--set whitelist.mids): expected an integer from -9223372036854775808 to 9223372036854775807",
        ]
    );
}

#[test]
fn values_out_of_range_are_reported_all_at_once() {
    let file = "[protocol]\nhandshakeTimeout = '2m'\njitter = nan";
    assert_eq!(
        problems(
            file,
            &[("COMET__TCP__SNDBUF", "1048577"), ("COMET__TCP__BIND", "")],
            &[]
        ),
        [
            "tcp.sndbuf = 1048577 (environment COMET__TCP__SNDBUF): expected a number from 0 to 1048576",
            "protocol.jitter = NaN (file comet.toml): expected a number from 0 to 1",
            "protocol.handshakeTimeout = \"2m\" (file comet.toml): expected a time from 100ms to 1m",
            "tcp.bind = 0 (environment COMET__TCP__BIND): expected at least one address",
        ]
    );
    assert_eq!(
        problems("", &[], &["tcp.sndbuf=-1", "protocol.jitter=2"]),
        [
            "tcp.sndbuf = -1 (--set tcp.sndbuf): expected an integer from 0 to 4294967295",
            "protocol.jitter = 2 (--set protocol.jitter): expected a number from 0 to 1",
        ]
    );
}

#[test]
fn unknown_keys_come_with_help() {
    let file = "sndbuf = 1\nelephant = 2\n[tcp]\nsndbuff = 1\nzebra = 3\n[protcol]\njitter = 1\n[giraffe]\na = 1";
    assert_eq!(
        problems(file, &[], &["tcp.bnd=:1"]),
        [
            "elephant (file comet.toml): no such key; there are debug, env, labels, protocol, tcp, whitelist",
            "giraffe (file comet.toml): no such table; there are debug, env, labels, protocol, tcp, whitelist",
            "protcol (file comet.toml): no such table; did you mean protocol?",
            "sndbuf (file comet.toml): no such key; did you mean tcp.sndbuf?",
            "tcp.sndbuff (file comet.toml): no such key; did you mean tcp.sndbuf?",
            "tcp.zebra (file comet.toml): no such key; tcp has bind, sndbuf",
            "tcp.bnd (--set tcp.bnd): no such key; did you mean tcp.bind?",
        ]
    );
}

#[test]
fn unknown_variables_are_errors() {
    let env = [
        ("COMET__TCP__SNDBUFF", "1"),
        ("COMET__TCP__ZEBRA", "1"),
        ("COMET__", "1"),
        ("COMET__GIRAFFE__A", "1"),
    ];
    assert_eq!(
        problems("", &env, &[]),
        [
            "COMET__TCP__SNDBUFF (environment): no such key; did you mean COMET__TCP__SNDBUF?",
            "COMET__TCP__ZEBRA (environment): no such key; there are COMET__TCP__BIND, COMET__TCP__SNDBUF",
            "COMET__ (environment): no such key; there are COMET__DEBUG, COMET__ENV__*, COMET__LABELS, \
             COMET__PROTOCOL__*, COMET__TCP__*, COMET__WHITELIST__*",
            "COMET__GIRAFFE__A (environment): no such key; there are COMET__DEBUG, COMET__ENV__*, COMET__LABELS, \
             COMET__PROTOCOL__*, COMET__TCP__*, COMET__WHITELIST__*",
        ]
    );
}

#[test]
fn a_value_in_the_place_of_a_table_is_refused() {
    assert_eq!(
        problems(
            "tcp = 3",
            &[],
            &["protocol=x", "debug.on=true", "tcp.sndbuf"]
        ),
        [
            "tcp = 3 (file comet.toml): expected a table of bind, sndbuf",
            "protocol = \"x\" (--set protocol): expected a table of apiToken, handshakeTimeout, jitter, policy",
            "--set tcp.sndbuf: expected key=value, as in --set tcp.sndbuf=8192",
            "debug = { on = true } (--set debug.on): expected true or false",
        ]
    );
}

#[test]
fn secrets_and_long_values_stay_out_of_the_text() {
    let found = problems(
        "[protocol]\napiToken = 12345",
        &[("COMET__TCP__SNDBUF", &"é".repeat(200))],
        &[],
    );
    assert_eq!(
        found[0],
        "protocol.apiToken = (hidden) (file comet.toml): expected a string"
    );
    let cut = format!(
        "tcp.sndbuf = \"{}... (environment COMET__TCP__SNDBUF): expected",
        "é".repeat(79)
    );
    assert!(found[1].starts_with(&cut), "{}", found[1]);
}

#[test]
fn a_wrong_type_and_a_wrong_range_are_reported_together() {
    assert_eq!(
        problems(
            "[tcp]\nsndbuf = 'x'\n[protocol]\njitter = 3.5\nretries = 1",
            &[],
            &[]
        ),
        [
            "protocol.retries (file comet.toml): no such key; protocol has apiToken, handshakeTimeout, jitter, policy",
            "tcp.sndbuf = \"x\" (file comet.toml): expected an integer from 0 to 4294967295",
            "protocol.jitter = 3.5 (file comet.toml): expected a number from 0 to 1",
        ]
    );
}

#[test]
fn files_are_read_and_their_errors_name_them() {
    let path = std::env::temp_dir().join(format!("comet-config-{}.toml", std::process::id()));
    let sources = Sources {
        file: Some(path.clone()),
        ..Sources::default()
    };
    let load = || load::<Config>(&SPEC, &sources);

    let missing = load().unwrap_err().to_string();
    assert!(
        missing.starts_with(&format!(
            "cannot read the configuration file {}: ",
            path.display()
        )),
        "{missing}"
    );

    std::fs::write(&path, "[tcp]\nsndbuf = = 1").unwrap();
    let syntax = load().unwrap_err().to_string();
    assert!(
        syntax.starts_with(&format!(
            "the configuration file {} is not TOML: ",
            path.display()
        )),
        "{syntax}"
    );
    assert!(syntax.contains("line 2"), "{syntax}");

    std::fs::write(&path, "[tcp]\nsndbuf = 5").unwrap();
    assert_eq!(load().unwrap().config.tcp.sndbuf, 5);

    std::fs::write(&path, "tcpp = 1\ndebug = 1").unwrap();
    let file = path.display();
    assert_eq!(
        load().unwrap_err().to_string(),
        format!(
            "the configuration of comet is wrong in 2 places:\n  tcpp (file {file}): no such key; there are debug, \
             env, labels, protocol, tcp, whitelist\n  debug = 1 (file {file}): expected true or false"
        )
    );
    std::fs::remove_file(&path).unwrap();
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
