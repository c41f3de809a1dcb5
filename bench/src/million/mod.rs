//! As many comets and processes of clients as a million connections need: memory, one broadcast, CPU time while nothing happens.
//!
//! A process holds no more connections than it may have files, and an address no more than it has ports. So there is a comet and a
//! process of clients (`agent`) for each 19,000 connections, and clients come from 250 addresses of loopback. All comets have one
//! minimal logic.

mod agent;
mod checks;
mod force;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::time::sleep;

pub use self::agent::{AgentArgs, serve};
pub(crate) use self::checks::tracked;
use self::{
    agent::Outcome,
    checks::{Plan, Raised},
    force::Force,
};
use crate::{
    clients::Opened,
    doors::Door,
    measure::{Processes, real},
    pusher::once::{self, Sent},
    scenario::{Row, idle::Curve, millis, progress},
    server::ServerArgs,
};

/// Steps in which clients log in; the memory is measured after each.
const STEPS: u32 = 4;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// How long nothing may come before it is said that nothing more comes.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the firewall may take to forget connections that were closed.
const FORGETTING: Duration = Duration::from_mins(2);

/// How much, and how.
#[derive(Debug, Clone, Args)]
pub struct MillionArgs {
    /// Connections of all comets together.
    #[arg(long, default_value_t = 1_000_000)]
    pub connections: u32,
    /// Connections of one comet, and of one process of clients; fewer where a process may not have as many files.
    #[arg(long, default_value_t = 19_000)]
    pub per_comet: u32,
    /// By which they come in.
    #[arg(long, value_enum, default_value_t = Door::Tcp)]
    pub door: Door,
    /// Seconds for which CPU time is measured while nothing happens.
    #[arg(long, default_value_t = 10.0)]
    pub quiet: f64,
    /// Raises `nf_conntrack_max` where it is too low, for the time of the run.
    #[arg(long)]
    pub raise_conntrack: bool,
}

impl Default for MillionArgs {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            per_comet: 19_000,
            door: Door::Tcp,
            quiet: 10.0,
            raise_conntrack: false,
        }
    }
}

