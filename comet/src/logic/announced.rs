//! Whether this comet is known to all who route pushes, so that no client that is let in misses one.
//!
//! A comet that starts anew is another one for logic. Who routes pushes looks for comets now and then, so for a moment after
//! the first RenewOnline some may not see this one yet, or still see the one before it.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

/// What is known of that.
#[derive(Debug)]
pub(super) struct Announced(watch::Sender<Known>);

#[derive(Debug, Clone, Copy)]
enum Known {
    /// Logic was not asked yet.
    Unasked,
    /// Logic has not answered yet, and the last attempt failed.
    Not,
    /// From then on.
    From(Instant),
}

impl Announced {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Known::Unasked))
    }

    /// Logic has answered, and says after how long this comet is known. The first time counts. Returns what is left of it.
    pub(super) fn hear(&self, known_after: Duration) -> Duration {
        let now = Instant::now();
        let mut from = now + known_after;
        self.0.send_if_modified(|known| {
            if let Known::From(at) = known {
                from = *at;
                return false;
            }
            *known = Known::From(from);
            true
        });
        from.saturating_duration_since(now)
    }

    /// Logic has not answered. What it has said before stands.
    pub(super) fn miss(&self) {
        self.0.send_if_modified(|known| {
            let is_first = matches!(known, Known::Unasked);
            if is_first {
                *known = Known::Not;
            }
            is_first
        });
    }

    /// Waits until this comet is known. False if logic does not answer, or has not been asked within `patience`.
    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut known = self.0.subscribe();
        let asked = known.wait_for(|known| !matches!(known, Known::Unasked));
        let outcome = timeout(patience, asked).await;
        match outcome.map(|known| known.map(|known| *known)) {
            Ok(Ok(Known::From(at))) => {
                sleep_until(at).await;
                true
            }
            Ok(Ok(Known::Unasked | Known::Not) | Err(_)) | Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_answer_says_when_logins_may_begin() {
        let patience = Duration::from_millis(5);
        let announced = Announced::new();
        assert!(!announced.settled(patience).await);
        announced.miss();
        assert!(!announced.settled(Duration::from_hours(1)).await);

        let start = Instant::now();
        let after = Duration::from_millis(100);
        assert_eq!(announced.hear(after), after);
        assert!(announced.settled(patience).await);
        assert!(start.elapsed() >= after);
        // It stands, whatever the next answers say.
        announced.miss();
        assert_eq!(announced.hear(Duration::from_hours(1)), Duration::ZERO);
        assert!(announced.settled(patience).await);
    }
}
