//! Idle connections: what one more of them costs in memory, and what all of them cost in CPU time.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::{Bench, Row, progress};
use crate::{doors::Door, measure::real};

/// How long the server may tidy up after logins, beyond the time in which its CPU is busy.
const TIDY: Duration = Duration::from_secs(2);

/// Memory at each of several counts of connections.
#[derive(Debug, Clone, Default)]
pub struct Curve(pub Vec<(u32, u64)>);

/// Opens connections up to each of `counts` in turn; measures the memory there, and the CPU for `quiet` seconds at the end.
pub async fn run(
    bench: &Bench,
    door: Door,
    counts: &[u32],
    quiet: f64,
) -> anyhow::Result<(Row, Curve)> {
    ensure!(
        !bench.server.processes.is_empty(),
        "memory needs the server's process: --pid"
    );
    ensure!(
        counts.len() >= 2 && counts.is_sorted(),
        "two or more growing counts are needed"
    );
    let mut curve = Curve::default();
    let mut open = 0;
    for count in counts {
        if *count > open {
            bench.open(open, count - open, door, 1000).await?;
        }
        open = *count;
        bench.rest().await;
        sleep(TIDY).await;
        let memory = bench.server.processes.memory()?;
        progress(&format!(
            "{count} connections: {} KiB resident",
            memory.rss >> 10
        ));
        curve.0.push((*count, memory.rss));
    }
    let before = bench.server.processes.fine_cpu()?;
    sleep(Duration::from_secs_f64(quiet)).await;
    let cpu = bench.server.processes.fine_cpu()? - before;
    let stats = bench.fleet.stats().await?;
    bench.close(0, open).await?;
    let row = Row {
        scenario: "idle".to_owned(),
        door: Some(door),
        connections: open,
        seconds: quiet,
        offered: u64::from(open),
        received: u64::from(open) - stats.closed.min(u64::from(open)),
        gone: stats.closed,
        bytes_per_connection: Some(curve.slope()),
        rss: curve.0.last().map(|(_, rss)| *rss),
        idle_cpu: Some(cpu / quiet.max(0.001)),
        note: format!(
            "{:.3} % of a core while idle",
            cpu / quiet.max(0.001) * 100.0
        ),
        ..Row::default()
    };
    Ok((row, curve))
}

impl Curve {
    /// Bytes that one more connection takes: least squares.
    pub fn slope(&self) -> f64 {
        let count = real(self.0.len() as u64);
        let mean = |value: fn(&(u32, u64)) -> f64| self.0.iter().map(value).sum::<f64>() / count;
        let (x, y) = (mean(|(x, _)| f64::from(*x)), mean(|(_, y)| real(*y)));
        let (above, below) = self.0.iter().fold((0.0, 0.0), |(above, below), point| {
            let (dx, dy) = (f64::from(point.0) - x, real(point.1) - y);
            (above + dx * dy, below + dx * dx)
        });
        above / below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_out_what_is_there_anyway() {
        let curve = Curve(vec![(0, 5_000_000), (1000, 5_900_000), (2000, 6_800_000)]);
        assert!((curve.slope() - 900.0).abs() < 1e-6);
    }
}
