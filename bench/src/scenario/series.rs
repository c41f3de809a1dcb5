//! One series of pushes to connections that are logged in: what all scenarios with pushes are made of.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Bench, Row, millis, progress};
use crate::{
    clients::{Stats, Tally, Task},
    doors::Door,
    measure::{self, Processes, real},
    pusher::{Pace, Plan, Pushed, Pusher, Via},
};

/// How long nothing may come before it is said that nothing more comes.
const QUIET: Duration = Duration::from_millis(500);

/// How long what waits for clients may take to be delivered, when all pushes are answered.
const DRAIN: Duration = Duration::from_mins(3);

/// A series under way.
#[derive(Debug)]
pub struct Series<'a> {
    bench: &'a Bench,
    plan: Plan,
    pusher: Pusher,
    before: Stats,
    start: Option<Sample>,
}

/// Counters at a moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: u64,
    received: u64,
    pushes: u64,
    reads: u64,
    server: Option<f64>,
    client: f64,
}

/// How a series ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As a result.
    pub row: Row,
    /// What the pusher knows.
    pub pushed: Pushed,
    /// What the connections of the plan know.
    pub tally: Tally,
}

impl<'a> Series<'a> {
    /// Begins to push.
    pub async fn begin(bench: &'a Bench, plan: Plan) -> anyhow::Result<Self> {
        let Plan {
            members,
            groups,
            joined,
            ..
        } = plan;
        let overtaking = match plan.via {
            Via::Unary => plan.calls.saturating_sub(1),
            Via::Stream => 0,
        };
        bench
            .fleet
            .tell(Task::Begin {
                members,
                groups,
                joined,
                overtaking,
            })
            .await?;
        let before = bench.fleet.stats().await?;
        let pusher = Pusher::start(bench.server.grpc()?, plan, bench.fleet.progress()).await?;
        Ok(Self {
            bench,
            plan,
            pusher,
            before,
            start: None,
        })
    }

    /// From here on things are measured.
    pub async fn mark(&mut self) -> anyhow::Result<()> {
        self.bench.fleet.tell(Task::Mark).await?;
        self.start = Some(self.sample().await?);
        Ok(())
    }

    /// Lets it run.
    pub async fn run(&self, seconds: f64) {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut before = self.bench.fleet.received();
        while Instant::now() < end {
            let second = Duration::from_secs(1).min(end - Instant::now());
            sleep(second).await;
            let received = self.bench.fleet.received();
            let rate = real(received - before) / second.as_secs_f64().max(0.001);
            progress(&format!("{rate:.0} messages a second"));
            before = received;
        }
    }

    /// Ends the pushes, waits for what is under way, and counts what the first `counted` connections have.
    pub async fn end(self, counted: u32) -> anyhow::Result<Outcome> {
        let bench = self.bench;
        let start = match self.start {
            Some(start) => start,
            None => self.sample().await?,
        };
        let pushes_at_end = (self.pusher.pushes(), measure::now());
        let (plan, before) = (self.plan, self.before);
        let pushed = self.pusher.end().await;
        settle(bench).await;
        let stats = bench.fleet.stats().await?;
        let tally = bench.fleet.tally(0, counted, pushed.pushes).await?;
        let received = stats.received - start.received;
        let seconds = real(stats.last_receipt.max(start.at + 1) - start.at) / 1e9;
        let millions = real(received) / 1e6;
        let pushing = real(pushes_at_end.1 - start.at) / 1e9;
        let server = bench.server.processes.cpu().ok().zip(start.server);
        let per_million = |cpu: f64| (received > 0).then(|| cpu / millions);
        let client = Processes::this().cpu()? - start.client;
        let refused = (pushed.refused * tally.expected)
            .checked_div(pushed.pushes)
            .unwrap_or(0);
        let row = Row {
            connections: plan.members,
            body: Some(plan.body),
            seconds,
            offered: tally.expected,
            received: tally.expected - tally.lost,
            lost: tally.lost.saturating_sub(refused),
            refused,
            told: (plan.via == Via::Stream).then_some(pushed.dropped),
            unsent: pushed.unsent,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            strays: stats.strays - before.strays,
            gone: tally.gone,
            stalls: pushed.stalls,
            per_second: real(received) / seconds,
            pushes_per_second: Some(real(pushes_at_end.0 - start.pushes) / pushing),
            server_cpu: server
                .filter(|_| !bench.server.processes.is_empty())
                .and_then(|(end, start)| per_million(end - start)),
            client_cpu: per_million(client),
            p50: millis(&stats.latency, 0.5),
            p99: millis(&stats.latency, 0.99),
            p999: millis(&stats.latency, 0.999),
            messages_per_read: Some(real(received) / real((stats.reads - start.reads).max(1))),
            rss: bench
                .server
                .processes
                .memory()
                .ok()
                .map(|memory| memory.rss)
                .filter(|rss| *rss > 0),
            error: pushed.last_error.clone().unwrap_or_default(),
            ..Row::default()
        };
        Ok(Outcome { row, pushed, tally })
    }

    async fn sample(&self) -> anyhow::Result<Sample> {
        let stats = self.bench.fleet.stats().await?;
        Ok(Sample {
            at: measure::now(),
            received: stats.received,
            pushes: self.pusher.pushes(),
            reads: stats.reads,
            server: self.bench.server.processes.cpu().ok(),
            client: Processes::this().cpu()?,
        })
    }
}

impl Bench {
    /// A whole series, warmed up and measured.
    pub async fn series(&self, name: &str, door: Door, plan: Plan) -> anyhow::Result<Outcome> {
        let mut series = Series::begin(self, plan).await?;
        sleep(Duration::from_secs_f64(self.timing.warmup)).await;
        series.mark().await?;
        series.run(self.timing.seconds).await;
        let mut outcome = series.end(plan.members).await?;
        outcome.row.scenario = format!("{name}, {}", describe(&plan));
        outcome.row.door = Some(door);
        Ok(outcome)
    }
}

/// How pushes are made, in words.
fn describe(plan: &Plan) -> String {
    let pace = match plan.pace {
        Pace::Window(window) => format!("window {window}"),
        Pace::Rate(rate) => format!("{rate:.0} a second"),
    };
    let calls = match plan.via {
        Via::Unary if plan.calls > 1 => format!(", {} calls under way", plan.calls),
        Via::Unary => String::new(),
        Via::Stream => ", streamed".to_owned(),
    };
    let joined = match plan.joined {
        0 | 1 => String::new(),
        joined => format!(", {joined} joined by the pusher"),
    };
    format!("{pace}{calls}{joined}")
}

/// Waits until nothing comes any more.
async fn settle(bench: &Bench) {
    let draining = async {
        let mut before = bench.fleet.received();
        loop {
            sleep(QUIET).await;
            let received = bench.fleet.received();
            if received == before {
                return;
            }
            before = received;
        }
    };
    // What comes later still is counted as lost, which it is to whoever waits.
    timeout(DRAIN, draining).await.unwrap_or(());
}
