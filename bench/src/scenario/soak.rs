//! Everything at once for a long time: clients of both doors come and go, others do not read, others stay, send heartbeats and get
//! pushes to rooms, keys and everyone in turn. Those that stay must get everything once and in order, and when all have gone the
//! server must hold no more files and memory than after a first, short round of the same.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Bench, Row, Series, heartbeats::answered, progress};
use crate::{
    clients::{Cohort, Task},
    doors::Door,
    measure::{self, Processes, real},
    pusher::{Pace, Plan, To, Via},
};

/// Rooms, over which all clients are spread.
const ROOMS: u32 = 10;

/// Bytes of a message's body: enough of them that a reader that has stopped fills the socket's buffers and then comet's.
const BODY: usize = 1024;

/// The longest warm-up, in seconds.
const WARMUP: f64 = 60.0;

/// Seconds of one series of pushes.
const TURN: f64 = 10.0;

/// How often some come and go, and the others send a heartbeat.
const STEP: Duration = Duration::from_millis(500);

/// How often memory and files are looked at.
const SAMPLE: Duration = Duration::from_secs(10);

/// How long the server may take to let go of what it held.
const PATIENCE: Duration = Duration::from_mins(1);

/// Share of the memory before by which it may grow.
const GROWTH: f64 = 0.1;

/// Bytes by which it may grow besides.
const SLACK: f64 = 8.0 * 1024.0 * 1024.0;

/// How long, and how much at once.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize)]
pub struct SoakArgs {
    /// Minutes, after a warm-up of one minute, or a quarter of this if that is less.
    #[arg(long, default_value_t = 15.0)]
    pub minutes: f64,
    /// Connections that stay, half of them over each door.
    #[arg(long, default_value_t = 500)]
    pub staying: u32,
    /// Connections that come and go, twice a second.
    #[arg(long, default_value_t = 100)]
    pub coming: u32,
    /// Connections that do not read and log in again every half minute.
    #[arg(long, default_value_t = 20)]
    pub stopped: u32,
    /// Messages a second to each room, or to everyone.
    #[arg(long, default_value_t = 40.0)]
    pub rate: f64,
}

impl Default for SoakArgs {
    fn default() -> Self {
        Self {
            minutes: 15.0,
            staying: 500,
            coming: 100,
            stopped: 20,
            rate: 40.0,
        }
    }
}

/// What the server holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    files: usize,
    rss: u64,
}

/// What one run of the load came to.
#[derive(Debug, Default)]
struct Load {
    row: Row,
    logins: u64,
    beats: u64,
    most: Held,
    errors: Vec<String>,
}

/// Runs the load twice, first for a short while, and compares what the server holds after each.
pub async fn run(bench: &Bench, args: &SoakArgs) -> anyhow::Result<Row> {
    ensure!(
        !bench.server.processes.is_empty(),
        "files and memory need the server's process: --pid"
    );
    ensure!(
        args.minutes > 0.0 && args.staying >= ROOMS && args.rate > 0.0,
        "some minutes, {ROOMS} connections that stay and a rate are needed"
    );
    let seconds = args.minutes * 60.0;
    let fresh = held(bench)?;
    let mut warmup = Load::default();
    warmup.run(bench, args, WARMUP.min(seconds / 4.0)).await?;
    let before = at_rest(bench, None).await?;
    progress(&format!(
        "before: {before}, of a fresh server {fresh}; that is what is compared with"
    ));
    let mut load = Load::default();
    load.run(bench, args, seconds).await?;
    let after = at_rest(bench, Some(before)).await?;
    progress(&format!("after: {after}"));

    let note = format!(
        "{} logins and goodbyes, {} heartbeats; at the end {after}, before {before}, at most {}",
        load.logins, load.beats, load.most,
    );
    Ok(Row {
        scenario: "soak".to_owned(),
        connections: args.staying + args.coming + args.stopped,
        body: Some(BODY),
        rss: Some(after.rss),
        kept: before.exceeded_by(after),
        error: load.errors.join("; "),
        note,
        ..load.row
    })
}

