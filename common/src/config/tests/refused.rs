//! What is refused, and in which words.

use super::*;

#[test]
fn one_key_in_two_cases_is_refused() {
    assert_eq!(
        problems("[tcp]\nsndbuf = 1\n[TCP]\nsndBuf = 2", &[], &[]),
        ["tcp.sndbuf (file comet.toml): given twice, in different case"]
    );
}

#[test]
fn mangled_flags_are_refused() {
    let flags = [
        "",
        "=",
        "=x",
        ".=1",
        "..a=1",
        "tcp.=1",
        "tcp..sndbuf=1",
        "tcp.bind.0=1",
        "ü=1",
        "tcp.sndbuf.x=1",
    ];
    for flag in flags {
        assert_eq!(problems("", &[], &[flag]).len(), 1, "{flag}");
    }
    assert_eq!(
        problems("", &[], &["tcp.bind.0=1"]),
        ["tcp.bind = { 0 = 1 } (--set tcp.bind.0): expected a list"]
    );
    let deep = format!("tcp.sndbuf={}", "[".repeat(100_000));
    assert_eq!(problems("", &[], &[&deep]).len(), 1);
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
