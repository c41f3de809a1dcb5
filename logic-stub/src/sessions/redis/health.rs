//! Whether Redis is there: said in the log once for each change, and used to fail at once while it cannot be connected to.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use common::backoff::Backoff;
use parking_lot::Mutex;

use crate::sessions::StoreError;

/// The first pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How long nothing may have failed before it is said that Redis is back.
const CALM: Duration = Duration::from_secs(3);

/// What the last calls have shown.
#[derive(Debug)]
pub(super) struct Health {
    /// In the log.
    what: &'static str,
    pauses: Backoff,
    away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failed: Option<Instant>,
    /// Connections that were lost or did not come about, one after the other.
    losses: u32,
    /// Until when there is no point in trying, and why.
    closed: Option<(Instant, StoreError)>,
}

/// How one call ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome<'a> {
    /// Redis answered.
    Answered,
    /// Redis did not answer.
    Failed(&'a StoreError),
    /// There is no connection.
    Lost(&'a StoreError),
}

impl Health {
    /// Nothing is known yet. `longest` bounds the pauses between attempts to connect.
    pub(super) fn new(what: &'static str, longest: Duration) -> Self {
        let pauses = Backoff {
            base: FIRST_PAUSE,
            max: longest,
            ..Backoff::short()
        };
        Self {
            what,
            pauses,
            away: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Whether the connection was lost last time; fails if it is too early to try again.
    pub(super) fn admit(&self) -> Result<bool, StoreError> {
        if !self.away.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let state = self.state.lock();
        match &state.closed {
            Some((until, error)) if *until > Instant::now() => Err(error.clone()),
            Some(_) | None => Ok(state.losses > 0),
        }
    }

    /// Takes note of how a call ended.
    pub(super) fn note(&self, outcome: Outcome<'_>, place: &impl fmt::Display) {
        let error = match outcome {
            Outcome::Answered if !self.away.load(Ordering::Relaxed) => return,
            Outcome::Answered => return self.answered(place),
            Outcome::Failed(error) | Outcome::Lost(error) => error,
        };
        let now = Instant::now();
        let mut state = self.state.lock();
        state.failed = Some(now);
        let closed = state.closed.as_ref().is_some_and(|(until, _)| *until > now);
        if matches!(outcome, Outcome::Lost(_)) && !closed {
            let pause = self.pauses.delay(state.losses, &mut rand::rng());
            state.closed = Some((now + pause, error.clone()));
            state.losses = state.losses.saturating_add(1);
        }
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "{} is away", self.what);
        }
    }

    fn answered(&self, place: &impl fmt::Display) {
        let mut state = self.state.lock();
        state.losses = 0;
        state.closed = None;
        let calm = state.failed.is_none_or(|at| at.elapsed() >= CALM);
        if calm && self.away.swap(false, Ordering::Relaxed) {
            tracing::info!(%place, "{} is back", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_connections_are_waited_for_with_pauses() {
        let health = Health::new("a store", Duration::from_hours(1));
        let error = StoreError::Unavailable("gone".to_owned());
        assert_eq!(health.admit(), Ok(false));
        // Long enough for the pause to outlast the test.
        for _ in 0..20 {
            health.note(Outcome::Lost(&error), &"redis");
            health.state.lock().closed = None;
        }
        assert_eq!(health.admit(), Ok(true));
        health.note(Outcome::Lost(&error), &"redis");
        assert_eq!(health.admit(), Err(error.clone()));
        health.note(Outcome::Answered, &"redis");
        assert_eq!(health.admit(), Ok(false));
        // Slow is not lost.
        health.note(Outcome::Failed(&error), &"redis");
        assert_eq!(health.admit(), Ok(false));
    }
}
