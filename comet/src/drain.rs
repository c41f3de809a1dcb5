//! The end of a comet: its clients are told to go elsewhere, at a pace that the others can take, and nobody is sent here any more.
//!
//! # The order
//!
//! 1. It begins with a signal or a call ([`Drain::begin`]). The process is not ready any more, and logic is told at once that no
//!    new clients are to be sent here. Everything else goes on for `drain.wait`, until balancers have seen that.
//! 2. All connections are told operation 6 with an [`Advice`], one after the other, over `drain.over`; what waits for each is
//!    written first. Logins from now on are told the same. Pushes go on to those that are still here.
//! 3. Sessions between two requests are told when their clients come, and are open until these say that they have got it, all within
//!    the time that any connection has to close. Then the doors are closed, and what is left has that time again.
//! 4. Logic is told of every connection's end, and then that this comet leaves: nothing is routed here any more.
//!
//! # Layout
//!
//! - [`Drain`]: whether it has begun, and what clients are told
//! - [`Ending`]: the order

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::readiness::Latch;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bucket::{Bucket, Control, Dismissed},
    close::{Advice, CloseReason, Farewell, Nodes},
    config,
    gateway::Gateway,
};

/// Beside the time in which each connection may close: for the tasks to be scheduled.
const MARGIN: Duration = Duration::from_secs(1);

/// For logic to say where clients may go.
const ASKING: Duration = Duration::from_secs(2);

/// Connections that are told together: so many share a turn of their bucket.
const SLICE: usize = 32;

/// Connections a second that are told, and that may come back, at least: few need not take all of the time that many have.
const LEAST_RATE: u32 = 100;

/// How often progress is logged.
const REPORT: Duration = Duration::from_secs(1);

/// Nodes, when there are none to name.
const NONE: [Vec<String>; 2] = [const { Vec::new() }; 2];

/// Whether the end has begun.
#[derive(Debug)]
pub struct Drain {
    begun: CancellationToken,
    announced: CancellationToken,
    /// What clients are told.
    farewell: OnceLock<Farewell>,
}

/// Drives the end.
#[derive(Debug)]
pub struct Ending {
    /// Whose end.
    pub gateway: Arc<Gateway>,
    /// Its times.
    pub config: config::Drain,
    /// Where clients reach it.
    pub addresses: Vec<String>,
    /// Not ready from the beginning on.
    pub latch: Latch,
    /// All connections.
    pub connections: TaskTracker,
    /// All sessions on HTTP requests.
    pub sessions: TaskTracker,
    /// Cancelled when logic is to be told that this comet leaves; `renewal` tells it and ends.
    pub leaving: CancellationToken,
    /// The task that tells logic of this comet.
    pub renewal: JoinHandle<()>,
    /// Cancelled at the very end.
    pub over: CancellationToken,
}

impl Drain {
    /// One that begins at the latest with `shutdown`.
    pub fn new(shutdown: &CancellationToken) -> Self {
        Self {
            begun: shutdown.child_token(),
            announced: CancellationToken::new(),
            farewell: OnceLock::new(),
        }
    }

    /// Begins the end, unless it has begun.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Notes that logic knows that it has begun.
    pub fn announced(&self) {
        self.announced.cancel();
    }

    /// The last words to clients whose login comes too late.
    pub fn farewell(&self) -> Farewell {
        let farewell = self.farewell.get().cloned();
        farewell.unwrap_or_else(|| CloseReason::GoingAway.into())
    }
}

impl Ending {
    /// Waits for the beginning, and ends in order.
    pub async fn run(mut self) {
        let gateway = Arc::clone(&self.gateway);
        gateway.drain.begun().await;
        self.latch.not_ready("draining");
        gateway.metrics.draining.set(1);
        let (wait, over) = (self.config.wait, self.config.over);
        let connections = self.online();
        tracing::info!(connections, %wait, %over, "draining: no new clients are sent here");
        let (nodes, ()) = tokio::join!(self.ask_for_nodes(), sleep(wait.get()));
        let farewell = self.farewell(nodes);
        // Before any is told: no login that is under way may join behind those who are told.
        drop(gateway.drain.farewell.set(farewell.clone()));
        gateway.stopping.cancel();
        self.tell_all(&farewell).await;
        self.close().await;
        self.leave().await;
        self.over.cancel();
    }

