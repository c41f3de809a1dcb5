//! Coarse time: tenths of a second since the start, in 4 bytes. Heartbeat deadlines are minutes.

use std::time::{Duration, Instant};

/// A point in time, or a span, in tenths of a second. Points count from the clock's start and last 13 years.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

/// The clock of one comet.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The present.
    pub fn now(&self) -> Tick {
        Tick::from(self.start.elapsed())
    }
}

impl From<Duration> for Tick {
    /// Rounded down; spans too long for the type are its maximum.
    fn from(span: Duration) -> Self {
        Self(u32::try_from(span.as_millis() / 100).unwrap_or(u32::MAX))
    }
}
