//! Disconnects, told to logic in the background. While logic is away they wait in their order, bounded in number and age; told
//! late, they are harmless, since they name the connection.

use std::{sync::Arc, time::Duration};

use common::backoff::Backoff;
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{CallError, Logic, Session};
use crate::metrics::Metrics;

/// Disconnects under way at once. They take a round trip, so 64 end some 60,000 connections a second at 1 ms each.
const UNDER_WAY: usize = 64;

/// Takes the Disconnects of all connections.
#[derive(Debug, Clone)]
pub struct Goodbyes {
    queue: mpsc::Sender<Goodbye>,
    /// Those that are not told yet.
    open: TaskTracker,
    metrics: Arc<Metrics>,
}

/// One Disconnect.
#[derive(Debug)]
struct Goodbye {
    session: Arc<Session>,
    since: Instant,
    _open: TaskTrackerToken,
}

impl Goodbyes {
    /// Starts telling. At most `capacity` wait, none for longer than `age`.
    pub fn start(logic: Logic, metrics: Arc<Metrics>, capacity: usize, age: Duration) -> Self {
        let (queue, waiting) = mpsc::channel::<Goodbye>(capacity);
        let teller = Teller {
            logic,
            metrics: Arc::clone(&metrics),
            age,
        };
        tokio::spawn(teller.run(waiting));
        Self {
            queue,
            open: TaskTracker::new(),
            metrics,
        }
    }

    /// Tells logic that the connection has ended, some time.
    pub fn say(&self, session: Arc<Session>) {
        let goodbye = Goodbye {
            session,
            since: Instant::now(),
            _open: self.open.token(),
        };
        if self.queue.try_send(goodbye).is_err() {
            self.metrics.goodbyes_lost.inc();
        }
    }

    /// How many are not told yet.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Waits until all are told that were said. For the end: none should be said after.
    pub async fn told(&self) {
        self.open.close();
        self.open.wait().await;
    }
}

/// Tells in rounds: the oldest together, and those that logic could not be told again before any that came later.
struct Teller {
    logic: Logic,
    metrics: Arc<Metrics>,
    age: Duration,
}

impl Teller {
    async fn run(self, mut waiting: mpsc::Receiver<Goodbye>) {
        let backoff = Backoff::short();
        let mut failures = 0;
        let mut held: Vec<Goodbye> = Vec::new();
        loop {
            if held.is_empty() {
                if waiting.recv_many(&mut held, UNDER_WAY).await == 0 {
                    return;
                }
            } else {
                while held.len() < UNDER_WAY
                    && let Ok(next) = waiting.try_recv()
                {
                    held.push(next);
                }
            }
            let telling = held.iter().map(|goodbye| self.is_over(goodbye));
            let mut over = join_all(telling).await.into_iter();
            held.retain(|_| !over.next().unwrap_or_default());
            if held.is_empty() {
                failures = 0;
                continue;
            }
            let delay = backoff.delay(failures, &mut rand::rng());
            failures = failures.saturating_add(1);
            sleep(delay).await;
        }
    }

    /// Tells one; whether it need not be told again.
    async fn is_over(&self, goodbye: &Goodbye) -> bool {
        let Goodbye { session, since, .. } = goodbye;
        match self.logic.disconnect(session).await {
            Ok(_) | Err(CallError::Superseded) => return true,
            Err(CallError::Refused(why) | CallError::Denied(why)) => {
                tracing::warn!(key = %session.key, why, "logic refuses a Disconnect");
            }
            Err(CallError::Unavailable(_)) if since.elapsed() < self.age => return false,
            Err(CallError::Unavailable(_)) => {}
        }
        self.metrics.goodbyes_lost.inc();
        true
    }
}
