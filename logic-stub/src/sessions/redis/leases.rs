//! Which comets live, and what is visible because of it. That a lease is alive is what Redis says, by its own clock; this
//! process remembers it for a moment, so that pushes need not ask each time.
//!
//! That Redis has no lease means that its comet is dead only if the comet could have renewed it. A Redis that has come back
//! without it, or after it ran out, says nothing of the comet: what this process remembers holds until the lease's own end, and
//! for as long as a lease lives after Redis could last not be asked.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use protocol::grpc::goim::logic::CometInfo;

use super::{
    RedisSessions, millis, names, record,
    scripts::{ENLIST, READ_LEASE, RENEW_LEASE},
    wire::{Call, read},
};
use crate::sessions::{Connection, Ended, Holder, Lease, LeaseRenewal, Leases, StoreError};

/// How long it is believed that a lease lives and has its epoch. So long pushes may still go to a comet whose successor has
/// registered elsewhere; they find nobody there.
const BELIEVED: Duration = Duration::from_secs(1);

/// What this process remembers of leases.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    memories: Mutex<HashMap<Arc<str>, Memory>>,
    /// When Redis could last not be asked.
    blind: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Memory {
    info: CometInfo,
    /// So long Redis is not asked.
    believed: Instant,
    /// The end of the lease, as Redis last had it.
    end: Instant,
}

/// The epochs of some comets that live.
#[derive(Debug, Default)]
pub(super) struct Alive(HashMap<Arc<str>, u64>);

impl Alive {
    /// A lease lives, unless its comet has left.
    fn note(&mut self, server: &Arc<str>, info: &CometInfo) {
        if info.leaving {
            self.0.remove(server);
        } else {
            self.0.insert(Arc::clone(server), info.epoch);
        }
    }

    /// Whether what the holder has is visible.
    pub(super) fn shows(&self, holder: &Holder) -> bool {
        holder
            .connection
            .is_none_or(|Connection { epoch, .. }| self.0.get(&holder.server) == Some(&epoch))
    }
}

/// A lease that lives.
struct Found {
    info: CometInfo,
    left: Duration,
}

/// What is known of a lease.
enum State {
    Alive(Found),
    /// Not renewed for so long after its end, without a word.
    Ended(Duration),
    /// Nothing, or its comet has left.
    Gone,
}

impl Remembered {
    /// Redis says at `now` that the lease lives for so long.
    fn put(&self, server: &Arc<str>, info: CometInfo, now: Instant, left: Duration) {
        let memory = Memory {
            info,
            believed: now + BELIEVED.min(left),
            end: now + left,
        };
        self.memories.lock().insert(Arc::clone(server), memory);
    }

    /// Redis has no lease. Returns it if it may be Redis that has lost it.
    fn missing(&self, server: &Arc<str>, now: Instant, lease: Duration) -> Option<Found> {
        let blind_until = self.blind.lock().map(|blind| blind + lease);
        let mut memories = self.memories.lock();
        let memory = memories.get(server)?;
        let end = blind_until.map_or(memory.end, |until| until.max(memory.end));
        let left = end.saturating_duration_since(now);
        if left.is_zero() {
            memories.remove(server);
            return None;
        }
        let info = memory.info.clone();
        Some(Found { info, left })
    }

    /// The comets of which anything is remembered.
    fn names(&self) -> Vec<Arc<str>> {
        self.memories.lock().keys().cloned().collect()
    }

    /// What is known of the comets of `holders`, and the names of those who have to be asked for.
    fn of<'a>(
        &self,
        holders: impl Iterator<Item = &'a Holder>,
        now: Instant,
    ) -> (Alive, BTreeSet<Arc<str>>) {
        let mut alive = Alive::default();
        let mut unknown = BTreeSet::new();
        let memories = self.memories.lock();
        for holder in holders {
            let Some(Connection { epoch, .. }) = holder.connection else {
                continue;
            };
            match memories.get(&holder.server) {
                // A later epoch than the holder's is as good an answer: epochs do not go back.
                Some(memory) if memory.believed > now && memory.info.epoch >= epoch => {
                    alive.note(&holder.server, &memory.info);
                }
                Some(_) | None => {
                    unknown.insert(Arc::clone(&holder.server));
                }
            }
        }
        (alive, unknown)
    }
}

