//! The process ends when it is told to, whatever became of its log.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

#[test]
fn a_closed_log_does_not_keep_it_from_ending() {
    let mut comet = Command::new(env!("CARGO_BIN_EXE_comet"))
        .args([
            "--set",
            "tcp.bind=127.0.0.1:0",
            "--set",
            "websocket.bind=127.0.0.1:0",
        ])
        .args([
            "--set",
            "rpcServer.addr=127.0.0.1:0",
            "--set",
            "logic.addresses=127.0.0.1:9",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(comet.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("comet listens")));
    drop(log);
    let kill = Command::new("kill").arg(comet.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert!(comet.wait().unwrap().success());
}
