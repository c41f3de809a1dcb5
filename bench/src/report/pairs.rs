//! Measures cases: limit, server, limit, server, ..., so that each result stands beside what the machine could do just then.

use serde::{Deserialize, Serialize};

use super::{
    cases::{Case, Work},
    conditions::Conditions,
    medians::{median, median_row},
    verdicts::{Reached, Verdict},
};
use crate::{
    doors::Door,
    limit::{self, LimitArgs},
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
    /// What was measured, and under which conditions.
    #[serde(default)]
    pub conditions: Conditions,
    /// Medians over all runs, a row for each part of the case; none if not one run was whole.
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
    /// Why it ended before all runs were made; then no target is met.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
}

impl Measured {
    /// Times the limit in the best run and in the worst; nothing of a single run.
    pub(super) fn spread(&self) -> Option<(f64, f64)> {
        let ratios = ratios(&self.runs);
        let (least, most) = ratios
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(least, most), &ratio| {
                (least.min(ratio), most.max(ratio))
            });
        (ratios.len() > 1).then_some((least, most))
    }

    /// What the same runs come to by a case as it is now: results of before may have been made for other targets.
    pub(super) fn judged_by(mut self, case: &Case) -> Self {
        if case.limit.is_none() {
            for row in self.runs.iter_mut().flatten() {
                row.limit = None;
            }
        }
        let done = Done {
            runs: self.runs,
            memory: self.memory,
        };
        Self {
            conditions: self.conditions,
            ..judge(case, done, self.failed)
        }
    }
}

/// Runs so far.
#[derive(Debug, Default)]
struct Done {
    runs: Vec<Vec<Row>>,
    memory: Vec<(u32, u64)>,
}

/// Measures a case, `pairs` times, with a server that is started for it if it can be. What fails ends it, and the runs that
/// there are by then are the result.
pub async fn measure(case: &Case, server: &ServerArgs, timing: Timing, pairs: usize) -> Measured {
    progress(&format!("{}:", case.id));
    let mut done = Done::default();
    let whole = match &case.work {
        Work::Million(_) | Work::Soak(_) => by_itself(&case.work, server, timing, &mut done).await,
        _ => in_pairs(case, server, timing, pairs, &mut done).await,
    };
    let failed = whole.err().map(|error| format!("{error:#}"));
    if let Some(error) = &failed {
        progress(&format!("{} failed: {error}", case.id));
    }
    Measured {
        conditions: Conditions::now(server),
        ..judge(case, done, failed)
    }
}

async fn in_pairs(
    case: &Case,
    server: &ServerArgs,
    timing: Timing,
    pairs: usize,
    done: &mut Done,
) -> anyhow::Result<()> {
    let mut bench = Bench::start(server, 1, timing)?;
    let mut before = limit_cpu(case.limit.as_ref())?;
    for pair in 0..pairs.min(case.at_most).max(1) {
        // What connections once held stays with the allocator: memory is measured in a fresh server.
        if pair > 0 && matches!(case.work, Work::Idle(_)) && server.comet.is_some() {
            drop(bench);
            bench = Bench::start(server, 1, timing)?;
        }
        let (mut rows, curve) = run(&bench, &case.work).await?;
        bench.server.check()?;
        let after = limit_cpu(case.limit.as_ref())?;
        let limit = before
            .zip(after)
            .map(|(before, after)| f64::midpoint(before, after));
        for row in &mut rows {
            row.limit = limit;
            let cpu = |value: Option<f64>| {
                value.map_or_else(|| "none".to_owned(), |value| format!("{value:.2}"))
            };
            progress(&format!(
                "{}: CPU {}, limit {}",
                row.scenario,
                cpu(row.server_cpu),
                cpu(limit)
            ));
        }
        done.runs.push(rows);
        done.memory = curve.0;
        before = after;
    }
    Ok(())
}

