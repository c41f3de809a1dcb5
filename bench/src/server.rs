//! The server that is measured: given by its addresses, or a comet that is started here with a minimal logic of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{clients::Doors, measure::Processes};

/// How long a server may take until its doors open.
const PATIENCE: Duration = Duration::from_secs(20);

/// For a comet beside others: the port of a monitor is nobody's here.
const NO_MONITOR: &str = "monitor.open=false";

/// For a comet that has sessions over HTTP: each outlives its client by a minute, and many rounds of clients fall into one.
const ALL_SESSIONS: &str = "subscription.sessions=1000000";

/// For a comet that has doors behind TLS: they are opened.
const OWN_CERTIFICATE: &str = "tls.developmentCertificate=true";

/// Where the server is.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// A comet binary to start, with a minimal logic; otherwise the addresses of a server that runs.
    #[arg(long, value_name = "PATH")]
    pub comet: Option<PathBuf>,
    /// With --comet: sets a key of its configuration. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "comet")]
    pub set: Vec<String>,
    /// The TCP door.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comet")]
    pub tcp: Option<SocketAddr>,
    /// The WebSocket door.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comet")]
    pub websocket: Option<SocketAddr>,
    /// The TCP door behind TLS.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comet")]
    pub tcp_tls: Option<SocketAddr>,
    /// The WebSocket door behind TLS.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comet")]
    pub wss: Option<SocketAddr>,
    /// Where pushes go: goim's Comet over gRPC.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "comet")]
    pub grpc: Option<SocketAddr>,
    /// The server's process on this machine, for CPU and memory. May be given several times.
    #[arg(long, value_name = "ID", conflicts_with = "comet")]
    pub pid: Vec<u32>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where clients come in.
    pub doors: Doors,
    /// Its processes, without logic's.
    pub processes: Processes,
    grpc: Option<SocketAddr>,
    children: Vec<Running>,
}

impl Server {
    /// The server that the arguments name; a comet is started and ends with this value.
    pub fn find(args: &ServerArgs) -> anyhow::Result<Self> {
        if let Some(comet) = &args.comet {
            return Self::start(comet, &args.set);
        }
        let doors = Doors {
            tcp: args.tcp,
            websocket: args.websocket,
            tcp_tls: args.tcp_tls,
            wss: args.wss,
        };
        ensure!(
            !doors.is_empty(),
            "name the server: --comet, or its doors (--tcp, --websocket, --tcp-tls, --wss), with --grpc and --pid"
        );
        Ok(Self::at(doors, args.grpc, Processes::new(args.pid.clone())))
    }

    /// One that runs already.
    pub fn at(doors: Doors, grpc: Option<SocketAddr>, processes: Processes) -> Self {
        Self {
            doors,
            processes,
            grpc,
            children: Vec::new(),
        }
    }

    /// Where pushes go; an error if it was not given.
    pub fn grpc(&self) -> anyhow::Result<SocketAddr> {
        self.grpc.context("no address for pushes was given: --grpc")
    }

    fn start(comet: &Path, set: &[String]) -> anyhow::Result<Self> {
        let logic = Logic::start()?;
        let comet = Comet::start(comet, set, logic.address)?;
        Ok(Self {
            doors: comet.doors,
            processes: Processes::new(vec![comet.process.0.id()]),
            grpc: Some(comet.grpc),
            children: vec![comet.process, logic.process],
        })
    }

    /// An error if a process that was started here has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.children.iter_mut().try_for_each(Running::check)
    }
}

/// A minimal logic that was started here.
#[derive(Debug)]
pub struct Logic {
    /// Where comets reach it.
    pub address: SocketAddr,
    /// Itself.
    pub process: Running,
}

impl Logic {
    /// Starts one and waits until it listens.
    pub fn start() -> anyhow::Result<Self> {
        let [address] = free_addresses()?;
        let mut command = Command::new(std::env::current_exe()?);
        let mut process =
            Running::start(command.args(["logic", "--listen", &address.to_string()]))?;
        wait_until_open(address, &mut process)?;
        Ok(Self { address, process })
    }
}

/// A comet that was started here.
#[derive(Debug)]
pub struct Comet {
    /// Where clients come in.
    pub doors: Doors,
    /// Where pushes go.
    pub grpc: SocketAddr,
    /// Itself.
    pub process: Running,
}

impl Comet {
    /// Starts one with these keys of its configuration and waits until all its doors are open.
    pub fn start(comet: &Path, set: &[String], logic: SocketAddr) -> anyhow::Result<Self> {
        let [tcp, websocket, tcp_tls, wss, grpc] = free_addresses()?;
        let mut own = vec![
            format!("tcp.bind={tcp}"),
            format!("websocket.bind={websocket}"),
            format!("rpcServer.addr={grpc}"),
            format!("logic.addresses={logic}"),
            "env.host=bench".to_owned(),
        ];
        for key in [NO_MONITOR, ALL_SESSIONS] {
            if takes(comet, key)? {
                own.push(key.to_owned());
            }
        }
        let mut doors = Doors {
            tcp: Some(tcp),
            websocket: Some(websocket),
            ..Doors::default()
        };
        if takes(comet, OWN_CERTIFICATE)? {
            (doors.tcp_tls, doors.wss) = (Some(tcp_tls), Some(wss));
            own.push(OWN_CERTIFICATE.to_owned());
            own.push(format!("tcp.tlsBind={tcp_tls}"));
            own.push(format!("websocket.tlsBind={wss}"));
            own.push("websocket.tlsOpen=true".to_owned());
        }
        let mut command = Command::new(comet);
        // Only what is said here and at our own command line counts.
        let variables = std::env::vars_os().map(|(name, _)| name);
        for name in variables.filter(|name| name.as_encoded_bytes().starts_with(b"COMET_")) {
            command.env_remove(name);
        }
        for key in own.iter().chain(set) {
            command.args(["--set", key]);
        }
        let mut process = Running::start(command.env("RUST_LOG", "warn"))?;
        for address in [tcp, websocket, grpc] {
            wait_until_open(address, &mut process)?;
        }
        Ok(Self {
            doors,
            grpc,
            process,
        })
    }
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it, without input and output. Its errors come out with ours.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Self::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Starts it with pipes as its input and output, which are its child's `stdin` and `stdout`.
    pub fn start_with_pipes(command: &mut Command) -> anyhow::Result<Self> {
        Self::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.spawn();
        Ok(Self(child.with_context(|| {
            format!("{} does not start", program.display())
        })?))
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a process that was started here has ended: {status}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Addresses on loopback that nobody listens on.
pub fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = (0..N).map(|_| listen()).collect::<Result<Vec<_>, _>>()?;
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

/// Whether a comet's configuration has such a key: that of an earlier version may not.
fn takes(comet: &Path, key: &str) -> anyhow::Result<bool> {
    let mut check = Command::new(comet);
    check.args(["--check-config", "--set", key]);
    let checked = check.output();
    let checked = checked.with_context(|| format!("{} does not start", comet.display()))?;
    Ok(checked.status.success())
}

fn wait_until_open(address: SocketAddr, process: &mut Running) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        process.check()?;
        ensure!(started.elapsed() < PATIENCE, "{address} does not open");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
