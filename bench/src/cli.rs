//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;
use clap::{Parser, Subcommand};

use crate::{
    doors::Door,
    files,
    limit::{self, LimitArgs, SinkArgs},
    logic,
    million::{self, AgentArgs, MillionArgs},
    pusher,
    report::{self, ReportArgs},
    scenario::{
        Bench, Row, Timing, churn,
        fanout::{self, Pushes},
        heartbeats, idle, logins, mix, overload, slow,
        soak::{self, SoakArgs},
    },
    server::ServerArgs,
};

/// Measures a server that speaks goim's protocol: throughput, latency, losses, CPU time, memory.
#[derive(Debug, Parser)]
#[command(name = "comet-bench", version)]
pub struct Cli {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    timing: Timing,
    /// Threads of clients, of a scenario. The published set has one, and `million` one for each comet.
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    threads: u32,
    /// Writes the results as JSON; `-` is the standard output.
    #[arg(long, global = true, value_name = "PATH")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Messages to one room.
    Room {
        #[command(flatten)]
        pushes: Pushes,
        /// Looks for the highest rate of which less than 0.1 % is lost.
        #[arg(long)]
        search: bool,
    },
    /// Messages to everyone.
    Broadcast {
        #[command(flatten)]
        pushes: Pushes,
    },
    /// Messages to rooms in turn, over which the connections are spread.
    Rooms {
        #[command(flatten)]
        pushes: Pushes,
        /// How many.
        #[arg(long, default_value_t = 100)]
        rooms: u32,
    },
    /// Messages to keys in turn.
    Keys {
        #[command(flatten)]
        pushes: Pushes,
        /// Keys in a call.
        #[arg(long, default_value_t = 1)]
        per_call: u32,
    },
    /// Logins a second.
    Logins {
        /// Logins of a round.
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
        /// By which they come in.
        #[arg(long, value_enum, default_value_t = Door::Tcp)]
        door: Door,
        /// Logins under way at once.
        #[arg(long, default_value_t = 64)]
        at_once: u32,
        /// Rounds, after one that warms up.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Heartbeats, one under way on each connection.
    Heartbeats {
        /// Connections.
        #[arg(long, default_value_t = 1000)]
        connections: u32,
        /// By which they come in.
        #[arg(long, value_enum, default_value_t = Door::Tcp)]
        door: Door,
    },
    /// Memory and CPU time of idle connections.
    Idle {
        /// Counts of connections at which the memory is measured.
        #[arg(
            long,
            value_delimiter = ',',
            default_value = "1000,5000,10000,15000,19000"
        )]
        counts: Vec<u32>,
        /// By which they come in.
        #[arg(long, value_enum, default_value_t = Door::Tcp)]
        door: Door,
        /// Seconds for which CPU time is measured.
        #[arg(long, default_value_t = 30.0)]
        quiet: f64,
    },
    /// Some clients stop reading, and log in again. Messages have 8 KiB or more; 30 a second, unless `--rate` says otherwise.
    Slow {
        #[command(flatten)]
        pushes: Pushes,
        /// How many.
        #[arg(long, default_value_t = 50)]
        stopped: u32,
        /// They go on reading instead, and must miss as much as the receipts of `--via stream` say was dropped.
        #[arg(long)]
        resume: bool,
    },
    /// Clients come and go beside others that stay, which get 20 messages a second, unless `--rate` says otherwise.
    Churn {
        #[command(flatten)]
        pushes: Pushes,
        /// How many at once.
        #[arg(long, default_value_t = 200)]
        coming: u32,
    },
    /// Nine idle connections in ten, and busy rooms with the others.
    Mix {
        #[command(flatten)]
        pushes: Pushes,
        /// Busy rooms.
        #[arg(long, default_value_t = 10)]
        rooms: u32,
    },
    /// More than the machine can deliver: 1.5, 3 and 10 times its best, whatever `--window` and `--rate` say.
    Overload {
        #[command(flatten)]
        pushes: Pushes,
    },
    /// All of it together for minutes; ends with the memory and the files that the server began with.
    Soak {
        #[command(flatten)]
        soak: SoakArgs,
    },
    /// Many comets that are started here, and one broadcast to a million connections.
    Million {
        #[command(flatten)]
        million: MillionArgs,
    },
    /// The bare loop of writes that no server can beat.
    Limit {
        #[command(flatten)]
        limit: LimitArgs,
    },
    /// The published set: writes docs/benchmarks.md with its pictures.
    Report {
        #[command(flatten)]
        report: ReportArgs,
    },
    /// A minimal logic, for a server that is started by hand.
    Logic {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:3119")]
        listen: SocketAddr,
    },
    /// A process of clients of `million`.
    #[command(hide = true)]
    Agent {
        #[command(flatten)]
        agent: AgentArgs,
    },
    /// The receiver of the bare loop.
    #[command(hide = true)]
    Discard {
        #[command(flatten)]
        sink: SinkArgs,
    },
}

