//! Heartbeats: every connection sends its next as soon as the last is answered.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use super::{Bench, Row, millis};
use crate::{
    clients::{Stats, Task},
    doors::Door,
    measure::{self, Processes, real},
};

/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether they have come.
const PAUSE: Duration = Duration::from_millis(20);

/// Measures the heartbeats of `count` connections.
pub async fn run(bench: &Bench, door: Door, count: u32) -> anyhow::Result<Row> {
    ensure!(
        door.beats(),
        "clients of the {} door send no heartbeats",
        door.name()
    );
    bench.open(0, count, door, 1).await?;
    let beat = |on| {
        bench.fleet.tell(Task::Beat {
            first: 0,
            count,
            on,
        })
    };
    let start = bench.fleet.stats().await?;
    beat(true).await?;
    sleep(Duration::from_secs_f64(bench.timing.warmup)).await;
    bench.fleet.tell(Task::Mark).await?;
    let before = sample(bench).await?;
    sleep(Duration::from_secs_f64(bench.timing.seconds)).await;
    let after = sample(bench).await?;
    beat(false).await?;
    let stats = answered(bench).await?;
    bench.close(0, count).await?;

    let (asked, answers) = (stats.asked - start.asked, stats.beats - start.beats);
    let beats = after.0.beats - before.0.beats;
    let seconds = real(after.1 - before.1) / 1e9;
    let per_million = |cpu: f64| cpu / (real(beats.max(1)) / 1e6);
    Ok(Row {
        scenario: "heartbeats".to_owned(),
        door: Some(door),
        connections: count,
        seconds,
        offered: asked,
        received: answers,
        // A server may answer more often than it was asked.
        lost: asked.saturating_sub(answers),
        per_second: real(beats) / seconds,
        server_cpu: (!bench.server.processes.is_empty()).then(|| per_million(after.2 - before.2)),
        client_cpu: Some(per_million(after.3 - before.3)),
        p50: millis(&stats.latency, 0.5),
        p99: millis(&stats.latency, 0.99),
        p999: millis(&stats.latency, 0.999),
        gone: stats.closed + stats.errors - start.closed - start.errors,
        ..Row::default()
    })
}

/// Waits until all that were sent are answered, for as long as it may take.
pub(super) async fn answered(bench: &Bench) -> anyhow::Result<Stats> {
    let end = Instant::now() + PATIENCE;
    loop {
        let stats = bench.fleet.stats().await?;
        if stats.beats >= stats.asked || Instant::now() > end {
            return Ok(stats);
        }
        sleep(PAUSE).await;
    }
}

async fn sample(bench: &Bench) -> anyhow::Result<(Stats, u64, f64, f64)> {
    let stats = bench.fleet.stats().await?;
    let server = bench.server.processes.cpu()?;
    Ok((stats, measure::now(), server, Processes::this().cpu()?))
}
