//! Some clients stop reading, and later log in again under the same keys, or go on. The others must not notice.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::{Bench, Outcome, Row, Series, fanout::Pushes};
use crate::{
    clients::{Cohort, Task},
    pusher::{To, Via},
};

/// Pushes a second where none are asked for.
const RATE: f64 = 30.0;

/// Bytes of a message where no more are asked for: in 3 seconds 720 KiB come to each connection, which is more than the buffers
/// of both sockets and a backlog hold.
const BODY: usize = 8 << 10;

/// Share of the time in which those that go on do not read. The kernel's next try to send is as far away then as the last one
/// is back, so that they have more than this to catch up.
const STOPPED: f64 = 0.4;

const NOT_SLOW: &str = "nothing was dropped for those that stopped: larger messages or more time are needed to make them slow";

/// Measures what the others receive while `stopped` connections, the last ones, do not read. The result is that of the others.
/// An error if the server says that it dropped nothing: then nobody was slow.
pub async fn run(bench: &Bench, pushes: &Pushes, stopped: u32) -> anyhow::Result<Row> {
    let count = pushes.connections;
    let others = count.saturating_sub(stopped);
    let pushes = large(pushes);
    let series = begin(bench, &pushes, stopped).await?;
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
        "{NOT_SLOW}"
    );
    let mut row = outcome.row;
    row.scenario = format!("{stopped} of {count} stop reading and log in again, the others");
    row.door = Some(pushes.door);
    if opened.failed > 0 {
        row.gone += u64::from(opened.failed);
        row.note = format!("{} could not log in again", opened.failed);
    }
    bench.close(0, count + stopped).await?;
    Ok(row)
}

/// Measures what everyone receives while `stopped` connections, the last ones, do not read for a while and then go on. They
/// miss what the server says that it dropped, if it counts well. An error if it dropped nothing, or if others miss anything.
pub async fn resume(bench: &Bench, pushes: &Pushes, stopped: u32) -> anyhow::Result<Row> {
    ensure!(
        pushes.via == Via::Stream,
        "receipts tell what is dropped: --via stream"
    );
    let count = pushes.connections;
    let others = count.saturating_sub(stopped);
    let pushes = large(pushes);
    let series = begin(bench, &pushes, stopped).await?;
    series.run(bench.timing.seconds * STOPPED).await;
    bench.fleet.tell(pause(others, stopped, false)).await?;
    series.run(bench.timing.seconds * (1.0 - STOPPED)).await;
    let Outcome {
        mut row, pushed, ..
    } = series.end(count).await?;
    let others = bench.fleet.tally(0, others, pushed.pushes).await?;
    ensure!(pushed.dropped > 0, "{NOT_SLOW}");
    ensure!(
        others.lost + others.gone == 0,
        "those that went on reading missed {} messages, and {} of them were closed",
        others.lost,
        others.gone
    );
    row.scenario = format!("{stopped} of {count} stop reading for a while");
    row.door = Some(pushes.door);
    bench.close(0, count).await?;
    Ok(row)
}

/// With messages that a stopped reader cannot take for long.
fn large(pushes: &Pushes) -> Pushes {
    Pushes {
        rate: pushes.rate.or(Some(RATE)),
        body: pushes.body.max(BODY),
        ..pushes.clone()
    }
}

/// Logs all in, pushes, and stops the last ones when it is warm.
async fn begin<'a>(bench: &'a Bench, pushes: &Pushes, stopped: u32) -> anyhow::Result<Series<'a>> {
    let count = pushes.connections;
    bench.open(0, count, pushes.door, 1).await?;
    let mut series = Series::begin(bench, pushes.plan(To::Room, 1)).await?;
    sleep(Duration::from_secs_f64(bench.timing.warmup)).await;
    series.mark().await?;
    let stop = pause(count.saturating_sub(stopped), stopped, true);
    bench.fleet.tell(stop).await?;
    Ok(series)
}

fn pause(first: u32, count: u32, paused: bool) -> Task {
    Task::Pause {
        first,
        count,
        paused,
    }
}
