//! Who may push next: the one place where pushes are numbered.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
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
    closed: Cell<bool>,
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
                let counter = Arc::clone(&unsent);
                thread::Builder::new()
                    .name("clock".to_owned())
                    .spawn(move || tick(rate, &clock, &counter))?;
                Kind::Rate {
                    due: Mutex::new(due),
                    unsent,
                }
            }
        };
        Ok(Self {
            passed: Cell::new(0),
            stalls: Cell::new(0),
            closed: Cell::new(false),
            closing: Notify::new(),
            kind,
        })
    }

    /// Waits until the next push may go; nothing once the gate is closed.
    pub(super) async fn pass(&self) -> Option<Pass> {
        if self.closed.get() {
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
        if self.closed.get() {
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
        self.closed.set(true);
        self.closing.notify_waiters();
    }

    /// Pushes that have passed.
    pub(super) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// Pushes that were due and did not pass, once the gate is closed.
    pub(super) fn unsent(&self) -> u64 {
        match &self.kind {
            Kind::Window { .. } => 0,
            Kind::Rate { due, unsent } => {
                let waiting = due.try_lock().map_or(0, |due| due.len() as u64);
                unsent.load(Relaxed) + waiting
            }
        }
    }

    /// How often patience ran out.
    pub(super) fn stalls(&self) -> u64 {
        self.stalls.get()
    }

    fn number(&self, sent: u64) -> Option<Pass> {
        if self.closed.get() {
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

/// Says when pushes are due, until nobody listens. A thread of its own: timers of a runtime are too coarse.
fn tick(rate: f64, clock: &mpsc::Sender<u64>, unsent: &AtomicU64) {
    let started = measure::now();
    let step = Duration::from_secs_f64(1.0 / rate).max(STEP);
    let mut sent = 0_u64;
    let mut next = started;
    while !clock.is_closed() {
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
