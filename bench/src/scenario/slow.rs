//! Some clients stop reading, and later log in again under the same keys. The others must not notice.

use std::time::Duration;

use tokio::time::sleep;

use super::{Bench, Row, Series, fanout::Pushes};
use crate::{
    clients::{Cohort, Task},
    pusher::To,
};

/// Pushes a second where none are asked for.
const RATE: f64 = 50.0;

/// Measures what the others receive while `stopped` connections, the last ones, do not read. The result is that of the others.
pub async fn run(bench: &Bench, pushes: &Pushes, stopped: u32) -> anyhow::Result<Row> {
    let count = pushes.connections;
    let others = count.saturating_sub(stopped);
    let pushes = Pushes {
        rate: pushes.rate.or(Some(RATE)),
        ..pushes.clone()
    };
    bench.open(0, count, pushes.door, 1).await?;
    let mut series = Series::begin(bench, pushes.plan(To::Room, 1)).await?;
    sleep(Duration::from_secs_f64(bench.timing.warmup)).await;
    series.mark().await?;
    let stop = |paused| Task::Pause {
        first: others,
        count: stopped,
        paused,
    };
    bench.fleet.tell(stop(true)).await?;
    series.run(bench.timing.seconds / 2.0).await;
    // New connections with the keys of the stopped ones, which are still there and do not read.
    let again = Cohort {
        first: count,
        count: stopped,
        door: pushes.door,
        rooms: 1,
        shift: stopped,
    };
    let opened = bench.fleet.open(again, stopped).await?;
    series.run(bench.timing.seconds / 2.0).await;
    let mut row = series.end(others).await?.row;
    row.scenario = format!("{stopped} of {count} stop reading and log in again, the others");
    row.door = Some(pushes.door);
    if opened.failed > 0 {
        row.note = format!("{} could not log in again. {}", opened.failed, row.note);
    }
    bench.close(0, count + stopped).await?;
    Ok(row)
}
