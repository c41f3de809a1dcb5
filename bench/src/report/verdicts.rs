//! How targets are met.

use serde::{Deserialize, Serialize};

use super::{
    cases::Target,
    numbers::{rate, three},
};
use crate::{measure::real, scenario::Row};

/// How a target was met.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Verdict {
    /// The target.
    pub target: Target,
    /// What was reached, in the target's unit; a number of faults or of messages that nobody tells of.
    pub reached: Option<f64>,
    /// Whether that is enough.
    pub met: bool,
    /// The limit's CPU seconds where a target in CPU seconds was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_at: Option<f64>,
}

/// What targets are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached<'a> {
    /// Times the limit.
    pub(super) of_limit: Option<f64>,
    /// The medians over all runs, a row for each part.
    pub(super) medians: &'a [Row],
    /// All runs.
    pub(super) runs: &'a [Vec<Row>],
}

impl Reached<'_> {
    /// Whether a target is met; one of which nothing was measured is not.
    pub(super) fn judge(self, target: Target) -> Verdict {
        let reached = self.by(target);
        let met = |reached: f64| match target {
            Target::OfLimit(most)
            | Target::P99(most)
            | Target::Bytes(most)
            | Target::IdleCpu(most) => reached <= most,
            Target::PerSecond(least) | Target::Keeps(least) => reached >= least,
            Target::NoFault | Target::Told | Target::Recovers => reached <= 0.0,
        };
        Verdict {
            target,
            reached,
            met: reached.is_some_and(met),
            set_at: None,
        }
    }

    fn by(self, target: Target) -> Option<f64> {
        let first = self.medians.first()?;
        match target {
            Target::OfLimit(_) => self.of_limit,
            Target::P99(_) => first.p99,
            Target::PerSecond(_) => Some(first.per_second),
            Target::Bytes(_) => first.bytes_per_connection,
            Target::IdleCpu(_) => first.idle_cpu,
            Target::NoFault => Some(real(self.medians.iter().map(Row::faults).sum())),
            Target::Keeps(_) => least_share(self.medians),
            Target::Told => Some(real(self.runs.iter().flatten().map(untold).sum())),
            Target::Recovers => {
                let (last, before) = self.medians.split_last()?;
                (!before.is_empty()).then(|| real(last.lost + last.gone + last.stalls))
            }
        }
    }
}

impl Verdict {
    /// What was reached, in words.
    pub(super) fn reached(&self) -> String {
        let Some(reached) = self.reached else {
            return "not measured".to_owned();
        };
        match self.target {
            Target::OfLimit(_) => format!("{} of the limit", three(reached)),
            Target::P99(_) => format!("p99 {reached:.2} ms"),
            Target::PerSecond(_) => format!("{} a second", rate(reached)),
            Target::Bytes(_) => format!("{reached:.0} bytes each"),
            Target::IdleCpu(_) => format!("{:.3} % of a core", reached * 100.0),
            Target::NoFault => format!("{} faults", count(reached)),
            Target::Told => format!("{} lost and not told, or the reverse", count(reached)),
            Target::Keeps(_) => format!("{:.1} % of the best throughput", reached * 100.0),
            Target::Recovers => format!("{} lost, closed or stalled afterwards", count(reached)),
        }
    }

    /// What was aimed at, in words.
    pub(super) fn aim(&self) -> String {
        match self.target {
            Target::OfLimit(most) => match self.set_at {
                Some(limit) => format!(
                    "at most {} ({} CPU s where the limit is {limit})",
                    three(most),
                    three(most * limit)
                ),
                None => format!("at most {}", three(most)),
            },
            Target::P99(most) => format!("at most {most} ms"),
            Target::PerSecond(least) => format!("at least {}", rate(least)),
            Target::Bytes(most) => format!("at most {most:.0}"),
            Target::IdleCpu(most) => format!("at most {:.1} %", most * 100.0),
            Target::NoFault | Target::Told | Target::Recovers => "none".to_owned(),
            Target::Keeps(least) => format!("at least {:.0} %", least * 100.0),
        }
    }
}

