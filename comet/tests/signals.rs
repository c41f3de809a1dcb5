//! The process ends when it is told to, whatever became of its log.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

const FLAGS: [&str; 10] = [
    "--set",
    "tcp.bind=127.0.0.1:0",
    "--set",
    "websocket.bind=127.0.0.1:0",
    "--set",
    "rpcServer.addr=127.0.0.1:0",
    "--set",
    "monitor.addrs=127.0.0.1:0",
    "--set",
    "logic.addresses=127.0.0.1:9",
];

/// Starts it and waits until it listens; what it logs later is read by nobody.
fn listening(command: &mut Command) -> Child {
    let mut comet = command.args(FLAGS).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(comet.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("comet listens")));
    comet
}

#[test]
fn a_closed_log_does_not_keep_it_from_ending() {
    let mut comet = listening(&mut Command::new(env!("CARGO_BIN_EXE_comet")));
    let kill = Command::new("kill").arg(comet.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert!(comet.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn it_takes_as_many_files_as_it_may() {
    let program = concat!(
        "ulimit -S -n 200; exec ",
        env!("CARGO_BIN_EXE_comet"),
        r#" "$@""#
    );
    let mut comet = listening(Command::new("sh").args(["-c", program, "sh"]));
    let limits = fs::read_to_string(format!("/proc/{}/limits", comet.id())).unwrap();
    comet.kill().unwrap();
    comet.wait().unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let bounds: Vec<&str> = files.unwrap().split_whitespace().skip(3).collect();
    assert_ne!(bounds[0], "200");
    assert_eq!(bounds[0], bounds[1]);
}
