//! The process: its flags, and what it says of a bad configuration.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

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
fn its_health_is_an_exit_code() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_logic-stub"))
        .args(["--set", "rpcServer.addr=127.0.0.1:0"])
        .args(["--set", "httpServer.addr=127.0.0.1:0"])
        .args(["--set", "monitor.addrs=127.0.0.1:0"])
        .env_clear()
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = log.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let addr = log.find_map(|line| Some(line["grpc"].as_str()?.to_owned()));
    let addr = format!("rpcServer.addr={}", addr.unwrap());
    let health = || logic_stub(&["--health", "--set", &addr]);
    let end = Instant::now() + Duration::from_secs(20);
    let mut answer = health();
    while !answer.status.success() && Instant::now() < end {
        answer = health();
    }
    assert_eq!(String::from_utf8(answer.stdout).unwrap(), "ready\n");
    process.kill().unwrap();
    process.wait().unwrap();
    let answer = health();
    let told = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(answer.status.code(), Some(1));
    assert!(told.contains("does not answer"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn it_says_its_version() {
    let version = logic_stub(&["--version"]);
    let told = String::from_utf8(version.stdout).unwrap();
    let expected = concat!("logic-stub ", env!("CARGO_PKG_VERSION"));
    assert!(told.starts_with(expected), "{told}");
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
    let refused = logic_stub(&["--redis", "redis+other://:hush@127.0.0.1:1"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(
        told.contains("redis.url") && told.contains("redis+sentinel"),
        "{told}"
    );
    assert!(!told.contains("hush"), "{told}");
}

#[test]
fn a_file_for_tls_to_redis_that_is_not_there_ends_the_start() {
    // Its addresses are bound before: ports that nobody else has.
    let settings = [
        "rpcServer.addr=127.0.0.1:0",
        "httpServer.addr=127.0.0.1:0",
        "monitor.addrs=127.0.0.1:0",
        "redis.caFile=/nowhere/ca.pem",
    ];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let secure = ["--redis", "rediss://:hush@127.0.0.1:1"];
    let refused = logic_stub(&secure.into_iter().chain(settings).collect::<Vec<_>>());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(told.contains("/nowhere/ca.pem"), "{told}");
}
