//! Programs in other languages, which the tests run to their end. `make test` installs what they need.

use std::{
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::within;

/// Where the programs are.
pub const TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");

/// How long a peer may take for its whole scenario; it has limits of its own for each step.
const PEER_PATIENCE: Duration = Duration::from_mins(3);

/// A Python program of `tests/clients` that is a peer of what is tested: it listens, is told whom to call, and judges.
pub struct Peer {
    /// Where it listens.
    pub address: String,
    name: &'static str,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it and waits until it listens.
    pub async fn start(name: &'static str) -> Self {
        let mut child = client(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name}: {error}; `make test` installs what is missing")
            });
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut peer = Self {
            address: String::new(),
            name,
            child,
            output,
        };
        let mut line = String::new();
        let read = within(name, peer.output.read_line(&mut line)).await;
        read.unwrap();
        match line.trim().strip_prefix("listening ") {
            Some(address) => address.clone_into(&mut peer.address),
            None => panic!("{name} does not listen: {line}{:?}", peer.end().await),
        }
        peer
    }

    /// Tells it where the other side listens, `name=address` each, and waits for its verdict.
    pub async fn passes(mut self, addresses: &str) {
        let line = format!("{addresses}\n");
        let mut input = self.child.stdin.take().unwrap();
        input.write_all(line.as_bytes()).await.unwrap();
        let name = self.name;
        passes(name, self.end().await);
    }

    async fn end(mut self) -> Output {
        let (name, mut stdout) = (self.name, Vec::new());
        let ending = async {
            let rest = self.output.read_to_end(&mut stdout);
            let (rest, ended) = tokio::join!(rest, self.child.wait_with_output());
            rest.unwrap();
            ended.unwrap()
        };
        let ended = tokio::time::timeout(PEER_PATIENCE, ending).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name}: not done within {PEER_PATIENCE:?}"));
        Output { stdout, ..ended }
    }
}

/// A Python program of `tests/clients`.
pub fn client(script: &str) -> Command {
    let mut command = python();
    command.arg(format!("{TESTS}/clients/{script}"));
    command
}

/// The interpreter that has the packages of `tests/clients`.
pub fn python() -> Command {
    let python = std::env::var_os("COMET_TEST_PYTHON");
    let mut command = Command::new(python.unwrap_or_else(|| "python3".into()));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a program to its end.
pub async fn run(command: &mut Command, patience: Duration) -> Output {
    let running = command.kill_on_drop(true).output();
    let what = format!("{:?}", command.as_std());
    tokio::time::timeout(patience, running)
        .await
        .unwrap_or_else(|_| panic!("{what}: not done within {patience:?}"))
        .unwrap_or_else(|error| panic!("{what}: {error}; `make test` installs what is missing"))
}

/// It ended well, or what it told is shown.
pub fn passes(name: &str, output: Output) {
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{name}: {}\n{told}", output.status);
}
