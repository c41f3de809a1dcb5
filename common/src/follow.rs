//! What all who follow files have in common: when something new in them is to be taken, and SIGHUP, which asks for that at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the looks at a file, or at several that belong together, have seen since what counts was taken.
#[derive(Debug)]
pub(crate) struct Looks<S> {
    /// What the last look saw, if it was something else than what counts: a content, or why there is none.
    last: Option<Result<S, String>>,
    /// Whether that was refused already.
    is_refused: bool,
}

impl<S> Default for Looks<S> {
    fn default() -> Self {
        Self {
            last: None,
            is_refused: false,
        }
    }
}

impl<S: PartialEq> Looks<S> {
    /// Whether what a look sees is to be taken, or refused, now: it is something else than `current`, two looks in turn have seen
    /// it, and it was not refused before. Where somebody asks, one look is enough, and what was refused is looked into again.
    pub(crate) fn is_due(&mut self, seen: Result<S, String>, current: &S, is_asked: bool) -> bool {
        if seen.as_ref() == Ok(current) {
            self.take();
            return false;
        }
        let is_known = self.last.as_ref() == Some(&seen);
        if !is_known {
            self.last = Some(seen);
            self.is_refused = false;
        }
        is_asked || (is_known && !self.is_refused)
    }

    /// Notes that what was seen last is current from now on.
    pub(crate) fn take(&mut self) {
        *self = Self::default();
    }

    /// Notes that what was seen last cannot be taken.
    pub(crate) fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Whether something was seen that the next look may confirm.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.last.is_some() && !self.is_refused
    }
}

/// SIGHUP, which ends the process no more once this was made.
#[derive(Debug)]
pub(crate) struct Hangup(Option<Signal>);

impl Hangup {
    /// Catches it, if the system lets us. Must be called within a tokio runtime.
    pub(crate) fn catch() -> Self {
        let caught = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::error!(%error, "cannot catch SIGHUP"));
        Self(caught.ok())
    }

    /// When it comes; never where it cannot be caught. Nothing is lost if this is dropped before.
    pub(crate) async fn comes(&mut self) {
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_new_is_due_when_it_was_seen_twice() {
        let mut looks = Looks::default();
        for (seen, due) in [(1, false), (0, false), (2, false), (3, false), (3, true)] {
            assert_eq!(looks.is_due(Ok(seen), &1, false), due, "{seen}");
        }
        assert!(!looks.is_due(Ok(3), &3, false));
        // Back before it counted.
        for (seen, due) in [(4, false), (3, false), (4, false), (4, true)] {
            assert_eq!(looks.is_due(Ok(seen), &3, false), due, "{seen}");
        }
    }

    #[test]
    fn what_is_refused_is_not_due_again_until_somebody_asks() {
        let gone = || Err("gone".to_owned());
        let mut looks = Looks::default();
        assert!(!looks.is_due(gone(), &1, false));
        assert!(looks.is_unsettled());
        assert!(looks.is_due(gone(), &1, false));
        looks.refuse();
        assert!(!looks.is_unsettled());
        assert!(!looks.is_due(gone(), &1, false));
        assert!(looks.is_due(gone(), &1, true));
        // Something else may be refused in its turn, and the same again when what counts was there between.
        assert!(!looks.is_due(Ok(2), &1, false));
        assert!(looks.is_due(Ok(2), &1, false));
        looks.refuse();
        assert!(!looks.is_due(Ok(1), &1, false));
        assert!(looks.is_due(Ok(2), &1, true));
        assert!(!looks.is_due(Ok(1), &1, true));
    }
}
