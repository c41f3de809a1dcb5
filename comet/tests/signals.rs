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
    send("TERM", &comet);
    assert!(comet.wait().unwrap().success());
}

#[test]
fn sighup_ends_nothing_where_there_is_no_terminal() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comet"));
    let mut comet = listening(command.stdin(Stdio::null()));
    send("HUP", &comet);
    send("TERM", &comet);
    // Ended by the first signal it would have no code.
    assert_eq!(comet.wait().unwrap().code(), Some(0));
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

#[test]
fn sighup_has_the_certificates_read_again() {
    let dir = std::env::temp_dir().join(format!("comet-sighup-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = |end: &str| dir.join(format!("a.{end}"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(["one.test".to_owned()]).unwrap();
        fs::write(file("pem"), made.cert.pem()).unwrap();
        fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
    };
    write();
    let mut command = Command::new(env!("CARGO_BIN_EXE_comet"));
    command.args(FLAGS);
    for key in [
        "websocket.tlsOpen=true",
        "websocket.tlsBind=127.0.0.1:0",
        "tls.reload=1d",
    ] {
        command.args(["--set", key]);
    }
    for (key, end) in [("certFile", "pem"), ("privateFile", "key")] {
        command.args(["--set", &format!("websocket.{key}={}", file(end).display())]);
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut comet = command.spawn().unwrap();
    let mut log = BufReader::new(comet.stderr.take().unwrap()).lines();
    let mut says = |words: &str| assert!(log.any(|line| line.unwrap().contains(words)), "{words}");
    says("comet listens");
    write();
    send("HUP", &comet);
    says("a new certificate counts");
    fs::write(file("key"), "nothing").unwrap();
    send("HUP", &comet);
    says("the old one stays");
    send("TERM", &comet);
    says("comet has stopped");
    assert!(comet.wait().unwrap().success());
    fs::remove_dir_all(dir).unwrap();
}

fn send(signal: &str, to: &Child) {
    let kill = Command::new("kill")
        .args(["-s", signal, &to.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}