/// The bare loop's CPU seconds for a million, if there is one.
fn limit_cpu(limit: Option<&LimitArgs>) -> anyhow::Result<Option<f64>> {
    let row = limit.map(limit::run_apart).transpose()?;
    Ok(row.and_then(|row| row.server_cpu))
}

/// Work that is done once and starts what it needs by itself; nothing of any other.
async fn by_itself(
    work: &Work,
    server: &ServerArgs,
    timing: Timing,
    done: &mut Done,
) -> anyhow::Result<()> {
    match work {
        Work::Million(args) => done.runs.push(vec![million::run(args, server).await?]),
        Work::Soak(args) => {
            let mut bench = Bench::start(server, 1, timing)?;
            done.runs.push(vec![soak::run(&bench, args).await?]);
            bench.server.check()?;
        }
        _ => {}
    }
    Ok(())
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
        Work::Resume(pushes, stopped) => slow::resume(bench, pushes, *stopped).await?,
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

/// Times the limit, in each run that has one.
fn ratios(runs: &[Vec<Row>]) -> Vec<f64> {
    let ratio = |rows: &Vec<Row>| {
        let row = rows.first()?;
        Some(row.server_cpu? / row.limit?)
    };
    runs.iter().filter_map(ratio).collect()
}

fn judge(case: &Case, done: Done, failed: Option<String>) -> Measured {
    let Done { runs, memory } = done;
    let parts = runs.iter().map(Vec::len).min().unwrap_or(0);
    let part = |at: usize| {
        runs.iter()
            .filter_map(|rows| rows.get(at))
            .collect::<Vec<_>>()
    };
    let medians: Vec<Row> = (0..parts).map(|at| median_row(&part(at))).collect();
    let of_limit = median(ratios(&runs));
    let reached = Reached {
        of_limit,
        medians: &medians,
        runs: &runs,
    };
    let verdicts = case.targets.iter().map(|target| {
        let verdict = reached.judge(*target);
        Verdict {
            met: verdict.met && failed.is_none(),
            set_at: case.set_at,
            ..verdict
        }
    });
    Measured {
        id: case.id.clone(),
        conditions: Conditions::default(),
        verdicts: verdicts.collect(),
        of_limit,
        goim: case.goim.to_owned(),
        medians,
        runs,
        memory,
        failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::cases;

    fn case(id: &str) -> Case {
        cases::all().into_iter().find(|case| case.id == id).unwrap()
    }

    fn run_of(cpu: f64) -> Vec<Row> {
        vec![Row {
            server_cpu: Some(cpu),
            limit: Some(10.0),
            ..Row::default()
        }]
    }

    #[test]
    fn what_fails_keeps_its_runs_and_meets_no_target() {
        let case = case("room-1-tcp-1000");
        let done = || Done {
            runs: vec![run_of(1.0), run_of(3.0)],
            memory: Vec::new(),
        };
        let whole = judge(&case, done(), None);
        assert!(whole.verdicts.iter().all(|verdict| verdict.met));
        let failed = judge(&case, done(), Some("the server is gone".to_owned()));
        assert_eq!((failed.of_limit, failed.runs.len()), (Some(0.2), 2));
        assert_eq!(failed.spread(), Some((0.1, 0.3)));
        assert!(failed.verdicts.iter().all(|verdict| !verdict.met));
        let empty = judge(&case, Done::default(), Some("no server".to_owned()));
        assert!(empty.medians.is_empty() && empty.verdicts[0].reached.is_none());
    }

    #[test]
    fn results_of_before_are_judged_by_the_targets_of_now() {
        let before = Measured {
            id: "churn".to_owned(),
            of_limit: Some(0.1),
            runs: vec![run_of(1.0)],
            ..Measured::default()
        };
        let now = before.judged_by(&case("churn"));
        assert_eq!((now.of_limit, now.verdicts.len()), (None, 1));
        assert_eq!(now.medians[0].limit, None);
    }
}
