//! Connections that must go by what logic-stub itself sees: told to their comets in the background, so that no login waits.
//!
//! Each comet with such connections has a task, which tells all of them together and tries again while the comet is away. What
//! waits is bounded in number and time; what is given up is counted.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    sync::Arc,
    time::Duration,
};

use common::backoff::Backoff;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use protocol::grpc::comet::v1::{self, Cause, Connections, KickReply, kick_request::Target};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{Failure, Limits, call, policy, request};
use crate::{
    comets::Comets,
    config::{self, PerMid},
    metrics::Metrics,
    sessions::{Connection, Holder, Sessions},
};

/// Users whose connections are counted at once.
const COUNTING: usize = 32;

/// When a connection that its comet does not have is looked for again: a login is nearly always there within milliseconds.
const LOOK_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    factor: 3.0,
    ..Backoff::short()
};

/// Why a connection must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its key has logged in at another comet.
    Replaced,
    /// Its user has newer connections, as many as may be.
    Newest,
    /// The same, on its platform.
    Platform,
}

/// Takes connections that must go. Shared by all logins.
pub struct Later {
    shared: Arc<Shared>,
    counting: mpsc::Sender<(i64, Instant)>,
}

struct Shared {
    sessions: Arc<dyn Sessions>,
    comets: Arc<Comets>,
    metrics: Arc<Metrics>,
    kick: config::Kick,
    limits: Limits,
    rule: PerMid,
    max_per_mid: usize,
    book: Mutex<Book>,
    stopped: CancellationToken,
}

/// What waits.
#[derive(Default)]
struct Book {
    /// New ones, for each comet that has a task.
    arrived: HashMap<Arc<str>, (Vec<Due>, Arc<Notify>)>,
    /// All, also those that tasks hold.
    count: usize,
}

/// What a comet's task holds.
#[derive(Default)]
struct Held {
    waiting: Vec<Due>,
    /// Under way to the comet.
    told: Vec<Due>,
}

/// A connection that must go.
#[derive(Debug)]
struct Due {
    key: String,
    connection: Connection,
    why: Why,
    since: Instant,
    /// When to tell it next.
    at: Instant,
    /// How often the comet did not have it.
    absences: u32,
}

impl Why {
    /// In metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Newest => "newest",
            Self::Platform => "platform",
        }
    }

    fn cause(self) -> Cause {
        match self {
            Self::Replaced => Cause::Replaced,
            Self::Newest | Self::Platform => Cause::Kicked,
        }
    }

    /// What the client is told.
    fn words(self) -> &'static str {
        match self {
            Self::Replaced => "the same key logged in elsewhere",
            Self::Newest => "this user has newer connections",
            Self::Platform => "this user has newer connections on this platform",
        }
    }
}

impl Later {
    /// Must be called in a tokio runtime.
    pub fn start(
        sessions: Arc<dyn Sessions>,
        comets: Arc<Comets>,
        metrics: Arc<Metrics>,
        config: &config::Config,
        limits: Limits,
    ) -> Self {
        let (counting, users) = mpsc::channel(config.kick.waiting);
        let shared = Arc::new(Shared {
            sessions,
            comets,
            metrics,
            kick: config.kick.clone(),
            limits,
            rule: config.sessions.per_mid,
            max_per_mid: config.sessions.max_per_mid,
            book: Mutex::default(),
            stopped: CancellationToken::new(),
        });
        let counter = Arc::clone(&shared);
        let run = async move {
            let each = |(mid, since)| {
                let counter = Arc::clone(&counter);
                async move { counter.count(mid, since).await }
            };
            let all = ReceiverStream::new(users).for_each_concurrent(COUNTING, each);
            counter.stopped.run_until_cancelled(all).await;
        };
        tokio::spawn(run);
        Self { shared, counting }
    }

    /// Has this connection of `server` closed.
    pub fn close(&self, server: &Arc<str>, key: &str, connection: Connection, why: Why) {
        self.shared.close(server, key, connection, why);
    }

    /// Has the user's connections counted, after a login, and those beyond the bound closed, if that is the rule.
    pub fn count(&self, mid: i64) {
        // Nobody's sessions have no index, and no bound.
        if mid <= 0 || !policy::closes(self.shared.rule) {
            return;
        }
        if self.counting.try_send((mid, Instant::now())).is_err() {
            self.shared.metrics.lost_kicks("full").inc();
        }
    }

    /// Gives up what waits.
    pub fn stop(&self) {
        self.shared.stopped.cancel();
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later")
            .field("waiting", &self.shared.book.lock().count)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn close(self: &Arc<Self>, server: &Arc<str>, key: &str, connection: Connection, why: Why) {
        if self.stopped.is_cancelled() {
            self.metrics.lost_kicks("stopped").inc();
            return;
        }
        let now = Instant::now();
        let due = Due {
            key: key.to_owned(),
            connection,
            why,
            since: now,
            at: now,
            absences: 0,
        };
        let mut book = self.book.lock();
        if book.count >= self.kick.waiting {
            self.metrics.lost_kicks("full").inc();
            return;
        }
        book.count += 1;
        match book.arrived.entry(Arc::clone(server)) {
            Entry::Occupied(mut waiting) => {
                let (waiting, arrival) = waiting.get_mut();
                waiting.push(due);
                arrival.notify_one();
            }
            Entry::Vacant(vacant) => {
                let arrival = Arc::default();
                vacant.insert((vec![due], Arc::clone(&arrival)));
                tokio::spawn(Arc::clone(self).serve(Arc::clone(server), arrival));
            }
        }
    }

    /// Tells one comet, until nothing is left.
    async fn serve(self: Arc<Self>, comet: Arc<str>, arrival: Arc<Notify>) {
        let mut held = Held::default();
        let telling = self.tell_all(&comet, &arrival, &mut held);
        if self.stopped.run_until_cancelled(telling).await.is_none() {
            let mut book = self.book.lock();
            let arrived = book.arrived.remove(&comet);
            let arrived = arrived.map_or(0, |(arrived, _)| arrived.len());
            let lost = held.waiting.len() + held.told.len() + arrived;
            book.count -= lost;
            self.metrics.lost_kicks("stopped").inc_by(lost as u64);
        }
    }

    async fn tell_all(&self, comet: &Arc<str>, arrival: &Notify, held: &mut Held) {
        let backoff = Backoff::short();
        let mut failures = 0;
        while self.take(comet, held) {
            let now = Instant::now();
            let next = held.waiting.iter().map(|due| due.at).min().unwrap_or(now);
            if next > now {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = arrival.notified() => {}
                }
            } else if self.tell(comet, held).await {
                failures = 0;
            } else {
                let delay = backoff.delay(failures, &mut rand::rng());
                failures = failures.saturating_add(1);
                sleep(delay).await;
            }
        }
    }

