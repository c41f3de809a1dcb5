//! Clients come and go beside others that stay. Those that stay must not notice.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Bench, Row, Series, fanout::Pushes};
use crate::{
    clients::{Cohort, Task},
    pusher::To,
};

/// Pushes a second to those that stay where none are asked for.
const RATE: f64 = 20.0;

/// Measures what those that stay receive while others, `coming` at once, log in, stay for a moment and leave.
pub async fn run(bench: &Bench, pushes: &Pushes, coming: u32) -> anyhow::Result<Row> {
    let count = pushes.connections;
    let pushes = Pushes {
        rate: pushes.rate.or(Some(RATE)),
        ..pushes.clone()
    };
    bench.open(0, count, pushes.door, 1).await?;
    let mut series = Series::begin(bench, pushes.plan(To::Room, 1)).await?;
    sleep(Duration::from_secs_f64(bench.timing.warmup)).await;
    series.mark().await?;
    let passing = Cohort {
        first: count,
        count: coming,
        door: pushes.door,
        rooms: 1,
        shift: 0,
    };
    let started = Instant::now();
    let (mut logins, mut failed) = (0, 0);
    while started.elapsed().as_secs_f64() < bench.timing.seconds {
        let opened = bench.fleet.open(passing, coming).await?;
        logins += opened.opened;
        failed += opened.failed;
        let leave = Task::Close {
            first: count,
            count: coming,
        };
        bench.fleet.tell(leave).await?;
    }
    let rate = f64::from(logins) / started.elapsed().as_secs_f64();
    let mut row = series.end(count).await?.row;
    row.scenario = format!("{coming} come and go, those that stay");
    row.door = Some(pushes.door);
    row.gone += u64::from(failed);
    row.note = format!("{rate:.0} logins and goodbyes a second, {failed} failed");
    bench.close(0, count).await?;
    Ok(row)
}
