//! The bare loop: pre-encoded frames, one `send()` after the other to each of many connections, nothing else. A server that
//! writes as often is hardly cheaper, so results are told as a ratio to it.
//!
//! The receiver is a process of its own that throws away what it reads. On loopback the kernel does the receiver's input within
//! the sender's call, so that is part of the figure, as it is of any server's that is measured on one machine.

mod sink;

use std::{
    io::{self, Write as _},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use protocol::codec::Header;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

pub use self::sink::{SinkArgs, discard};
use crate::{
    DATA,
    measure::{Processes, real},
    scenario::Row,
    server::Running,
};

/// What the loop sends.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize)]
pub struct LimitArgs {
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Messages joined in one write.
    #[arg(long, default_value_t = 1)]
    pub join: u32,
    /// Bytes of a message's body.
    #[arg(long, default_value_t = 32)]
    pub body: usize,
    /// Messages a second to each connection, instead of as many as it can.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds that are measured, after one that is not.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

impl Default for LimitArgs {
    fn default() -> Self {
        Self {
            connections: 1000,
            join: 1,
            body: 32,
            rate: None,
            seconds: 3.0,
        }
    }
}

/// Seconds before the measurement.
const WARMUP: f64 = 1.0;

/// Runs the loop in this process.
pub fn run(args: &LimitArgs) -> anyhow::Result<Row> {
    let (_sink, sockets) = connect(args.connections)?;
    let mut bytes = Vec::new();
    for _ in 0..args.join {
        Header::push(DATA).encode(&vec![b'.'; args.body], &mut bytes);
    }
    let pause = args
        .rate
        .map(|rate| Duration::from_secs_f64(f64::from(args.join) / rate));
    rounds(&sockets, &bytes, WARMUP, pause)?;
    let this = Processes::this();
    let (cpu, started) = (this.cpu()?, Instant::now());
    let rounds = rounds(&sockets, &bytes, args.seconds, pause)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = this.cpu()? - cpu;
    let messages = rounds * u64::from(args.join) * u64::from(args.connections);
    Ok(Row {
        scenario: match args.rate {
            None => format!("limit, {} joined", args.join),
            Some(rate) => format!("limit, {} joined, {rate:.0} a second", args.join),
        },
        connections: args.connections,
        body: Some(args.body),
        seconds,
        offered: messages,
        received: messages,
        per_second: real(messages) / seconds,
        server_cpu: Some(cpu / (real(messages.max(1)) / 1e6)),
        ..Row::default()
    })
}

/// Runs the loop in a process of its own, as it must be where this one has other work.
pub fn run_apart(args: &LimitArgs) -> anyhow::Result<Row> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--json", "-", "limit"]);
    command.args(["--connections", &args.connections.to_string()]);
    command.args(["--join", &args.join.to_string()]);
    command.args(["--body", &args.body.to_string()]);
    command.args(["--seconds", &args.seconds.to_string()]);
    if let Some(rate) = args.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "the limit failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Vec<Row> = serde_json::from_slice(&output.stdout)?;
    rows.into_iter().next().context("the limit told nothing")
}

/// Starts the receiver and accepts its connections.
fn connect(count: u32) -> anyhow::Result<(Running, Vec<TcpStream>)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(4096)?;
    let address = listener
        .local_addr()?
        .as_socket()
        .context("an address of IPv4")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "discard",
        "--from",
        &address.to_string(),
        "--connections",
        &count.to_string(),
    ]);
    let mut sink = Running::start(&mut command)?;
    listener.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let (socket, _) = listener.accept().or_else(|error| {
            sink.check()?;
            anyhow::Ok(Err(error)?)
        })?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        sockets.push(socket.into());
    }
    Ok((sink, sockets))
}

/// Sends to each socket in turn, again and again; tells how often.
fn rounds(
    sockets: &[TcpStream],
    bytes: &[u8],
    seconds: f64,
    pause: Option<Duration>,
) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed().as_secs_f64() < seconds {
        for socket in sockets {
            send(socket, bytes)?;
        }
        rounds += 1;
        if let Some(pause) = pause {
            let due = pause.mul_f64(real(rounds));
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    }
    Ok(rounds)
}

fn send(mut socket: &TcpStream, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
