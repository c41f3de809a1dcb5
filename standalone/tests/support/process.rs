//! The program itself, as a process of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::within;

/// Every address of the program, to be overridden.
const ADDRESSES: [&str; 5] = [
    "comet.tcp.bind",
    "comet.websocket.bind",
    "comet.rpcServer.addr",
    "logic.rpcServer.addr",
    "logic.httpServer.addr",
];

/// Time limits that a busy machine keeps, and free ports for the monitors.
const SETTINGS: [&str; 4] = [
    "comet.monitor.addrs=127.0.0.1:0",
    "logic.monitor.addrs=127.0.0.1:0",
    "comet.rpcClient.timeout=1m",
    "comet.protocol.handshakeTimeout=1m",
];

/// A running program; it is killed with the test.
pub struct Process {
    child: Child,
    // Kept open: a program that writes to a closed pipe ends.
    _output: BufReader<ChildStdout>,
    /// What it printed at its start.
    pub welcome: String,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub push_api: SocketAddr,
    addresses: [SocketAddr; 5],
}

impl Process {
    /// Starts it on free ports, which are still free after its end.
    pub async fn start(settings: &[&str]) -> Self {
        Self::start_at([(); 5].map(|()| free_address()), settings).await
    }

    /// Ends it and starts it again on the same ports.
    pub async fn restart(self, settings: &[&str]) -> Self {
        let addresses = self.addresses;
        assert!(self.end().await, "it ends in error");
        Self::start_at(addresses, settings).await
    }

    /// Asks it to end, waits until it has, and tells whether that was without an error.
    pub async fn end(mut self) -> bool {
        let pid = self.child.id().unwrap().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.unwrap().success());
        within("the end of the process", self.child.wait())
            .await
            .unwrap()
            .success()
    }

    /// Bytes of memory that it has resident (Linux).
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    async fn start_at(addresses: [SocketAddr; 5], settings: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comet-standalone"));
        for (key, address) in ADDRESSES.iter().zip(addresses) {
            command.arg("--set").arg(format!("{key}={address}"));
        }
        for setting in SETTINGS.iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        let mut child = command
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut welcome = String::new();
        while !welcome.contains("curl ") {
            let read = within("the welcome", output.read_line(&mut welcome)).await;
            assert!(read.unwrap() > 0, "it ends at its start: {welcome}");
        }
        let address = |name: &str, index: usize| {
            let line = welcome.lines().find(|line| line.trim().starts_with(name));
            let mut words = line.unwrap().split_whitespace();
            let found = words
                .by_ref()
                .filter_map(|word| word.parse().ok())
                .nth(index);
            found.unwrap_or_else(|| panic!("{name}: {welcome}"))
        };
        let (tcp, http) = (address("TCP", 0), address("HTTP", 0));
        let (grpc, push_api) = (address("gRPC", 0), address("push API", 0));
        Self {
            addresses: [tcp, http, grpc, address("gRPC", 1), push_api],
            child,
            _output: output,
            tcp,
            http,
            grpc,
            push_api,
            welcome,
        }
    }
}

/// An address whose port the system gives to nobody by itself: it would not stay free. Linux does that from 32,768 on.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 100).unwrap() * 200;
    loop {
        let port = first + TAKEN.fetch_add(1, Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
