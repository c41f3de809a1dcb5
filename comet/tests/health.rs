//! What `--health` says of the process.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn health(addr: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comet"));
    command.args(["--health", "--set", &format!("rpcServer.addr={addr}")]);
    command.env_clear().output().unwrap()
}

#[test]
fn a_comet_without_logic_serves_and_is_not_ready() {
    let mut comet = Command::new(env!("CARGO_BIN_EXE_comet"));
    for setting in [
        "tcp.bind=127.0.0.1:0",
        "websocket.bind=127.0.0.1:0",
        "rpcServer.addr=127.0.0.1:0",
        "monitor.addrs=127.0.0.1:0",
        "logic.addresses=127.0.0.1:9",
    ] {
        comet.args(["--set", setting]);
    }
    let mut comet = comet.env_clear().stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(comet.stderr.take().unwrap()).lines();
    let mut log = log.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let addr = log.find_map(|line| Some(line["grpc"].as_str()?.to_owned()));
    let addr = addr.unwrap();
    let waiting = health(&addr);
    comet.kill().unwrap();
    comet.wait().unwrap();
    for (answer, why) in [
        (waiting, "waits for what it needs"),
        (health(&addr), "does not answer"),
    ] {
        let told = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(answer.status.code(), Some(1), "{told}");
        assert!(told.contains(why), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
