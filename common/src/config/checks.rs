//! Checks of values that have the right type.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Human;

/// A configuration that knows which of its values are allowed.
pub trait Validate {
    /// Checks all values; keys are given as dotted paths from the root, `tcp.sndbuf`.
    fn validate(&self, checks: &mut Checks);
}

/// Collects every failed check, so that all are reported at once.
#[derive(Debug, Default)]
pub struct Checks {
    pub(super) failures: Vec<Failure>,
}

/// One value that is not allowed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) allowed: String,
}

impl Checks {
    /// The value lies within `allowed`, ends included. A float that is no number does not.
    pub fn range<N: PartialOrd + Display + Copy>(
        &mut self,
        key: &str,
        value: N,
        allowed: RangeInclusive<N>,
    ) {
        if !allowed.contains(&value) {
            let text = format!("a number from {} to {}", allowed.start(), allowed.end());
            self.fail(key, value.to_string(), text);
        }
    }

    /// The span of time lies within `allowed`, ends included.
    pub fn duration(&mut self, key: &str, value: Human, allowed: RangeInclusive<Duration>) {
        if !allowed.contains(&value.get()) {
            let (least, most) = (Human(*allowed.start()), Human(*allowed.end()));
            self.fail(
                key,
                format!("\"{value}\""),
                format!("a time from {least} to {most}"),
            );
        }
    }

    /// Any other condition; `allowed` completes the sentence "expected ...".
    pub fn that(&mut self, key: &str, value: impl Display, ok: bool, allowed: &str) {
        if !ok {
            let value = if super::is_secret(key) {
                "(hidden)".into()
            } else {
                value.to_string()
            };
            self.fail(key, value, allowed.into());
        }
    }

    /// The checks of a part whose keys stand under `table`.
    pub fn within(&mut self, table: &str, validate: impl FnOnce(&mut Self)) {
        let mut part = Self::default();
        validate(&mut part);
        for mut failure in part.failures {
            failure.key = format!("{table}.{}", failure.key);
            self.failures.push(failure);
        }
    }

    fn fail(&mut self, key: &str, value: String, allowed: String) {
        self.failures.push(Failure {
            key: key.into(),
            value,
            allowed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(checks: &Checks) -> Vec<String> {
        checks
            .failures
            .iter()
            .map(|f| format!("{} {} {}", f.key, f.value, f.allowed))
            .collect()
    }

    #[test]
    fn allowed_values_leave_no_trace() {
        let mut checks = Checks::default();
        checks.range("a", 1, 1..=1);
        checks.duration("b", Human::secs(1), Duration::ZERO..=Duration::from_secs(1));
        checks.that("c", "x", true, "anything");
        assert!(checks.failures.is_empty());
    }

    #[test]
    fn failures_of_a_part_name_its_table() {
        let mut checks = Checks::default();
        checks.within("comet", |checks| checks.range("tcp.backlog", 0, 1..=2));
        assert_eq!(texts(&checks), ["comet.tcp.backlog 0 a number from 1 to 2"]);
    }

    #[test]
    fn every_failure_is_kept() {
        let mut checks = Checks::default();
        checks.range("a", 0, 1..=9);
        checks.range("nan", f64::NAN, 0.0..=1.0);
        checks.duration(
            "b",
            Human::secs(90),
            Duration::from_secs(1)..=Duration::from_mins(1),
        );
        checks.that("c", "x", false, "y or z");
        checks.that("push.tokens", "s3cret", false, "at least 16 characters");
        assert_eq!(
            texts(&checks),
            [
                "a 0 a number from 1 to 9",
                "nan NaN a number from 0 to 1",
                "b \"1m 30s\" a time from 1s to 1m",
                "c x y or z",
                "push.tokens (hidden) at least 16 characters",
            ]
        );
    }
}