    /// Takes what has arrived. If nothing is left, it gives up the task's place in the book and returns false.
    fn take(&self, comet: &Arc<str>, held: &mut Held) -> bool {
        let mut book = self.book.lock();
        if let Some((arrived, _)) = book.arrived.get_mut(comet) {
            held.waiting.append(arrived);
        }
        let is_idle = held.waiting.is_empty();
        if is_idle {
            book.arrived.remove(comet);
        }
        !is_idle
    }

    /// Tells what is due, by one call for each reason; returns whether the comet answered.
    async fn tell(&self, comet: &Arc<str>, held: &mut Held) -> bool {
        for why in [Why::Replaced, Why::Newest, Why::Platform] {
            held.choose(why, self.limits.keys_per_call);
            if held.told.is_empty() {
                continue;
            }
            let connections = held.told.iter().map(Due::named).collect();
            let target = Target::Connections(Connections { connections });
            let request = request(target, why.cause(), &why.words().into());
            let known = self.comets.known();
            let deadline = Instant::now() + self.limits.timeout;
            let answer = call(known.get(comet), request, deadline, &self.limits).await;
            let told = std::mem::take(&mut held.told);
            let (count, is_answered) = (told.len(), answer.is_ok());
            let left = match answer {
                Ok(reply) => self.answered(why, told, reply),
                Err(failure) => self.failed(comet, told, &failure),
            };
            self.book.lock().count -= count - left.len();
            held.waiting.extend(left);
            if !is_answered {
                return false;
            }
        }
        true
    }

    /// What is left to be told again: connections that the comet does not have, as long as their login may still be on the way
    /// from logic to the comet's bucket. Most of them have gone by themselves.
    fn answered(&self, why: Why, told: Vec<Due>, reply: KickReply) -> Vec<Due> {
        self.metrics.kicked(why.label()).inc_by(reply.kicked.into());
        let absent: HashSet<String> = reply.absent_keys.into_iter().collect();
        let settle = self.kick.settle.get();
        let missing = told
            .into_iter()
            .filter(|due| absent.contains(&due.key) && due.since.elapsed() < settle);
        let again = missing.map(|due| Due {
            at: Instant::now() + LOOK_AGAIN.delay(due.absences, &mut rand::rng()),
            absences: due.absences + 1,
            ..due
        });
        again.collect()
    }

    /// What is left to be told again.
    fn failed(&self, comet: &Arc<str>, told: Vec<Due>, failure: &Failure) -> Vec<Due> {
        let retry = self.kick.retry.get();
        let (left, lost): (Vec<Due>, Vec<Due>) = told
            .into_iter()
            .partition(|due| failure.may_pass() && due.since.elapsed() < retry);
        if lost.is_empty() {
            tracing::debug!(%comet, %failure, "a comet does not take a kick: it is tried again");
        } else {
            tracing::warn!(%comet, %failure, connections = lost.len(), "connections that must go stay");
        }
        let counter = self.metrics.lost_kicks(failure.label());
        counter.inc_by(lost.len() as u64);
        left
    }

    /// Counts a user's connections, and has those closed that are beyond the bound.
    async fn count(self: &Arc<Self>, mid: i64, since: Instant) {
        let why = match self.rule {
            PerMid::Platform => Why::Platform,
            PerMid::Newest | PerMid::Unlimited | PerMid::Refuse => Why::Newest,
        };
        let backoff = Backoff::short();
        for attempt in 0.. {
            match self.sessions.of_mids(&[mid]).await {
                Ok(sessions) => {
                    for session in policy::excess(self.rule, self.max_per_mid, &sessions) {
                        let Holder { server, connection } = &session.holder;
                        if let Some(connection) = connection {
                            self.close(server, &session.key, *connection, why);
                        }
                    }
                    return;
                }
                Err(error) if since.elapsed() >= self.kick.retry.get() => {
                    tracing::warn!(mid, %error, "a user's connections cannot be counted");
                    self.metrics.lost_kicks("store").inc();
                    return;
                }
                Err(_) => {
                    let delay = backoff.delay(attempt, &mut rand::rng());
                    sleep(delay).await;
                }
            }
        }
    }
}

impl Held {
    /// Takes up to so many that are due for this reason from what waits.
    fn choose(&mut self, why: Why, max: usize) {
        let now = Instant::now();
        let due = |due: &mut Due| due.why == why && due.at <= now;
        self.told = self.waiting.extract_if(.., due).take(max).collect();
    }
}

impl Due {
    fn named(&self) -> v1::Connection {
        v1::Connection {
            key: self.key.clone(),
            epoch: self.connection.epoch,
            id: self.connection.id,
        }
    }
}
