//! A lane for each comet: what is pushed to it waits in one bounded queue and goes out in order.
//!
//! One task serves a lane. To a comet of this project it sends batches over one streaming call, several of them before the
//! first is answered, so batches grow while answers are awaited and a lane without load adds no delay. What has no receipt
//! when a connection breaks is sent again in order at the same positions, and the comet skips what it has taken. A comet
//! that lacks the call, such as goim's own, gets goim's unary calls.
//!
//! A message that was taken into a lane ends in exactly one way: with a receipt, taken without counts, or lost for a reason.
//!
//! # Layout
//!
//! - [`Lanes`]: makes lanes; [`Lane`]: what pushers see of one
//! - [`report`]: what became of a message
//! - `queue`: what waits, and its bounds; `task`: the life of a lane
//! - `streaming`: by `comet.v1`; `unary`: by goim's calls

mod queue;
pub mod report;
mod streaming;
mod task;
mod unary;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use common::{bearer::Credential, mutual::Dialer};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

pub use self::{
    queue::Refused,
    report::{Loss, Report, Tally},
};
use self::{
    queue::{Item, Queue},
    report::Outcome,
    task::Shared,
};
use crate::{
    config,
    metrics::Metrics,
    push::{Message, Target},
};

/// Bytes of a stream and of a connection that may be under way, as goim's clients have it.
const WINDOW: u32 = 16 << 20;

/// What a message takes beside its body, its keys and its stream's name: identity, numbers and framing, in memory and on the
/// wire.
const OVERHEAD: usize = 256;

/// Makes the lanes of one process.
pub struct Lanes(Arc<Setup>);

/// What all lanes share.
struct Setup {
    config: config::Lanes,
    client: config::RpcClient,
    credential: Credential,
    dialer: Dialer,
    metrics: Arc<Metrics>,
    /// Names this process's life in positions.
    process: String,
    /// Of lanes: a later lane to the same comet has a greater one, so that the comet refuses what is left of the earlier.
    generations: AtomicU64,
    /// Of messages: grows over all lanes, so that no later lane to the same comet starts below an earlier one.
    numbers: AtomicU64,
}

/// One comet's lane. Dropped, it is closed.
pub struct Lane(Arc<Shared>);

/// Room in a lane for messages that are not in it yet. Dropped, it is given back.
#[derive(Debug)]
pub struct Reservation<'a> {
    lane: &'a Shared,
    items: Vec<Item>,
    bytes: usize,
}

impl Lanes {
    /// Lanes that are bounded by `config`, call by `client` over what `dialer` connects, show `credential`, and count in `metrics`.
    pub fn new(
        config: config::Lanes,
        client: config::RpcClient,
        credential: Credential,
        dialer: Dialer,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Setup {
            config,
            client,
            credential,
            dialer,
            metrics,
            process: uuid::Uuid::now_v7().simple().to_string(),
            generations: AtomicU64::new(1),
            numbers: AtomicU64::new(1),
        }))
    }

    /// How a comet at this address is called; none if the address is none.
    pub fn endpoint(&self, address: &str) -> Option<Endpoint> {
        if address.is_empty() {
            return None;
        }
        let client = &self.0.client;
        let endpoint = self.0.dialer.endpoint(address).ok()?;
        Some(
            endpoint
                .connect_timeout(client.dial.get())
                .http2_keep_alive_interval(client.keep_alive_interval.get())
                .keep_alive_timeout(client.keep_alive_timeout.get())
                .keep_alive_while_idle(true)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW),
        )
    }

    /// A lane to the comet of this name. It connects when it has something to send. Must be called in a tokio runtime.
    pub fn open(&self, name: &Arc<str>, endpoint: Endpoint) -> Lane {
        let setup = &self.0;
        let generation = setup.generations.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            name: Arc::clone(name),
            stream: format!("{}/{name}", setup.process),
            generation,
            queue: Queue::new(setup.config.messages, setup.config.bytes),
            endpoint: Mutex::new(endpoint),
            calls: Mutex::new(None),
            moved: Notify::new(),
            closed: CancellationToken::new(),
            failed: Mutex::default(),
            depth: setup.metrics.lane_depth(name),
            setup: Arc::clone(setup),
        });
        tokio::spawn(task::run(Arc::clone(&shared)));
        Lane(shared)
    }

    /// A comet of this name is gone: nothing is told of its lane any more.
    pub fn forget(&self, name: &Arc<str>) {
        self.0.metrics.forget_lane(name);
    }
}