impl Load {
    async fn run(&mut self, bench: &Bench, args: &SoakArgs, seconds: f64) -> anyhow::Result<()> {
        let (stats, at) = (bench.fleet.stats().await?, measure::now());
        let cpu = (bench.server.processes.cpu()?, Processes::this().cpu()?);
        let half = args.staying / 2;
        bench.open(0, half, Door::Tcp, ROOMS).await?;
        bench
            .open(half, args.staying - half, Door::Websocket, ROOMS)
            .await?;
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let turn = Duration::from_secs_f64(TURN.min(seconds / 3.0));
        for number in 0.. {
            if Instant::now() >= end {
                break;
            }
            let to = [To::Room, To::Keys, To::Everyone][number % 3];
            let via = [Via::Unary, Via::Stream][number / 3 % 2];
            if number % 3 == 0 {
                self.stop_reading(bench, args).await?;
            }
            self.turn(bench, args, plan(args, to, via), turn).await?;
        }
        let after = answered(bench).await?;
        self.beats = after.beats - stats.beats;
        let row = &mut self.row;
        row.gone += after.closed + after.errors - stats.closed - stats.errors;
        let missing = (after.asked - stats.asked).saturating_sub(self.beats);
        if missing > 0 {
            row.lost += missing;
            self.errors
                .push(format!("{missing} heartbeats were not answered"));
        }
        row.seconds = real(measure::now() - at) / 1e9;
        let received = real((after.received - stats.received).max(1));
        row.per_second = received / row.seconds;
        row.server_cpu = Some((bench.server.processes.cpu()? - cpu.0) / (received / 1e6));
        row.client_cpu = Some((Processes::this().cpu()? - cpu.1) / (received / 1e6));
        bench
            .close(0, args.staying + args.stopped + args.coming)
            .await
    }

    /// One series of pushes, with all that goes on beside it.
    async fn turn(
        &mut self,
        bench: &Bench,
        args: &SoakArgs,
        plan: Plan,
        seconds: Duration,
    ) -> anyhow::Result<()> {
        let mut series = Series::begin(bench, plan).await?;
        series.mark().await?;
        let end = Instant::now() + seconds;
        let (mut next, mut sampled) = (Instant::now(), None);
        while Instant::now() < end {
            self.come_and_go(bench, args).await?;
            beat(bench, args.staying).await?;
            if sampled.is_none_or(|at: Instant| at.elapsed() >= SAMPLE) {
                sampled = Some(Instant::now());
                self.sample(bench)?;
            }
            next = (next + STEP).max(Instant::now());
            sleep_until(next.min(end)).await;
        }
        let row = series.end(args.staying).await?.row;
        if row.lost + row.duplicated + row.reordered + row.strays + row.refused > 0 {
            let text = format!(
                "{:?}, {:?}: {} lost, {} duplicated, {} reordered, {} for someone else, {} refused {}",
                plan.to,
                plan.via,
                row.lost,
                row.duplicated,
                row.reordered,
                row.strays,
                row.refused,
                row.error
            );
            progress(&text);
            self.errors.push(text);
        }
        self.row.offered += row.offered;
        self.row.received += row.received;
        self.row.lost += row.lost;
        self.row.refused += row.refused;
        self.row.duplicated += row.duplicated;
        self.row.reordered += row.reordered;
        self.row.strays += row.strays;
        self.row.unsent += row.unsent;
        Ok(())
    }

    /// Those that do not read leave, and come again under the same keys.
    async fn stop_reading(&mut self, bench: &Bench, args: &SoakArgs) -> anyhow::Result<()> {
        let (first, count) = (args.staying, args.stopped);
        bench.fleet.tell(Task::Close { first, count }).await?;
        let half = count / 2;
        self.log_in(bench, first, half, Door::Tcp).await?;
        self.log_in(bench, first + half, count - half, Door::Websocket)
            .await?;
        let pause = Task::Pause {
            first,
            count,
            paused: true,
        };
        bench.fleet.tell(pause).await
    }

