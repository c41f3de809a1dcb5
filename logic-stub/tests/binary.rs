//! The process: its flags, and what it says of a bad configuration.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::process::{Command, Output};

fn logic_stub(flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logic-stub"));
    command.args(flags).env_clear().output().unwrap()
}

#[test]
fn the_configuration_can_be_checked() {
    let good = logic_stub(&["--check-config", "--set", "node.heartbeat=30s"]);
    assert!(good.status.success(), "{good:?}");
    let bad = logic_stub(&["--check-config", "--set", "node.heartbeat=soon"]);
    let told = String::from_utf8(bad.stderr).unwrap();
    assert!(!bad.status.success());
    assert!(
        told.contains("node.heartbeat") && told.contains("soon"),
        "{told}"
    );
}

#[test]
fn it_says_its_version() {
    let version = logic_stub(&["--version"]);
    let told = String::from_utf8(version.stdout).unwrap();
    assert_eq!(
        told.trim(),
        concat!("logic-stub ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn an_address_in_use_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let refused = logic_stub(&["--set", &format!("rpcServer.addr={addr}")]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(told.contains(&addr), "{told}");
}

#[test]
fn a_redis_that_is_none_ends_the_start() {
    let refused = logic_stub(&["--redis", "rediss://:hush@127.0.0.1:1"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(told.contains("redis.url") && told.contains("TLS"), "{told}");
    assert!(!told.contains("hush"), "{told}");
}
