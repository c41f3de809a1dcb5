//! Some clients stop reading, and later log in again under the same keys. The others must not notice.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::{Bench, Row, Series, fanout::Pushes};
use crate::{
    clients::{Cohort, Task},
    pusher::{To, Via},
};

/// Pushes a second where none are asked for.
const RATE: f64 = 30.0;

/// Bytes of a message where no more are asked for: in 3 seconds 720 KiB come to each connection, which is more than the buffers
/// of both sockets and a backlog hold.
const BODY: usize = 8 << 10;

/// Measures what the others receive while `stopped` connections, the last ones, do not read. The result is that of the others.
/// An error if the server says that it dropped nothing: then nobody was slow.
pub async fn run(bench: &Bench, pushes: &Pushes, stopped: u32) -> anyhow::Result<Row> {
    let count = pushes.connections;
    let others = count.saturating_sub(stopped);
    let pushes = Pushes {
        rate: pushes.rate.or(Some(RATE)),
        body: pushes.body.max(BODY),
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
    let outcome = series.end(others).await?;
    ensure!(
        pushes.via == Via::Unary || outcome.pushed.dropped > 0,
        "nothing was dropped for those that stopped: larger messages or more time are needed to make them slow"
    );
    let mut row = outcome.row;
    row.scenario = format!("{stopped} of {count} stop reading and log in again, the others");
    row.door = Some(pushes.door);
    if opened.failed > 0 {
        row.gone += u64::from(opened.failed);
        row.note = format!("{} could not log in again. {}", opened.failed, row.note);
    }
    bench.close(0, count + stopped).await?;
    Ok(row)
}