    async fn come_and_go(&mut self, bench: &Bench, args: &SoakArgs) -> anyhow::Result<()> {
        let (first, count) = (args.staying + args.stopped, args.coming);
        bench.fleet.tell(Task::Close { first, count }).await?;
        let half = count / 2;
        self.log_in(bench, first, half, Door::Tcp).await?;
        self.log_in(bench, first + half, count - half, Door::Websocket)
            .await
    }

    async fn log_in(
        &mut self,
        bench: &Bench,
        first: u32,
        count: u32,
        door: Door,
    ) -> anyhow::Result<()> {
        let cohort = Cohort {
            first,
            count,
            door,
            rooms: ROOMS,
            shift: 0,
        };
        let opened = bench.fleet.open(cohort, count).await?;
        self.logins += u64::from(opened.opened);
        if opened.failed > 0 {
            self.row.gone += u64::from(opened.failed);
            let reason = opened.last_error.unwrap_or("no answer in time".to_owned());
            self.errors
                .push(format!("{} logins failed: {reason}", opened.failed));
        }
        Ok(())
    }

    fn sample(&mut self, bench: &Bench) -> anyhow::Result<()> {
        let held = held(bench)?;
        self.most.files = self.most.files.max(held.files);
        self.most.rss = self.most.rss.max(held.rss);
        progress(&format!(
            "{held}; {} logins, {} messages, {} lost",
            self.logins, self.row.received, self.row.lost
        ));
        Ok(())
    }
}

impl Held {
    /// Files that are too many, and MiB beyond what is tolerated, rounded up.
    fn exceeded_by(self, after: Self) -> u64 {
        let files = after.files.saturating_sub(self.files) as u64;
        let most = real(self.rss) * (1.0 + GROWTH) + SLACK;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a memory's size"
        )]
        let memory = ((real(after.rss) - most).max(0.0) / real(1 << 20)).ceil() as u64;
        files + memory
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = real(self.rss) / real(1 << 20);
        write!(f, "{mib:.1} MiB and {} files", self.files)
    }
}

/// Pushes to those that stay.
fn plan(args: &SoakArgs, to: To, via: Via) -> Plan {
    let (groups, rate) = match to {
        To::Room => (ROOMS, args.rate * f64::from(ROOMS)),
        To::Everyone => (1, args.rate),
        To::Keys => (args.staying, args.rate * f64::from(ROOMS)),
    };
    Plan {
        to,
        via,
        calls: 1,
        pace: Pace::Rate(rate),
        members: args.staying,
        groups,
        joined: 1,
        body: BODY,
    }
}

/// Each of the first `count` connections sends one heartbeat, or more if answers come before all are sent.
async fn beat(bench: &Bench, count: u32) -> anyhow::Result<()> {
    for on in [true, false] {
        bench
            .fleet
            .tell(Task::Beat {
                first: 0,
                count,
                on,
            })
            .await?;
    }
    Ok(())
}

fn held(bench: &Bench) -> anyhow::Result<Held> {
    let processes = &bench.server.processes;
    Ok(Held {
        files: processes.files()?,
        rss: processes.memory()?.rss,
    })
}

/// What the server holds when it lets go of nothing more for some seconds, or holds no more than is tolerated.
async fn at_rest(bench: &Bench, tolerated: Option<Held>) -> anyhow::Result<Held> {
    bench.rest().await;
    let started = Instant::now();
    let (mut least, mut since) = (held(bench)?, Instant::now());
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = held(bench)?;
        let is_enough = match tolerated {
            Some(before) => before.exceeded_by(now) == 0,
            None => since.elapsed() > Duration::from_secs(5),
        };
        if is_enough || started.elapsed() > PATIENCE {
            return Ok(now);
        }
        if now.files < least.files || now.rss < least.rss {
            (least, since) = (now, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_more_or_much_memory_is_too_much() {
        let held = |files, mib: u64| Held {
            files,
            rss: mib << 20,
        };
        let before = held(40, 100);
        assert_eq!(before.exceeded_by(held(40, 118)), 0);
        assert_eq!(before.exceeded_by(held(30, 90)), 0);
        assert_eq!(before.exceeded_by(held(42, 100)), 2);
        assert_eq!(before.exceeded_by(held(40, 121)), 3);
    }
}
