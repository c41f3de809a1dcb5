//! Redis's own time, as far as it is known here: a command that may be done late says until when it is wanted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What Redis last said the time was.
#[derive(Debug, Default)]
pub(crate) struct RedisTime(Mutex<Option<Said>>);

#[derive(Debug, Clone, Copy)]
struct Said {
    /// Before the question was sent: so what is reckoned from it is never too early.
    asked: Instant,
    millis: u64,
}

impl RedisTime {
    /// Notes an answer to a question that was asked at `asked`, in milliseconds since 1970.
    pub(crate) fn note(&self, asked: Instant, millis: u64) {
        *self.0.lock() = Some(Said { asked, millis });
    }

    /// When Redis's clock will show that `from_now` has passed, in milliseconds since 1970; 0 if its time is not known.
    pub(crate) fn after(&self, from_now: Duration) -> u64 {
        let Some(Said { asked, millis }) = *self.0.lock() else {
            return 0;
        };
        let passed = (asked.elapsed() + from_now).as_millis();
        millis.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_was_said() {
        let time = RedisTime::default();
        assert_eq!(time.after(Duration::from_secs(1)), 0);
        let asked = Instant::now();
        time.note(asked, 1_000_000);
        let least = time.after(Duration::from_secs(1));
        assert!(least >= 1_001_000, "{least}");
        // As set back by someone: the last word counts.
        time.note(asked, 1_000);
        assert!(time.after(Duration::ZERO) < least);
    }
}
