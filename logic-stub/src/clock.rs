//! The time by which sessions and leases run out, as an argument, so that tests need not wait for it.

use std::{fmt, sync::Arc, time::Instant};

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
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