    /// Asks logic where clients may go, by platform: addresses, and names for browsers. It has to know first that they may not come
    /// here. Without an answer they are not told.
    async fn ask_for_nodes(&self) -> [Vec<String>; 2] {
        if self.online() == 0 {
            return NONE;
        }
        let Gateway { logic, drain, .. } = &*self.gateway;
        let asking = async {
            drain.announced.cancelled().await;
            tokio::try_join!(logic.nodes(""), logic.nodes("web"))
        };
        let why = match timeout(ASKING, asking).await {
            Ok(Ok((nodes, web_nodes))) => return [nodes, web_nodes],
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ASKING:?}"),
        };
        tracing::info!(why, "draining: clients are not told where to go");
        NONE
    }

    /// What clients are told, with the nodes that logic names.
    fn farewell(&self, mut nodes: [Vec<String>; 2]) -> Farewell {
        for some in &mut nodes {
            some.retain(|node| !self.is_mine(node));
        }
        let [addresses, names] = nodes;
        Farewell {
            advice: Some(Advice {
                reconnect: true,
                within: at_most(self.config.reconnect_over.get(), self.online()),
                nodes: Arc::new(Nodes { addresses, names }),
            }),
            ..CloseReason::GoingAway.into()
        }
    }

    /// Whether clients reach this comet by that name: another logic may not know yet that it ends.
    fn is_mine(&self, node: &str) -> bool {
        let rest = node.strip_prefix(self.gateway.logic.server());
        let is_host = rest.is_some_and(|domain| domain.is_empty() || domain.starts_with('.'));
        is_host || self.addresses.iter().any(|address| address == node)
    }

    /// Tells all who are here, each in its time.
    async fn tell_all(&self, farewell: &Farewell) {
        let total = self.online();
        let over = at_most(self.config.over.get(), total);
        let started = Instant::now();
        let (mut told, mut report) = (0_u32, started + REPORT);
        for bucket in self.gateway.buckets.all() {
            let mut from = Some(0);
            while let Some(at) = from {
                let Dismissed { count, next } = dismiss(bucket, at, farewell).await;
                from = next;
                told = told.saturating_add(count);
                self.gateway.metrics.drained.inc_by(count.into());
                // They may be more than were counted.
                let share = f64::from(told) / f64::from(total.max(told).max(1));
                sleep_until(started + over.mul_f64(share)).await;
                if Instant::now() >= report {
                    report = Instant::now() + REPORT;
                    tracing::info!(told, of = total, "draining: clients are told to go");
                }
            }
        }
        if told > 0 {
            tracing::info!(told, "draining: all clients are told to go");
        }
    }

    /// Closes the doors, and waits for the ends of all connections.
    async fn close(&self) {
        let each = self.gateway.protocol.close_timeout.get();
        let doors = &self.gateway.doors;
        let open = self.sessions.len() + self.connections.len();
        if open > 0 {
            // First sessions on requests, then connections.
            let at_most = each * 2 + MARGIN;
            tracing::info!(open, ?at_most, "draining: connections are closed");
        }
        let open = close_in_turn(&self.sessions, doors, &self.connections, each).await;
        if open > 0 {
            tracing::warn!(open, "some connections did not close in time");
        }
    }

    /// Tells logic of their ends, and of this comet's own.
    async fn leave(&mut self) {
        let telling = timeout(self.patience(), self.gateway.goodbyes.told());
        if telling.await.is_err() {
            tracing::warn!("logic was not told of all that disconnected");
        }
        self.leaving.cancel();
        if timeout(self.patience(), &mut self.renewal).await.is_err() {
            tracing::warn!("logic was not told that this comet leaves: its lease has to run out");
        }
        let whitelist = &self.gateway.channels.whitelist;
        if timeout(MARGIN, whitelist.flush()).await.is_err() {
            tracing::warn!("not all that was noted is in the whitelist's log");
        }
    }

    fn online(&self) -> u32 {
        self.gateway.addresses.counts().0
    }

    fn patience(&self) -> Duration {
        self.gateway.protocol.close_timeout.get() + MARGIN
    }
}

/// Has a bucket tell some of its connections, from one place on; none if it has ended.
async fn dismiss(bucket: &Bucket, from: usize, farewell: &Farewell) -> Dismissed {
    let (answer, dismissed) = oneshot::channel();
    let control = Control::Dismiss(from, SLICE, farewell.clone(), answer);
    if bucket.control.send(control).await.is_err() {
        return Dismissed::default();
    }
    dismissed.await.unwrap_or_default()
}

/// Waits for all sessions, closes the doors, and waits for all connections: for `each` as long at most. Returns how many are open
/// then.
async fn close_in_turn(
    sessions: &TaskTracker,
    doors: &CancellationToken,
    connections: &TaskTracker,
    each: Duration,
) -> usize {
    sessions.close();
    // Clients between two requests hear of it by the next one, which needs the doors. Some do not come.
    drop(timeout(each, sessions.wait()).await);
    doors.cancel();
    connections.close();
    // Connections of HTTP begin to close only now, however long the sessions took.
    let closing = async { tokio::join!(sessions.wait(), connections.wait()) };
    drop(timeout(each + MARGIN, closing).await);
    sessions.len() + connections.len()
}

/// As much of a time as so many connections need at [`LEAST_RATE`].
fn at_most(time: Duration, connections: u32) -> Duration {
    time.min(Duration::from_secs(1) * connections / LEAST_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_take_no_longer_than_they_need() {
        let ten = Duration::from_secs(10);
        assert_eq!(at_most(ten, 0), Duration::ZERO);
        assert_eq!(at_most(ten, 1), Duration::from_millis(10));
        assert_eq!(at_most(ten, 1000), ten);
        assert_eq!(at_most(ten, u32::MAX), ten);
    }

    #[tokio::test]
    async fn a_client_that_stays_away_takes_no_time_from_the_others() {
        let (sessions, connections) = (TaskTracker::new(), TaskTracker::new());
        let (doors, each) = (CancellationToken::new(), 4 * MARGIN);
        // As a session whose client does not come.
        let closed = doors.clone();
        sessions.spawn(async move { closed.cancelled().await });
        // As a connection of HTTP whose client takes more than the margin to close.
        let told = doors.clone();
        connections.spawn(async move {
            told.cancelled().await;
            sleep(MARGIN.mul_f64(1.2)).await;
        });
        let open = close_in_turn(&sessions, &doors, &connections, each).await;
        assert_eq!(open, 0);
    }

    #[tokio::test]
    async fn what_does_not_close_is_counted() {
        let (sessions, connections) = (TaskTracker::new(), TaskTracker::new());
        let doors = CancellationToken::new();
        sessions.spawn(std::future::pending::<()>());
        connections.spawn(std::future::pending::<()>());
        let open = close_in_turn(&sessions, &doors, &connections, Duration::ZERO).await;
        assert_eq!(open, 2);
    }
}
