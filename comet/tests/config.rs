//! The process and its configuration: goim's own file, and what is said of a bad one.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::process::{Command, Output};

const GOIM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/goim-comet.toml"
);

/// goim's keys that mean nothing here.
const WITHOUT_EFFECT: [&str; 14] = [
    "discovery",
    "rpcServer.timeout",
    "tcp.reader",
    "tcp.readBuf",
    "tcp.readBufSize",
    "tcp.writer",
    "tcp.writeBuf",
    "tcp.writeBufSize",
    "protocol.timer",
    "protocol.timerSize",
    "bucket.channel",
    "bucket.room",
    "bucket.routineAmount",
    "bucket.routineSize",
];

fn comet(flags: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_comet"))
        .args(flags)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn goims_own_file_is_good_with_a_warning_for_each_key_without_effect() {
    let env = [("REGION", "sh"), ("DEPLOY_ENV", "dev")];
    let checked = comet(&["--check-config", "--conf", GOIM], &env);
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{told}");
    let warnings: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("has no effect here"))
        .collect();
    for key in WITHOUT_EFFECT {
        let named = |line: &&&str| line.contains(&format!("\"{key} (file "));
        assert_eq!(warnings.iter().filter(named).count(), 1, "{key}: {told}");
    }
    assert_eq!(warnings.len(), WITHOUT_EFFECT.len(), "{told}");
}

#[test]
fn what_is_wrong_ends_the_start_with_key_value_and_what_is_allowed() {
    let cases: [(&[&str], &[&str]); 11] = [
        (
            &["--set", "tcp.sndbufs=1"],
            &["tcp.sndbufs", "did you mean tcp.sndbuf?"],
        ),
        (&["--set", "nonsense=1"], &["nonsense", "there are"]),
        (
            &["--set", "protocol.svrProto=0"],
            &["protocol.svrProto", "0", "from 1 to 1048576"],
        ),
        (
            &["--set", "protocol.svrProto=many"],
            &["protocol.svrProto", "many", "expected"],
        ),
        (
            &["--set", "protocol.handshakeTimeout=soon"],
            &["protocol.handshakeTimeout", "soon", "8s"],
        ),
        (
            &["--set", "protocol.handshakeTimeout=1h"],
            &["protocol.handshakeTimeout", "1h", "from 100ms to 5m"],
        ),
        (
            &["--set", "protocol.fullPolicy=keep"],
            &["protocol.fullPolicy", "keep", "drop_newest", "disconnect"],
        ),
        (
            &["--set", "websocket.tlsOpen=true"],
            &[
                "websocket.certFile",
                "privateFile",
                "developmentCertificate",
            ],
        ),
        (
            &[
                "--set",
                "tcp.tlsBind=:3104",
                "--set",
                "websocket.certFile=a.pem",
            ],
            &["websocket.certFile", "a.pem", "privateFile"],
        ),
        (
            &["--set", "tls.minVersion=1.1"],
            &["tls.minVersion", "1.1", "1.2", "1.3"],
        ),
        (
            &["--set", "logic.addresses=nowhere"],
            &["logic.addresses", "nowhere", "host:port"],
        ),
    ];
    for (flags, parts) in cases {
        for check in [&["--check-config"][..], &[]] {
            let refused = comet(&[check, flags].concat(), &[]);
            let told = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success(), "{flags:?}: {told}");
            for part in parts {
                assert!(told.contains(part), "{flags:?}: no {part} in: {told}");
            }
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let env = [("COMET__TCP__SNDBUF", "-1"), ("COMET__TCP__BINDS", ":1")];
    let refused = comet(&["--set", "bucket.size=65"], &env);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    for part in ["COMET__TCP__SNDBUF", "COMET__TCP__BINDS", "bucket.size"] {
        assert!(told.contains(part), "no {part} in: {told}");
    }
}

#[test]
fn addresses_that_cannot_be_listened_on_end_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let free = ["tcp.bind", "websocket.bind", "rpcServer.addr"];
    for key in free {
        let mut flags = Vec::new();
        for other in free {
            let wanted = if other == key { &addr } else { "127.0.0.1:0" };
            flags.extend(["--set".to_owned(), format!("{other}={wanted}")]);
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let refused = comet(&flags, &[]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success());
        assert!(told.contains(key) && told.contains(&addr), "{told}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let mut flags = Vec::new();
    for key in [
        "tcp.bind",
        "websocket.bind",
        "rpcServer.addr",
        "websocket.tlsBind",
        "monitor.addrs",
    ] {
        flags.extend(["--set".to_owned(), format!("{key}=127.0.0.1:0")]);
    }
    let own = [
        "websocket.tlsOpen=true",
        "websocket.certFile=/nowhere/a.pem",
        "websocket.privateFile=/nowhere/a.key",
    ];
    for key in own {
        flags.extend(["--set".to_owned(), key.to_owned()]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let refused = comet(&flags, &[]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(
        told.contains("certFile") && told.contains("/nowhere/a.pem"),
        "{told}"
    );
}