/// A count as people read it.
fn count(value: f64) -> String {
    if value < 1.0 {
        "0".to_owned()
    } else {
        rate(value)
    }
}

/// What a row lost and the server did not tell of, or told of and did not lose.
fn untold(row: &Row) -> u64 {
    row.lost.abs_diff(row.told.unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(per_second: f64, lost: u64, told: u64) -> Row {
        Row {
            per_second,
            lost,
            told: Some(told),
            p99: Some(7.0),
            ..Row::default()
        }
    }

    #[test]
    fn targets_are_judged_by_what_was_reached() {
        let medians = [
            row(100.0, 0, 0),
            row(95.0, 3, 3),
            row(80.0, 0, 0),
            row(1.0, 0, 0),
        ];
        let reached = Reached {
            of_limit: Some(0.3),
            medians: &medians,
            runs: &[],
        };
        let met = |target| reached.judge(target).met;
        assert!(met(Target::OfLimit(0.3)) && !met(Target::OfLimit(0.29)));
        assert!(met(Target::P99(8.0)) && !met(Target::P99(6.0)));
        assert!(met(Target::PerSecond(100.0)) && !met(Target::PerSecond(101.0)));
        assert!(met(Target::Keeps(0.8)) && !met(Target::Keeps(0.9)));
        assert!(!met(Target::NoFault) && !met(Target::Bytes(1e9)));
    }

    #[test]
    fn what_one_run_keeps_silent_about_another_does_not_make_up_for() {
        // The sums over both runs are equal.
        let runs = [vec![row(1.0, 5, 0)], vec![row(1.0, 0, 5)]];
        let reached = Reached {
            of_limit: None,
            medians: &[row(1.0, 5, 5)],
            runs: &runs,
        };
        assert_eq!(reached.judge(Target::Told).reached, Some(10.0));
    }

    #[test]
    fn who_still_loses_when_it_is_calm_has_not_recovered() {
        let judge = |medians: &[Row]| {
            let reached = Reached {
                of_limit: None,
                medians,
                runs: &[],
            };
            reached.judge(Target::Recovers)
        };
        assert!(judge(&[row(1.0, 9, 9), row(1.0, 0, 0)]).met);
        let stalled = Row {
            stalls: 1,
            ..Row::default()
        };
        assert!(!judge(&[Row::default(), stalled]).met);
        assert!(!judge(&[row(1.0, 0, 0), row(1.0, 1, 1)]).met);
        // One part alone has no calm part behind it.
        assert_eq!(judge(&[Row::default()]).reached, None);
    }

    #[test]
    fn a_verdict_has_the_digits_that_decide_it() {
        let verdict = Verdict {
            target: Target::OfLimit(2.0 / 7.4),
            reached: Some(0.268_09),
            met: true,
            set_at: Some(7.4),
        };
        assert_eq!(verdict.reached(), "0.268 of the limit");
        assert_eq!(
            verdict.aim(),
            "at most 0.270 (2.00 CPU s where the limit is 7.4)"
        );
        let none = Verdict {
            reached: None,
            ..verdict
        };
        assert_eq!(none.reached(), "not measured");
        let told = |reached| Verdict {
            target: Target::Told,
            reached: Some(reached),
            ..verdict
        };
        assert!(told(0.0).reached().starts_with("0 lost"));
        assert!(told(1234.0).reached().starts_with("1,234 lost"));
    }

    #[test]
    fn results_of_before_are_still_read() {
        let text = r#"{"target": {"of_limit": 0.27}, "reached": 0.26, "met": true}"#;
        let verdict: Verdict = serde_json::from_str(text).unwrap();
        assert_eq!(
            (verdict.target, verdict.set_at),
            (Target::OfLimit(0.27), None)
        );
    }
}
