//! Who may push next: the one place where pushes are numbered.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::ensure;
use tokio::sync::{Mutex, Notify, mpsc};

use super::{Pace, measure};
use crate::clients::{MAX_WINDOW, Progress};

/// How long a window may stand still before the next push goes all the same: what it waits for is lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Seconds that pushes which are due wait for the pusher before they are counted as unsent.
const BEHIND: f64 = 0.5;

/// The shortest time between two looks at the clock of a [`Pace::Rate`].
const STEP: Duration = Duration::from_micros(200);

/// Lets pushes pass, one by one.
#[derive(Debug)]
pub(super) struct Gate {
    passed: Cell<u64>,
    stalls: Cell<u64>,
    closed: Arc<AtomicBool>,
    closing: Notify,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Window {
        size: u64,
        progress: Vec<Arc<Progress>>,
    },
    Rate {
        due: Mutex<mpsc::Receiver<u64>>,
        unsent: Arc<AtomicU64>,
    },
}

/// A push that may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// Its number.
    pub(super) push: u64,
    /// When it was due.
    pub(super) sent: u64,
}

impl Gate {
    /// An open gate.
    pub(super) fn new(pace: Pace, progress: Vec<Arc<Progress>>) -> anyhow::Result<Self> {
        let closed = Arc::new(AtomicBool::new(false));
        let kind = match pace {
            Pace::Window(size) => {
                ensure!(
                    (1..=MAX_WINDOW / 2).contains(&size),
                    "a window of {size} pushes"
                );
                Kind::Window { size, progress }
            }
            Pace::Rate(rate) => {
                ensure!(
                    rate > 0.0 && rate <= 1e7,
                    "a rate of {rate} pushes a second"
                );
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most 5 million"
                )]
                let (clock, due) = mpsc::channel((rate * BEHIND) as usize + 64);
                let unsent = Arc::new(AtomicU64::new(0));
                let (counter, is_over) = (Arc::clone(&unsent), Arc::clone(&closed));
                thread::Builder::new()
                    .name("clock".to_owned())
                    .spawn(move || tick(rate, &clock, &counter, &is_over))?;
                Kind::Rate {
                    due: Mutex::new(due),
                    unsent,
                }
            }
        };
        Ok(Self {
            passed: Cell::new(0),
            stalls: Cell::new(0),
            closed,
            closing: Notify::new(),
            kind,
        })
    }

    /// Waits until the next push may go; nothing once the gate is closed.
    pub(super) async fn pass(&self) -> Option<Pass> {
        if self.closed.load(Relaxed) {
            return None;
        }
        tokio::select! {
            biased;
            () = self.closing.notified() => None,
            sent = self.due() => self.number(sent?),
        }
    }

    /// The next push, if it may go at once.
    pub(super) fn try_pass(&self) -> Option<Pass> {
        if self.closed.load(Relaxed) {
            return None;
        }
        let sent = match &self.kind {
            Kind::Window { size, progress } => self.has_room(*size, progress).then(measure::now)?,
            Kind::Rate { due, .. } => due.try_lock().ok()?.try_recv().ok()?,
        };
        self.number(sent)
    }

    /// Lets nothing pass any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.closing.notify_waiters();
    }

    /// Pushes that have passed.
    pub(super) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// Pushes that were due while the gate was open and could not even wait.
    pub(super) fn unsent(&self) -> u64 {
        match &self.kind {
            Kind::Window { .. } => 0,
            Kind::Rate { unsent, .. } => unsent.load(Relaxed),
        }
    }

    /// How often patience ran out.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls.get()
    }

    fn number(&self, sent: u64) -> Option<Pass> {
        if self.closed.load(Relaxed) {
            return None;
        }
        let push = self.passed.get();
        self.passed.set(push + 1);
        Some(Pass { push, sent })
    }

    /// When the next push is due, once it is.
    async fn due(&self) -> Option<u64> {
        match &self.kind {
            Kind::Rate { due, .. } => due.lock().await.recv().await,
            Kind::Window { size, progress } => {
                while !self.has_room(*size, progress) {
                    self.changed(*size, progress).await;
                }
                Some(measure::now())
            }
        }
    }

    fn has_room(&self, size: u64, progress: &[Arc<Progress>]) -> bool {
        let completed = progress
            .iter()
            .map(|thread| thread.completed())
            .min()
            .unwrap_or(0);
        // Each time that patience ran out made room for one.
        self.passed.get() < completed + self.stalls.get() + size
    }

    /// Waits until the slowest thread of clients has completed something.
    async fn changed(&self, size: u64, progress: &[Arc<Progress>]) {
        let Some(slowest) = progress.iter().min_by_key(|thread| thread.completed()) else {
            return;
        };
        let mut changed = std::pin::pin!(slowest.changed().notified());
        // From here on no change is missed, so a second look decides.
        changed.as_mut().enable();
        if !self.has_room(size, progress) && tokio::time::timeout(PATIENCE, changed).await.is_err()
        {
            self.stalls.set(self.stalls.get() + 1);
        }
    }
}

/// Says when pushes are due, until that is over. A thread of its own: timers of a runtime are too coarse.
fn tick(rate: f64, clock: &mpsc::Sender<u64>, unsent: &AtomicU64, is_over: &AtomicBool) {
    let started = measure::now();
    let step = Duration::from_secs_f64(1.0 / rate).max(STEP);
    let mut sent = 0_u64;
    let mut next = started;
    while !is_over.load(Relaxed) && !clock.is_closed() {
        let now = measure::now();
        if now < next {
            thread::sleep(Duration::from_nanos(next - now).min(Duration::from_millis(100)));
            continue;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of pushes"
        )]
        let due = ((now - started) as f64 / 1e9 * rate) as u64 + 1;
        for _ in sent..due {
            match clock.try_send(next) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    unsent.fetch_add(1, Relaxed);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
        sent = due.max(sent);
        next += u64::try_from(step.as_nanos()).unwrap_or(1);
        // After a long sleep what was missed is sent at once, as due now.
        next = next.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_due_after_the_close() {
        let gate = Gate::new(Pace::Rate(1.0), Vec::new()).unwrap();
        assert_eq!(gate.pass().await.map(|pass| pass.push), Some(0));
        gate.close();
        assert!(gate.pass().await.is_none() && gate.try_pass().is_none());
        let Kind::Rate { due, .. } = &gate.kind else {
            unreachable!("it has a rate");
        };
        let end = async { while due.lock().await.recv().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_mins(1), end).await;
        assert!(ended.is_ok(), "the clock goes on");
        assert_eq!((gate.passed(), gate.unsent()), (1, 0));
    }

    #[test]
    fn what_is_due_and_finds_no_room_to_wait_is_unsent() {
        let gate = Gate::new(Pace::Rate(1e6), Vec::new()).unwrap();
        let started = measure::now();
        while gate.unsent() == 0 {
            assert!(measure::now() - started < 60_000_000_000);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(gate.passed(), 0);
    }
}
