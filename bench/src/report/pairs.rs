//! Measures cases: limit, server, limit, server, ..., so that each result stands beside what the machine could do just then.

use serde::{Deserialize, Serialize};

use super::cases::{Case, Target, Work};
use crate::{
    doors::Door,
    limit,
    measure::real,
    million,
    scenario::{
        Bench, Row, Timing, churn, fanout, heartbeats, idle, idle::Curve, logins, mix, overload,
        progress, slow, soak,
    },
    server::ServerArgs,
};

/// Counts of connections at which the memory is measured.
const IDLE_COUNTS: [u32; 5] = [1000, 5000, 10_000, 15_000, 19_000];

/// Seconds for which the CPU time of idle connections is measured.
const IDLE_QUIET: f64 = 20.0;

/// Logins of a round.
const LOGINS: u32 = 10_000;

/// What a case came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The case.
    pub id: String,
    /// Medians over all runs; more than one if the case has parts.
    pub medians: Vec<Row>,
    /// Times the limit: the median of the pairs' ratios.
    pub of_limit: Option<f64>,
    /// Each target, what was reached, and whether that meets it.
    pub verdicts: Vec<Verdict>,
    /// Of goim's comet.
    pub goim: String,
    /// All runs.
    pub runs: Vec<Vec<Row>>,
    /// Memory at each count of connections, of the last run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub memory: Vec<(u32, u64)>,
}

/// How a target was met.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Verdict {
    /// The target.
    pub target: Target,
    /// What was reached, in the target's unit; a number of faults or of messages that nobody tells of.
    pub reached: Option<f64>,
    /// Whether that is enough.
    pub met: bool,
}

/// Measures a case, `pairs` times, with a server that is started for it if it can be.
pub async fn measure(
    case: &Case,
    server: &ServerArgs,
    timing: Timing,
    pairs: usize,
) -> anyhow::Result<Measured> {
    progress(&format!("{}:", case.id));
    if let Some(row) = by_itself(&case.work, server, timing).await? {
        return Ok(judge(case, vec![vec![row]], Vec::new()));
    }
    let pairs = pairs.min(case.at_most).max(1);
    let mut runs: Vec<Vec<Row>> = Vec::new();
    let mut memory = Vec::new();
    let mut bench = Bench::start(server, 1, timing)?;
    let mut before = limit::run_apart(&case.limit)?.server_cpu;
    for pair in 0..pairs {
        // What connections once held stays with the allocator: memory is measured in a fresh server.
        if pair > 0 && matches!(case.work, Work::Idle(_)) && server.comet.is_some() {
            drop(bench);
            bench = Bench::start(server, 1, timing)?;
        }
        let (mut rows, curve) = run(&bench, &case.work).await?;
        bench.server.check()?;
        let after = limit::run_apart(&case.limit)?.server_cpu;
        let limit = before
            .zip(after)
            .map(|(before, after)| f64::midpoint(before, after));
        for row in &mut rows {
            row.limit = limit;
            let (cpu, limit) = (row.server_cpu.unwrap_or(0.0), limit.unwrap_or(0.0));
            progress(&format!("{}: {cpu:.2}, the limit {limit:.2}", row.scenario));
        }
        runs.push(rows);
        memory = curve.0;
        before = after;
    }
    Ok(judge(case, runs, memory))
}

/// Work that stands beside no limit; nothing of any other.
async fn by_itself(
    work: &Work,
    server: &ServerArgs,
    timing: Timing,
) -> anyhow::Result<Option<Row>> {
    Ok(match work {
        Work::Million(args) => Some(million::run(args, server).await?),
        Work::Soak(args) => {
            let mut bench = Bench::start(server, 1, timing)?;
            let row = soak::run(&bench, args).await?;
            bench.server.check()?;
            Some(row)
        }
        _ => None,
    })
}

async fn run(bench: &Bench, work: &Work) -> anyhow::Result<(Vec<Row>, Curve)> {
    let row = match work {
        Work::Rooms(pushes, rooms) => fanout::rooms(bench, pushes, *rooms).await?,
        Work::Broadcast(pushes) => fanout::broadcast(bench, pushes).await?,
        Work::Keys(pushes, per_call) => fanout::keys(bench, pushes, *per_call).await?,
        Work::Search(pushes) => fanout::search(bench, pushes).await?,
        Work::Logins(door) => logins::run(bench, *door, LOGINS, 64, 1).await?,
        Work::Heartbeats(door) => heartbeats::run(bench, *door, 1000).await?,
        Work::Slow(pushes, stopped) => slow::run(bench, pushes, *stopped).await?,
        Work::Churn(pushes, coming) => churn::run(bench, pushes, *coming).await?,
        Work::Mix(pushes, rooms) => mix::run(bench, pushes, *rooms).await?,
        Work::Overload(pushes) => {
            return Ok((overload::run(bench, pushes).await?, Curve::default()));
        }
        Work::Idle(door) => return idling(bench, *door).await,
        // Of these `by_itself` has told.
        Work::Million(_) | Work::Soak(_) => return Ok((Vec::new(), Curve::default())),
    };
    Ok((vec![row], Curve::default()))
}

async fn idling(bench: &Bench, door: Door) -> anyhow::Result<(Vec<Row>, Curve)> {
    let (row, curve) = idle::run(bench, door, &IDLE_COUNTS, IDLE_QUIET).await?;
    Ok((vec![row], curve))
}