impl Lane {
    /// Reserves room for `message` to each of `targets`. What becomes of it is told to `report`.
    pub fn reserve(
        &self,
        message: &Message,
        targets: &[Target],
        report: Option<&Arc<Tally>>,
    ) -> Result<Reservation<'_>, Refused> {
        let lane = &*self.0;
        let largest = lane.largest();
        let since = Instant::now();
        let items: Vec<Item> = targets
            .iter()
            .zip(0..)
            .map(|(target, part)| Item {
                bytes: OVERHEAD + lane.stream.len() + message.body_len() + target.bytes(),
                target: target.clone(),
                part,
                message: message.clone(),
                since,
                report: report.cloned(),
                number: 0,
            })
            .collect();
        if let Some(item) = items.iter().find(|item| item.bytes > largest) {
            return Err(Refused::TooLarge {
                bytes: item.bytes,
                max: largest,
            });
        }
        let bytes = items.iter().map(|item| item.bytes).sum();
        lane.queue.reserve(items.len(), bytes)?;
        Ok(Reservation { lane, items, bytes })
    }

    /// For calls that need no place in the order, such as kicks: a connection beside the lane's own, which is made when it is
    /// first needed and again when it has broken. Must be called in a tokio runtime.
    pub(crate) fn calls(&self) -> Channel {
        let mut calls = self.0.calls.lock();
        let dialer = &self.0.setup.dialer;
        let connect = || dialer.connect_lazy(&self.0.endpoint.lock());
        calls.get_or_insert_with(connect).clone()
    }

    /// A request for one of these calls, with what shows the comet who calls.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        self.0.setup.credential.request(message)
    }

    /// When the lane last lost its connection, or could not have one.
    pub(crate) fn failed(&self) -> Option<std::time::Instant> {
        *self.0.failed.lock()
    }

    /// From now on the comet is reached here.
    pub fn move_to(&self, endpoint: Endpoint) {
        let mut calls = self.0.calls.lock();
        *self.0.endpoint.lock() = endpoint;
        *calls = None;
        drop(calls);
        self.0.moved.notify_one();
    }

    /// Ends the lane: what has no receipt yet is lost. The first reason stands.
    pub fn close(&self, why: Loss) {
        self.0.queue.close(why);
        self.0.closed.cancel();
    }

    /// Waits until nothing is in the lane.
    pub async fn idle(&self) {
        self.0.queue.idle().await;
    }
}

impl Reservation<'_> {
    /// Tells the report what to wait for. To be called for all lanes of a push before any gets it.
    pub fn announce(&self) {
        let lane = self.lane;
        for report in self.items.iter().filter_map(|item| item.report.as_ref()) {
            report.expect(&lane.name);
        }
    }

    /// Puts the messages in.
    pub fn fill(mut self) {
        let items = std::mem::take(&mut self.items);
        // Given over to the items.
        self.bytes = 0;
        let lane = self.lane;
        lane.depth
            .inc_by(i64::try_from(items.len()).unwrap_or(i64::MAX));
        if let Err((items, why)) = lane.queue.put(items) {
            for item in items {
                lane.settle(item, Outcome::Lost(why));
            }
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.items.is_empty() {
            self.lane.queue.free(self.items.len(), self.bytes);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close(Loss::LaneClosed);
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("process", &self.0.process)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
