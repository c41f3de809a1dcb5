//! How much a client sends, against the bounds of a second. Coarse and small: seconds begin with what is sent in them, and a
//! connection that is quiet costs nothing.

use std::time::Duration;

use crate::{clock::Tick, config};

/// Ticks of a second.
const SECOND: u32 = 10;

/// What came in the present second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    since: Tick,
    operations: u32,
    bytes: u32,
}

/// A client has sent too much, and is not read for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// Of what: the label in metrics.
    pub(super) reason: &'static str,
    pub(super) rest: Duration,
}

impl Meter {
    /// Counts what came in one turn of reading.
    pub(super) fn note(
        &mut self,
        now: Tick,
        operations: u32,
        bytes: usize,
        limits: &config::Limits,
    ) -> Option<Pause> {
        if now.0.saturating_sub(self.since.0) >= SECOND {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        self.operations = self.operations.saturating_add(operations);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        let is_over = |taken: u32, max: u32| max > 0 && taken >= max;
        let reason = if is_over(self.operations, limits.operations) {
            "operations"
        } else if is_over(self.bytes, limits.bytes) {
            "bytes"
        } else {
            return None;
        };
        let left = (self.since.0 + SECOND).saturating_sub(now.0).max(1);
        let rest = Duration::from_millis(u64::from(left) * 100);
        Some(Pause { reason, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(operations: u32, bytes: u32) -> config::Limits {
        config::Limits {
            operations,
            bytes,
            ..config::Limits::default()
        }
    }

    fn pause(reason: &'static str, tenths: u64) -> Pause {
        Pause {
            reason,
            rest: Duration::from_millis(tenths * 100),
        }
    }

    #[test]
    fn a_pause_lasts_for_the_rest_of_the_second() {
        let limits = limits(3, 1000);
        let mut meter = Meter::default();
        assert_eq!(meter.note(Tick(50), 2, 10, &limits), None);
        let full = meter.note(Tick(53), 1, 10, &limits);
        assert_eq!(full, Some(pause("operations", 7)));
        assert_eq!(meter.note(Tick(60), 2, 10, &limits), None);
        let full = meter.note(Tick(69), 0, 990, &limits);
        assert_eq!(full, Some(pause("bytes", 1)));
    }

    #[test]
    fn nothing_is_bounded_by_0() {
        let limits = limits(0, 0);
        let mut meter = Meter::default();
        for _ in 0..3 {
            assert_eq!(meter.note(Tick(50), u32::MAX, usize::MAX, &limits), None);
        }
    }
}
