//! Disconnects, told to logic in the background. While logic is away they wait, bounded in number and age; told late, they are
//! harmless, since they name the connection.

use std::{sync::Arc, time::Duration};

use common::backoff::Backoff;
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{CallError, Logic, Session};
use crate::metrics::Metrics;

/// Disconnects under way at once. One takes a round trip, so 64 end some 60,000 connections a second at 1 ms each.
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
        let counted = Arc::clone(&metrics);
        let telling = ReceiverStream::new(waiting).for_each_concurrent(UNDER_WAY, move |goodbye| {
            let (logic, metrics) = (logic.clone(), Arc::clone(&counted));
            async move { tell(&logic, &metrics, &goodbye.session, goodbye.since + age).await }
        });
        tokio::spawn(telling);
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

    /// Waits until all are told that were said. For the end: none should be said after.
    pub async fn told(&self) {
        self.open.close();
        self.open.wait().await;
    }
}

async fn tell(logic: &Logic, metrics: &Metrics, session: &Session, give_up: Instant) {
    let backoff = Backoff::short();
    for attempt in 0.. {
        match logic.disconnect(session).await {
            Ok(_) | Err(CallError::Superseded) => return,
            Err(CallError::Refused(why)) => {
                tracing::warn!(key = %session.key, why, "logic refuses a Disconnect");
                break;
            }
            Err(CallError::Unavailable(_)) if Instant::now() >= give_up => break,
            Err(CallError::Unavailable(_)) => {
                let delay = backoff.delay(attempt, &mut rand::rng());
                sleep(delay).await;
            }
        }
    }
    metrics.goodbyes_lost.inc();
}