fn judge(case: &Case, runs: Vec<Vec<Row>>, memory: Vec<(u32, u64)>) -> Measured {
    let parts = runs.iter().map(Vec::len).min().unwrap_or(0);
    let part = |at: usize| {
        runs.iter()
            .filter_map(|rows| rows.get(at))
            .collect::<Vec<_>>()
    };
    let medians: Vec<Row> = (0..parts).map(|at| median_row(&part(at))).collect();
    let ratios = runs.iter().filter_map(|rows| {
        let row = rows.first()?;
        Some(row.server_cpu? / row.limit?)
    });
    let of_limit = median(ratios.collect());
    let verdict = |target: &Target| reach(*target, of_limit, &medians);
    Measured {
        id: case.id.clone(),
        verdicts: case.targets.iter().map(verdict).collect(),
        of_limit,
        goim: case.goim.to_owned(),
        medians,
        runs,
        memory,
    }
}

fn reach(target: Target, of_limit: Option<f64>, rows: &[Row]) -> Verdict {
    let first = rows.first();
    let faults = rows.iter().map(Row::faults);
    let untold = rows
        .iter()
        .map(|row| row.lost.abs_diff(row.told.unwrap_or(0)));
    let (reached, met): (Option<f64>, fn(f64, f64) -> bool) = match target {
        Target::OfLimit(_) => (of_limit, |reached, most| reached <= most),
        Target::P99(_) => (first.and_then(|row| row.p99), |reached, most| {
            reached <= most
        }),
        Target::PerSecond(_) => (first.map(|row| row.per_second), |reached, least| {
            reached >= least
        }),
        Target::Bytes(_) => (
            first.and_then(|row| row.bytes_per_connection),
            |reached, most| reached <= most,
        ),
        Target::IdleCpu(_) => (first.and_then(|row| row.idle_cpu), |reached, most| {
            reached <= most
        }),
        Target::NoFault => (Some(real(faults.sum())), |reached, _| reached <= 0.0),
        Target::Keeps(_) => (least_share(rows), |reached, least| reached >= least),
        Target::Told => (Some(real(untold.sum())), |reached, _| reached <= 0.0),
    };
    let aim = match target {
        Target::OfLimit(aim) | Target::P99(aim) | Target::PerSecond(aim) | Target::Bytes(aim) => {
            aim
        }
        Target::IdleCpu(aim) | Target::Keeps(aim) => aim,
        Target::NoFault | Target::Told => 0.0,
    };
    let met = reached.is_some_and(|reached| met(reached, aim));
    Verdict {
        target,
        reached,
        met,
    }
}

/// How much of the best throughput so far each part with more load has; the last part is calm again.
fn least_share(rows: &[Row]) -> Option<f64> {
    let loaded = rows.split_last()?.1;
    let mut best = 0.0_f64;
    let shares = loaded.iter().map(|row| {
        best = best.max(row.per_second);
        row.per_second / best
    });
    shares.skip(1).reduce(f64::min)
}

/// Medians of what is measured, and sums of what is counted.
fn median_row(rows: &[&Row]) -> Row {
    let of =
        |value: fn(&Row) -> Option<f64>| median(rows.iter().filter_map(|row| value(row)).collect());
    let sum = |value: fn(&Row) -> u64| rows.iter().map(|row| value(row)).sum();
    let Some(first) = rows.first() else {
        return Row::default();
    };
    Row {
        seconds: of(|row| Some(row.seconds)).unwrap_or(0.0),
        offered: sum(|row| row.offered),
        received: sum(|row| row.received),
        lost: sum(|row| row.lost),
        refused: sum(|row| row.refused),
        told: rows.iter().map(|row| row.told).sum(),
        unsent: sum(|row| row.unsent),
        duplicated: sum(|row| row.duplicated),
        reordered: sum(|row| row.reordered),
        strays: sum(|row| row.strays),
        gone: sum(|row| row.gone),
        stalls: sum(|row| row.stalls),
        kept: sum(|row| row.kept),
        per_second: of(|row| Some(row.per_second)).unwrap_or(0.0),
        pushes_per_second: of(|row| row.pushes_per_second),
        server_cpu: of(|row| row.server_cpu),
        client_cpu: of(|row| row.client_cpu),
        limit: of(|row| row.limit),
        p50: of(|row| row.p50),
        p99: of(|row| row.p99),
        p999: of(|row| row.p999),
        messages_per_read: of(|row| row.messages_per_read),
        bytes_per_connection: of(|row| row.bytes_per_connection),
        idle_cpu: of(|row| row.idle_cpu),
        rss: rows.iter().filter_map(|row| row.rss).max(),
        note: rows
            .iter()
            .rev()
            .map(|row| row.note.clone())
            .find(|note| !note.is_empty())
            .unwrap_or_default(),
        ..(*first).clone()
    }
}

/// The middle of some values, or of the two that are nearest to it.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn targets_are_judged_by_what_was_reached() {
        let row = |per_second, lost| Row {
            per_second,
            lost,
            p99: Some(7.0),
            ..Row::default()
        };
        let rows = [row(100.0, 0), row(95.0, 3), row(80.0, 0), row(1.0, 0)];
        let met = |target| reach(target, Some(0.3), &rows).met;
        assert!(met(Target::OfLimit(0.3)) && !met(Target::OfLimit(0.29)));
        assert!(met(Target::P99(8.0)) && !met(Target::P99(6.0)));
        assert!(met(Target::PerSecond(100.0)) && !met(Target::PerSecond(101.0)));
        assert!(met(Target::Keeps(0.8)) && !met(Target::Keeps(0.9)));
        assert!(!met(Target::NoFault) && !met(Target::Bytes(1e9)));
    }
}
