//! More than the machine can deliver: what is received then, what is dropped, and whether anyone is left behind.

use super::{Bench, Row, fanout::Pushes};
use crate::{
    measure::real,
    pusher::{Pace, Plan, To},
};

/// Pushes under way while the best throughput is looked for.
const BEST: u64 = 512;

/// How many times the best throughput is offered.
const FACTORS: [f64; 3] = [1.5, 3.0, 10.0];

/// Below this share of what was to be offered, it is told how much was.
const MOSTLY: f64 = 0.97;

/// Measures the best throughput, then more than that, and at the end whether everyone still gets everything.
pub async fn run(bench: &Bench, pushes: &Pushes) -> anyhow::Result<Vec<Row>> {
    let count = pushes.connections;
    let paced = |pace| Plan {
        pace,
        ..pushes.plan(To::Room, 1)
    };
    bench.open(0, count, pushes.door, 1).await?;
    let best = bench
        .series("overload: the best", pushes.door, paced(Pace::Window(BEST)))
        .await?
        .row;
    let able = best.per_second;
    let each = f64::from(count * pushes.join.max(1));
    let mut rows = vec![best];
    for factor in FACTORS {
        let rate = able * factor / each;
        let name = format!("overload: {factor} times as much");
        let mut outcome = bench
            .series(&name, pushes.door, paced(Pace::Rate(rate)))
            .await?;
        let row = &mut outcome.row;
        let share = row.per_second / able * 100.0;
        let offered = row.pushes_per_second.unwrap_or(0.0) * each / able;
        let less =
            format!("; only {offered:.1} times as much was offered: the server took no more");
        let less = if offered < MOSTLY * factor {
            less
        } else {
            String::new()
        };
        row.note = format!("{share:.0} % of the best throughput{less}");
        rows.push(outcome.row);
    }
    let calm = paced(Pace::Window(1));
    let mut after = bench
        .series("overload: afterwards", pushes.door, calm)
        .await?
        .row;
    let whole = after.lost == 0 && after.gone == 0 && after.stalls == 0;
    after.note = if whole {
        "everyone gets everything".to_owned()
    } else {
        let share = real(after.lost) / real(after.offered.max(1));
        format!("{:.3} % lost", share * 100.0)
    };
    rows.push(after);
    bench.close(0, count).await?;
    Ok(rows)
}
