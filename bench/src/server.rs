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
        };
        ensure!(
            doors.tcp.is_some() || doors.websocket.is_some(),
            "name the server: --comet, or --tcp and --websocket, with --grpc and --pid"
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
        let [tcp, websocket, grpc, logic] = free_addresses()?;
        let this = std::env::current_exe()?;
        let logic_process =
            Running::start(Command::new(this).args(["logic", "--listen", &logic.to_string()]))?;
        let own = [
            format!("tcp.bind={tcp}"),
            format!("websocket.bind={websocket}"),
            format!("rpcServer.addr={grpc}"),
            format!("logic.addresses={logic}"),
            "env.host=bench".to_owned(),
        ];
        let mut command = Command::new(comet);
        for key in own.iter().chain(set) {
            command.args(["--set", key]);
        }
        let comet_process = Running::start(command.env("RUST_LOG", "warn"))?;
        let processes = Processes::new(vec![comet_process.0.id()]);
        let mut children = vec![comet_process, logic_process];
        for address in [logic, tcp, websocket, grpc] {
            wait_until_open(address, &mut children)?;
        }
        Ok(Self {
            doors: Doors {
                tcp: Some(tcp),
                websocket: Some(websocket),
            },
            processes,
            grpc: Some(grpc),
            children,
        })
    }

    /// An error if a process that was started here has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.children.iter_mut().try_for_each(Running::check)
    }
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it, without input and output. Its errors come out with ours.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
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

fn wait_until_open(address: SocketAddr, children: &mut [Running]) -> anyhow::Result<()> {
    let started = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        children.iter_mut().try_for_each(Running::check)?;
        ensure!(started.elapsed() < PATIENCE, "{address} does not open");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