/// Logs all clients in, measures, sends one broadcast, and ends all processes that it started.
pub async fn run(args: &MillionArgs, server: &ServerArgs) -> anyhow::Result<Row> {
    let comet = server.comet.as_ref();
    let comet = comet.context("comets have to be started for this: --comet")?;
    ensure!(args.connections > 0, "no connections are asked for");
    let (plan, raised) = checks::prepare(args)?;
    let started = Instant::now();
    let row = match Force::start(comet, &server.set, plan, args.door) {
        Ok(force) => measure(args, plan, force).await,
        Err(error) => Err(error),
    };
    if let Some(raised) = raised {
        restore(raised).await?;
    }
    let row = row?;
    progress(&format!(
        "all processes have ended, after {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(row)
}

async fn measure(args: &MillionArgs, plan: Plan, mut force: Force) -> anyhow::Result<Row> {
    progress(&format!("{} comets run", plan.comets));
    let servers = force.servers();
    let empty = servers.memory()?.rss;
    let logins = Instant::now();
    let curve = log_in(&mut force, &servers, empty).await?;
    let logins = logins.elapsed().as_secs_f64();
    let resident = curve.0.last().map_or(0, |(_, rss)| *rss);

    let before = servers.fine_cpu()?;
    sleep(Duration::from_secs_f64(args.quiet)).await;
    let idle_cpu = (servers.fine_cpu()? - before) / args.quiet.max(0.001);
    progress(&format!("{:.2} % of a core while idle", idle_cpu * 100.0));

    let cpu = (servers.fine_cpu()?, force.clients().fine_cpu()?);
    let (sent, outcome, latencies) = broadcast(&mut force).await?;
    let after = (servers.fine_cpu()?, force.clients().fine_cpu()?);
    let refused = sent.refused.iter().map(|(place, _)| force.open_at(*place));
    let refused: u64 = refused.sum();
    let tally = outcome.tally;
    let seconds = real(outcome.last_receipt.saturating_sub(sent.at)) / 1e9;
    let received = tally.expected - tally.lost;
    let per_million = |cpu: f64| (received > 0).then(|| cpu / (real(received) / 1e6));
    force.close()?;
    force.check()?;

    let above = real(resident.saturating_sub(empty)) / f64::from(plan.connections);
    let note = format!(
        "{above:.0} bytes each above the memory of empty comets; {:.2} % of a core while idle; \
         logins {:.0} a second with the measurements between them",
        idle_cpu * 100.0,
        f64::from(plan.connections) / logins
    );
    let refusal = sent.refused.first();
    let error =
        refusal.map(|(_, status)| format!("{} comets refused: {status}", sent.refused.len()));
    Ok(Row {
        scenario: format!("{} comets, one broadcast to all", plan.comets),
        door: Some(args.door),
        connections: plan.connections,
        body: Some(once::BODY),
        seconds,
        offered: u64::from(plan.connections),
        received,
        lost: u64::from(plan.connections) - received.min(plan.connections.into()) - refused,
        refused,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        strays: outcome.strays,
        gone: outcome.gone,
        per_second: real(received) / seconds.max(1e-9),
        server_cpu: per_million(after.0 - cpu.0),
        client_cpu: per_million(after.1 - cpu.1),
        p50: millis(&latencies.latency, 0.5),
        p99: millis(&latencies.latency, 0.99),
        p999: millis(&latencies.latency, 0.999),
        rss: Some(resident),
        bytes_per_connection: Some(curve.slope()),
        idle_cpu: Some(idle_cpu),
        error: error.unwrap_or_default(),
        note,
        ..Row::default()
    })
}

/// Logs everyone in, in steps, and measures the memory of all comets after each.
async fn log_in(force: &mut Force, servers: &Processes, empty: u64) -> anyhow::Result<Curve> {
    let mut curve = Curve::default();
    for step in 1..=STEPS {
        let open = force.open(step, STEPS)?;
        rest(servers).await?;
        let rss = servers.memory()?.rss;
        progress(&format!(
            "{open} connections: {} MiB resident, {:.0} bytes each above {} MiB of empty comets",
            rss >> 20,
            real(rss.saturating_sub(empty)) / f64::from(open.max(1)),
            empty >> 20
        ));
        curve.0.push((open, rss));
    }
    Ok(curve)
}

/// Sends a message to all and waits until all have it, or nothing more comes.
async fn broadcast(force: &mut Force) -> anyhow::Result<(Sent, Outcome, Opened)> {
    force.begin()?;
    let wanted: u64 = (0..force.grpc().len())
        .map(|place| force.open_at(place))
        .sum();
    let sent = once::broadcast(&force.grpc()).await?;
    let (mut last, mut told) = ((0, Instant::now()), Instant::now());
    while last.0 < wanted && last.1.elapsed() < SILENCE {
        sleep(Duration::from_millis(250)).await;
        let received = force.received()?;
        if received > last.0 {
            last = (received, Instant::now());
        }
        if told.elapsed() > TELL || last.0 >= wanted {
            told = Instant::now();
            progress(&format!("{received} have the broadcast"));
        }
    }
    // A repetition comes at once or not at all.
    sleep(Duration::from_secs(1)).await;
    let (outcome, latencies) = force.result()?;
    Ok((sent, outcome, latencies))
}

/// Waits until the servers take less than a fiftieth of a core each second, at most some seconds.
async fn rest(servers: &Processes) -> anyhow::Result<()> {
    let mut before = servers.fine_cpu()?;
    for _ in 0..15 {
        sleep(Duration::from_secs(1)).await;
        let cpu = servers.fine_cpu()?;
        if cpu - before < 0.02 {
            break;
        }
        before = cpu;
    }
    Ok(())
}

/// Sets `nf_conntrack_max` back as soon as what is tracked fits into it.
async fn restore(raised: Raised) -> anyhow::Result<()> {
    let started = Instant::now();
    while !raised.fits()? {
        if started.elapsed() > FORGETTING {
            // It says by itself what is left to do.
            return Ok(());
        }
        sleep(Duration::from_secs(1)).await;
    }
    raised.restore()
}
