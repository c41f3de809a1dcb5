//! The time by which sessions and leases run out, as an argument, so that tests need not wait for it.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// The machine's monotonic clock.
    pub fn system() -> Self {
        Self::new(Instant::now)
    }

    /// A clock that shows what `now` says. It must not go back.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> Instant {
        (self.0)()
    }

    /// The time as others have it: the system's, as much ahead as this clock is.
    pub(crate) fn seconds_since_1970(&self) -> i64 {
        let ahead = self.now().saturating_duration_since(Instant::now());
        let since = (SystemTime::now() + ahead).duration_since(UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