impl RedisSessions {
    /// Who among the comets of `holders` lives.
    pub(super) async fn alive<'a>(
        &self,
        holders: impl Iterator<Item = &'a Holder>,
    ) -> Result<Alive, StoreError> {
        let (mut alive, unknown) = self.remembered.of(holders, self.clock.now());
        if !unknown.is_empty() {
            let unknown: Vec<Arc<str>> = unknown.into_iter().collect();
            let found = self.read_leases(&unknown).await?;
            for (server, found) in unknown.into_iter().zip(found) {
                match found {
                    State::Alive(found) => alive.note(&server, &found.info),
                    State::Ended(_) | State::Gone => {
                        alive.0.remove(&server);
                    }
                }
            }
        }
        Ok(alive)
    }

    pub(super) async fn renew_lease_now(
        &self,
        server: &str,
        info: CometInfo,
    ) -> Result<LeaseRenewal, StoreError> {
        self.enlist(server).await?;
        let now = self.clock.now();
        let call = Call::script(
            &RENEW_LEASE,
            [names::lease(server), names::alive(server)],
            [
                record::epoch(info.epoch).as_bytes(),
                &info.encode_to_vec(),
                millis(self.limits.lease).as_bytes(),
                millis(self.limits.lease + self.limits.expire).as_bytes(),
            ],
        );
        let outcome = match self.wire.ask::<i64>(call).await? {
            0 => LeaseRenewal::New,
            1 => LeaseRenewal::Known,
            _ => return Ok(LeaseRenewal::Superseded),
        };
        self.remembered
            .put(&server.into(), info, now, self.limits.lease);
        Ok(outcome)
    }

    /// Puts a comet's name on the list.
    pub(super) async fn enlist(&self, server: &str) -> Result<(), StoreError> {
        let call = Call::script(
            &ENLIST,
            [names::COMETS.to_owned()],
            [
                server.as_bytes(),
                millis(self.limits.lease + self.limits.expire).as_bytes(),
                self.limits.max_comets.to_string().as_bytes(),
            ],
        );
        match self.wire.ask::<i64>(call).await? {
            1 => Ok(()),
            _ => Err(self.limits.too_many_comets()),
        }
    }

    /// The names on the list: comets that were heard of not too long ago.
    pub(super) async fn listed(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(names::COMETS).arg(0).arg(-1);
        let listed: Vec<String> = self.wire.ask(Call::Plain(command)).await?;
        Ok(listed.into_iter().map(Into::into).collect())
    }

    pub(super) async fn leases_now(&self) -> Result<Leases, StoreError> {
        let leases = self.ask_for_leases().await;
        if matches!(leases, Err(StoreError::Unavailable(_))) {
            *self.remembered.blind.lock() = Some(self.clock.now());
        }
        leases
    }

    async fn ask_for_leases(&self) -> Result<Leases, StoreError> {
        let mut listed = self.listed().await?;
        listed.extend(self.remembered.names());
        listed.sort_unstable();
        listed.dedup();
        let now = self.clock.now();
        let mut leases = Leases::default();
        let states = self.read_leases(&listed).await?;
        for (server, state) in listed.into_iter().zip(states) {
            match state {
                State::Alive(found) if !found.info.leaving => {
                    let age = self.limits.lease.saturating_sub(found.left);
                    leases.alive.push(Lease {
                        server,
                        info: Arc::new(found.info),
                        renewed: now.checked_sub(age).unwrap_or(now),
                    });
                }
                State::Ended(since) => leases.ended.push(Ended { server, since }),
                State::Alive(_) | State::Gone => {}
            }
        }
        Ok(leases)
    }

    fn read_leases<'a>(
        &'a self,
        servers: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<Vec<State>, StoreError>> {
        Box::pin(async move {
            let now = self.clock.now();
            let outlives = millis(self.limits.expire);
            let call = |server: &Arc<str>| {
                let keys = [names::lease(server), names::alive(server)];
                Call::script(&READ_LEASE, keys, [outlives.as_bytes()])
            };
            let answers = self
                .wire
                .ask_all(servers.iter().map(call).collect())
                .await?;
            let mut states = Vec::with_capacity(answers.len());
            let answered = self.clock.now();
            for (server, answer) in servers.iter().zip(answers) {
                let state = state(server, read(answer)?);
                if let State::Alive(Found { info, left }) = &state {
                    self.remembered.put(server, info.clone(), now, *left);
                    states.push(state);
                    continue;
                }
                let lease = self.limits.lease;
                let kept = self.remembered.missing(server, answered, lease);
                states.push(kept.map_or(state, State::Alive));
            }
            Ok(states)
        })
    }
}

fn state(server: &str, (info, left): (Option<Vec<u8>>, i64)) -> State {
    let Some(info) = info else {
        return State::Gone;
    };
    let info = match CometInfo::decode(info.as_slice()) {
        Ok(info) => info,
        Err(error) => {
            tracing::warn!(server, %error, "what a comet said of itself is not readable");
            return State::Gone;
        }
    };
    let time = Duration::from_millis(left.unsigned_abs());
    match left {
        0.. => State::Alive(Found { info, left: time }),
        _ if info.leaving => State::Gone,
        _ => State::Ended(time),
    }
}