impl Command {
    /// Whether it has as many threads of clients as are asked for.
    fn has_threads(&self) -> bool {
        !matches!(
            self,
            Self::Million { .. }
                | Self::Limit { .. }
                | Self::Report { .. }
                | Self::Logic { .. }
                | Self::Agent { .. }
                | Self::Discard { .. }
        )
    }
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.threads == 1 || self.command.has_threads(),
            "--threads is for scenarios with clients in this process"
        );
        files::raise()?;
        match &self.command {
            Command::Discard { sink } => limit::discard(sink),
            Command::Logic { listen } => pusher::block_on_local(logic::serve(*listen))?,
            Command::Report { report } => {
                let json = self.json.as_deref();
                pusher::block_on_local(report::publish(report, &self.server, self.timing, json))?
            }
            Command::Agent { agent } => pusher::block_on_local(million::serve(*agent))?,
            Command::Million { million } => {
                let row = pusher::block_on_local(million::run(million, &self.server))??;
                self.tell_whole(&row)
            }
            Command::Soak { soak } => {
                let row = pusher::block_on_local(async {
                    let mut bench = Bench::start(&self.server, self.threads, self.timing)?;
                    let row = soak::run(&bench, soak).await?;
                    bench.server.check()?;
                    anyhow::Ok(row)
                })??;
                self.tell_whole(&row)
            }
            Command::Limit { limit } => self.tell(&[limit::run(limit)?]),
            _ => {
                let rows = pusher::block_on_local(self.measure())??;
                self.tell(&rows)
            }
        }
    }

    async fn measure(&self) -> anyhow::Result<Vec<Row>> {
        let bench = Bench::start(&self.server, self.threads, self.timing)?;
        let row = match &self.command {
            Command::Room {
                pushes,
                search: true,
            } => fanout::search(&bench, pushes).await?,
            Command::Room {
                pushes,
                search: false,
            } => fanout::rooms(&bench, pushes, 1).await?,
            Command::Broadcast { pushes } => fanout::broadcast(&bench, pushes).await?,
            Command::Rooms { pushes, rooms } => fanout::rooms(&bench, pushes, *rooms).await?,
            Command::Keys { pushes, per_call } => fanout::keys(&bench, pushes, *per_call).await?,
            Command::Logins {
                connections,
                door,
                at_once,
                rounds,
            } => logins::run(&bench, *door, *connections, *at_once, *rounds).await?,
            Command::Heartbeats { connections, door } => {
                heartbeats::run(&bench, *door, *connections).await?
            }
            Command::Idle {
                counts,
                door,
                quiet,
            } => idle::run(&bench, *door, counts, *quiet).await?.0,
            Command::Slow {
                pushes,
                stopped,
                resume: true,
            } => slow::resume(&bench, pushes, *stopped).await?,
            Command::Slow {
                pushes,
                stopped,
                resume: false,
            } => slow::run(&bench, pushes, *stopped).await?,
            Command::Churn { pushes, coming } => churn::run(&bench, pushes, *coming).await?,
            Command::Mix { pushes, rooms } => mix::run(&bench, pushes, *rooms).await?,
            Command::Overload { pushes } => return overload::run(&bench, pushes).await,
            Command::Report { .. }
            | Command::Million { .. }
            | Command::Soak { .. }
            | Command::Agent { .. }
            | Command::Limit { .. }
            | Command::Logic { .. }
            | Command::Discard { .. } => {
                return Ok(Vec::new());
            }
        };
        Ok(vec![row])
    }

    /// Tells a result in which nothing may be wrong.
    fn tell_whole(&self, row: &Row) -> anyhow::Result<()> {
        self.tell(std::slice::from_ref(row))?;
        ensure!(row.faults() == 0, "{} faults", row.faults());
        Ok(())
    }

    fn tell(&self, rows: &[Row]) -> anyhow::Result<()> {
        if let Some(path) = &self.json {
            return report::write_json(path, rows);
        }
        report::print(rows);
        Ok(())
    }
}
