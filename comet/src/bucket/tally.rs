//! What became of one push, added up over the buckets that had a part in it.

use std::{sync::Arc, time::Instant};

use common::metrics::{Seconds, sampled};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Connections by what became of the push to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Written, or in a backlog.
    pub taken: u64,
    /// Of these, written whole and at once.
    pub written: u64,
    /// Keys that are not here.
    pub absent: u64,
    /// Not accepting the operation.
    pub filtered: u64,
    /// With a full backlog.
    pub full: u64,
    /// Closing.
    pub closing: u64,
}

/// The outcome of a push.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How many.
    pub counts: Counts,
    /// Which keys are absent; at most as many as were asked for.
    pub absent_keys: Vec<String>,
}

/// One bucket's part of a push: to be finished once.
#[derive(Debug)]
pub struct Part(Arc<Tally>);

#[derive(Debug)]
struct Tally {
    max_absent: usize,
    /// When the push was split, if it is one of those that are timed.
    since: Option<Instant>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    outcome: Outcome,
    /// Parts that are not finished.
    open: usize,
    done: Option<oneshot::Sender<Outcome>>,
}

/// Splits a push into `parts`, of which the outcome comes when all are finished; at once if there is none. At most `max_absent`
/// absent keys are named. A part that is dropped unfinished, because its bucket ended, ends the waiting with an error.
pub fn split(parts: usize, max_absent: usize) -> (Vec<Part>, oneshot::Receiver<Outcome>) {
    let (done, outcome) = oneshot::channel();
    if parts == 0 {
        // The receiver is here, so this cannot fail.
        let _ = done.send(Outcome::default());
        return (Vec::new(), outcome);
    }
    let state = State {
        outcome: Outcome::default(),
        open: parts,
        done: Some(done),
    };
    let tally = Arc::new(Tally {
        max_absent,
        since: sampled(),
        state: Mutex::new(state),
    });
    let parts = (0..parts).map(|_| Part(Arc::clone(&tally))).collect();
    (parts, outcome)
}

impl Part {
    /// Counts how long it took until this bucket was done, if this push is timed.
    pub fn time(&self, pushed: &Seconds) {
        if let Some(since) = self.0.since {
            pushed.observe(since.elapsed());
        }
    }

    /// Adds this bucket's share. Returns whether it was the last and the push has met nobody: it is in no count then.
    pub fn finish(self, counts: &Counts, absent_keys: Vec<String>) -> bool {
        let mut state = self.0.state.lock();
        state.outcome.counts.add(counts);
        let room = self
            .0
            .max_absent
            .saturating_sub(state.outcome.absent_keys.len());
        state
            .outcome
            .absent_keys
            .extend(absent_keys.into_iter().take(room));
        state.open -= 1;
        if state.open > 0 {
            return false;
        }
        let has_met_nobody = state.outcome.counts == Counts::default();
        if let Some(done) = state.done.take() {
            // Nobody waits for the outcomes of goim's calls.
            let _ = done.send(std::mem::take(&mut state.outcome));
        }
        has_met_nobody
    }
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.written += other.written;
        self.absent += other.absent;
        self.filtered += other.filtered;
        self.full += other.full;
        self.closing += other.closing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_comes_when_the_last_part_is_finished() {
        let (mut parts, mut outcome) = split(2, 1);
        let counts = Counts {
            taken: 1,
            absent: 1,
            ..Counts::default()
        };
        assert!(!parts.pop().unwrap().finish(&counts, vec!["a".into()]));
        assert!(outcome.try_recv().is_err());
        assert!(!parts.pop().unwrap().finish(&counts, vec!["b".into()]));
        let outcome = outcome.try_recv().unwrap();
        assert_eq!((outcome.counts.taken, outcome.counts.absent), (2, 2));
        assert_eq!(outcome.absent_keys, ["a"]);
    }

    #[test]
    fn the_last_part_knows_that_nobody_was_there() {
        for (taken, is_nobody) in [(0, true), (1, false)] {
            let (mut parts, _outcome) = split(2, 0);
            let counts = Counts {
                taken,
                ..Counts::default()
            };
            assert!(!parts.pop().unwrap().finish(&counts, Vec::new()));
            let last = parts.pop().unwrap();
            assert_eq!(last.finish(&Counts::default(), Vec::new()), is_nobody);
        }
    }

    #[test]
    fn a_push_that_concerns_no_bucket_is_done() {
        assert_eq!(split(0, 1).1.try_recv(), Ok(Outcome::default()));
    }
}
