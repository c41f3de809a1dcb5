//! The life of a lane: connect, send, and try again while its comet is away.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::backoff::Backoff;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use thiserror::Error;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    OVERHEAD, Setup,
    queue::{Item, Queue},
    report::{Loss, Outcome},
    streaming, unary,
};

/// Delay after the first failure: a comet that restarts is back soon.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// What a lane's task and its pushers share.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    /// In positions: the same for all lanes of this process to this comet.
    pub(super) stream: String,
    /// In positions: the epoch.
    pub(super) generation: u64,
    pub(super) setup: Arc<Setup>,
    pub(super) queue: Queue,
    pub(super) endpoint: Mutex<Endpoint>,
    /// To the endpoint, for calls beside the lane. Locked before it.
    pub(super) calls: Mutex<Option<Channel>>,
    /// The endpoint has changed.
    pub(super) moved: Notify,
    pub(super) closed: CancellationToken,
    /// When a connection was last lost or did not come about.
    pub(super) failed: Mutex<Option<Instant>>,
    pub(super) depth: Gauge,
}

/// What the task has taken off the queue: oldest first.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) items: VecDeque<Item>,
    /// How many of them are on the stream that is open.
    pub(super) sent: usize,
}

/// Why a connection is at its end.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{:?}: {}", .0.code(), .0.message())]
    Status(Status),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("the comet ended the call")]
    Ended,
    #[error("a receipt that nothing was sent for")]
    Receipt,
    #[error("the comet has moved")]
    Moved,
}

/// Serves a lane until it is closed.
pub(super) async fn run(lane: Arc<Shared>) {
    let mut held = Held::default();
    let serving = lane.serve(&mut held);
    lane.closed.run_until_cancelled(serving).await;
    let (waiting, why) = lane.queue.remains();
    lane.lose(held.items.into_iter().chain(waiting), why);
}

impl Shared {
    /// The most bytes of one message: what a call holds.
    pub(super) fn largest(&self) -> usize {
        self.setup.client.max_message.saturating_sub(OVERHEAD)
    }

    /// Takes more off the queue.
    pub(super) fn take(&self, held: &mut Held) {
        let number = || self.setup.numbers.fetch_add(1, Ordering::Relaxed);
        let max = self.setup.config.batch_messages;
        self.queue.take(max, &mut held.items, number);
    }

    /// The end of a message in this lane. Counted, unless it is not the last word.
    pub(super) fn settle(&self, item: Item, outcome: Outcome) {
        let report = item.report.as_ref();
        if !report.is_some_and(|report| report.is_astray(&item.target, &outcome)) {
            self.setup.metrics.settled(&outcome, item.target.weight());
        }
        self.queue.free(1, item.bytes);
        self.depth.dec();
        if let Some(report) = item.report {
            report.settle(&self.name, &item.target, outcome);
        }
    }

    async fn serve(&self, held: &mut Held) {
        let backoff = Backoff {
            base: FIRST_DELAY,
            max: self.setup.config.reconnect.get(),
            ..Backoff::short()
        };
        let mut failures = 0;
        loop {
            if held.items.is_empty() {
                self.queue.waiting().await;
            }
            let (progress, failure) = self.connection(held).await;
            if progress {
                failures = 0;
            }
            held.sent = 0;
            if !matches!(failure, Failure::Moved) {
                *self.failed.lock() = Some(Instant::now());
            }
            if held.items.is_empty() && self.queue.is_empty() {
                tracing::debug!(comet = %self.name, %failure, "a lane without work has lost its connection");
                continue;
            }
            self.setup.metrics.lane_reconnects.inc();
            if matches!(failure, Failure::Moved) {
                continue;
            }
            if failures == 0 {
                tracing::warn!(comet = %self.name, %failure, "a lane has lost its comet and tries again");
            } else {
                tracing::debug!(comet = %self.name, %failure, failures, "a comet is still away");
            }
            let delay = backoff.delay(failures, &mut rand::rng());
            sleep(delay).await;
            failures = failures.saturating_add(1);
            self.give_up_old(held);
        }
    }

    /// One connection from its start to its end, and whether a message came to its end meanwhile.
    async fn connection(&self, held: &mut Held) -> (bool, Failure) {
        let mut progress = false;
        let moved = self.moved.notified();
        let endpoint = self.endpoint.lock().clone();
        let failure = tokio::select! {
            failure = self.connect_and_send(endpoint, held, &mut progress) => failure,
            () = moved => Failure::Moved,
        };
        (progress, failure)
    }

    async fn connect_and_send(
        &self,
        endpoint: Endpoint,
        held: &mut Held,
        progress: &mut bool,
    ) -> Failure {
        let channel = match self.setup.dialer.connect(&endpoint).await {
            Ok(channel) => channel,
            Err(error) => return Failure::Connect(with_sources(&error)),
        };
        match streaming::serve(self, channel.clone(), held, progress).await {
            Failure::Status(status) if status.code() == Code::Unimplemented => {
                held.sent = 0;
                unary::serve(self, channel, held, progress).await
            }
            failure => failure,
        }
    }

    /// Gives up what has waited too long for a comet that is away.
    fn give_up_old(&self, held: &mut Held) {
        let age = self.setup.config.retry.get();
        let count = held
            .items
            .iter()
            .take_while(|item| item.since.elapsed() >= age)
            .count();
        let mut old: Vec<Item> = held.items.drain(..count).collect();
        if held.items.is_empty() {
            old.extend(self.queue.take_older(age));
        }
        self.lose(old, Loss::CometAway);
    }

    fn lose(&self, items: impl IntoIterator<Item = Item>, why: Loss) {
        let mut messages = 0;
        for item in items {
            self.settle(item, Outcome::Lost(why));
            messages += 1;
        }
        if messages > 0 {
            tracing::warn!(comet = %self.name, messages, reason = why.label(), "messages do not reach a comet");
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
