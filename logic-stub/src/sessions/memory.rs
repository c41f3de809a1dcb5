//! Sessions inside this process: for one logic-stub, gone when it ends.
//!
//! Keys and the index of mids are cut into shards with a lock each, so that logins do not wait for one another nor for the
//! sweep. Locks are taken in the order index, rooms, leases, keys, and none is held longer than one shard's work.

mod leases;
mod rooms;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::{BoxFuture, ready};
use hashbrown::{DefaultHashBuilder, hash_map::Entry};
use parking_lot::{Mutex, RwLock};
use protocol::grpc::goim::logic::CometInfo;

use super::{
    Answer, Client, Holder, LeaseRenewal, Leases as Known, Registration, Renewal, RoomCounts,
    Session, Sessions, StoreError,
};
use crate::clock::Clock;
use leases::Leases;
use rooms::Rooms;

/// Shards of the keys, and of the index. Enough that two cores seldom meet on one; each costs a lock and an empty map.
const SHARDS: usize = 64;

/// goim's age from which a comet's report of its rooms no longer counts.
pub const REPORT_MAX_AGE: Duration = Duration::from_mins(5);

/// How long things live and how many there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A session that is not renewed for so long is forgotten.
    pub expire: Duration,
    /// A lease that is not renewed for so long is dead.
    pub lease: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Names of comets at once.
    pub max_comets: usize,
}

impl Limits {
    pub(super) fn too_many_comets(&self) -> StoreError {
        StoreError::Full {
            what: "comets",
            max: self.max_comets,
        }
    }
}

/// The in-memory store.
#[derive(Debug)]
pub struct MemorySessions {
    limits: Limits,
    clock: Clock,
    generation: u64,
    hasher: DefaultHashBuilder,
    count: AtomicUsize,
    keys: Box<[Mutex<Keys>]>,
    mids: Box<[Mutex<Mids>]>,
    leases: RwLock<Leases>,
    rooms: Mutex<Rooms>,
}

type Keys = hashbrown::HashMap<Arc<str>, Record>;

/// An ordered set of pairs costs a mid with one key no collection of its own, and one with very many no slow search.
type Mids = BTreeSet<(i64, Arc<str>)>;

#[derive(Debug)]
struct Record {
    mid: i64,
    holder: Holder,
    client: Client,
    expires: Instant,
}

impl MemorySessions {
    /// An empty store.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self {
            limits,
            clock,
            generation: microseconds_since_1970(),
            hasher: DefaultHashBuilder::default(),
            count: AtomicUsize::new(0),
            keys: (0..SHARDS).map(|_| Mutex::default()).collect(),
            mids: (0..SHARDS).map(|_| Mutex::default()).collect(),
            leases: RwLock::default(),
            rooms: Mutex::default(),
        }
    }

    /// Sessions that the store holds, visible or not.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether the store holds no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what has run out. Nothing but memory depends on it; it should be called every minute or so.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.leases.write().sweep(self.limits.expire, now);
        self.rooms.lock().sweep(now);
        for shard in &self.keys {
            let mut gone = Vec::new();
            {
                let leases = self.leases.read();
                shard.lock().retain(|key, record| {
                    let stays = record.expires > now && !leases.buried(&record.holder);
                    if !stays {
                        gone.push((record.mid, Arc::clone(key)));
                    }
                    stays
                });
            }
            self.count.fetch_sub(gone.len(), Ordering::Relaxed);
            for (mid, key) in gone {
                self.reindex(mid, &key);
            }
        }
    }

    fn keys_of(&self, key: &str) -> &Mutex<Keys> {
        &self.keys[self.shard(key)]
    }

    fn mids_of(&self, mid: i64) -> &Mutex<Mids> {
        &self.mids[self.shard(&mid)]
    }

    fn shard<T: std::hash::Hash + ?Sized>(&self, value: &T) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash will do"
        )]
        let hash = self.hasher.hash_one(value) as usize;
        hash % SHARDS
    }

    /// Makes the index of `mid` agree with the record of `key`. Called after every change of a record: whichever of two
    /// calls comes last, it finds the record as it is.
    fn reindex(&self, mid: i64, key: &Arc<str>) {
        if mid <= 0 {
            return;
        }
        let mut mids = self.mids_of(mid).lock();
        let held = self
            .keys_of(key)
            .lock()
            .get(key)
            .is_some_and(|record| record.mid == mid);
        if held {
            mids.insert((mid, Arc::clone(key)));
        } else {
            mids.remove(&(mid, Arc::clone(key)));
        }
    }

    fn register_now(&self, session: &Session) -> Result<Registration, StoreError> {
        let now = self.clock.now();
        let record = Record {
            mid: session.mid,
            holder: session.holder.clone(),
            client: session.client.clone(),
            expires: now + self.limits.expire,
        };
        let key: Arc<str> = session.key.as_str().into();
        let (outcome, moved_from) = {
            let mut keys = self.keys_of(&key).lock();
            match keys.entry(Arc::clone(&key)) {
                Entry::Vacant(vacant) => {
                    self.reserve()?;
                    vacant.insert(record);
                    (Registration::New, None)
                }
                Entry::Occupied(mut held) => {
                    let expired = held.get().expires <= now;
                    let old = &held.get().holder;
                    if !expired && is_older(&session.holder, old) {
                        return Ok(Registration::Superseded(old.clone()));
                    }
                    let old = held.insert(record);
                    let outcome = if expired {
                        Registration::New
                    } else if old.holder == session.holder && old.holder.connection.is_some() {
                        Registration::Repeated
                    } else {
                        Registration::Replaced(old.holder)
                    };
                    (outcome, (old.mid != session.mid).then_some(old.mid))
                }
            }
        };
        if let Some(mid) = moved_from {
            self.reindex(mid, &key);
        }
        self.reindex(session.mid, &key);
        Ok(outcome)
    }

    fn reserve(&self) -> Result<(), StoreError> {
        let max = self.limits.max_sessions;
        let reserved = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < max).then_some(count + 1)
            });
        let full = StoreError::Full {
            what: "sessions",
            max,
        };
        reserved.map(drop).map_err(|_| full)
    }

    fn renew_now(&self, session: &Session) -> Renewal {
        let now = self.clock.now();
        let mut keys = self.keys_of(&session.key).lock();
        match keys.get_mut(session.key.as_str()) {
            Some(record) if record.expires <= now => Renewal::Absent,
            Some(record)
                if record.mid == session.mid && covers(&session.holder, &record.holder) =>
            {
                record.expires = now + self.limits.expire;
                Renewal::Renewed
            }
            Some(_) => Renewal::Superseded,
            None => Renewal::Absent,
        }
    }

    fn remove_now(&self, session: &Session) -> bool {
        let now = self.clock.now();
        let removed = {
            let mut keys = self.keys_of(&session.key).lock();
            match keys.entry(session.key.as_str().into()) {
                Entry::Occupied(held) if covers(&session.holder, &held.get().holder) => {
                    Some(held.remove_entry())
                }
                Entry::Occupied(_) | Entry::Vacant(_) => None,
            }
        };
        let Some((key, record)) = removed else {
            return false;
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.reindex(record.mid, &key);
        record.expires > now
    }

    fn holders_now(&self, wanted: &[String]) -> Vec<Option<Holder>> {
        let now = self.clock.now();
        let leases = self.leases.read();
        let holder = |key: &String| {
            let keys = self.keys_of(key).lock();
            let record = keys.get(key.as_str())?;
            let visible = record.expires > now && leases.shows(&record.holder, now);
            visible.then(|| record.holder.clone())
        };
        wanted.iter().map(holder).collect()
    }

    fn of_mids_now(&self, wanted: &[i64]) -> Vec<Session> {
        let now = self.clock.now();
        let wanted: BTreeSet<i64> = wanted.iter().copied().collect();
        let mut found = Vec::new();
        for mid in wanted {
            for key in self.indexed(mid) {
                let leases = self.leases.read();
                let keys = self.keys_of(&key).lock();
                let Some(record) = keys.get(&key) else {
                    continue;
                };
                if record.mid == mid && record.expires > now && leases.shows(&record.holder, now) {
                    found.push(Session {
                        mid,
                        key: key.as_ref().to_owned(),
                        holder: record.holder.clone(),
                        client: record.client.clone(),
                    });
                }
            }
        }
        found
    }

    /// The keys that the index has under `mid`: to be verified.
    fn indexed(&self, mid: i64) -> Vec<Arc<str>> {
        let mids = self.mids_of(mid).lock();
        let from = (mid, Arc::from(""));
        mids.range(from..)
            .take_while(|(of, _)| *of == mid)
            .map(|(_, key)| Arc::clone(key))
            .collect()
    }

    fn renew_lease_now(&self, server: &str, info: CometInfo) -> Result<LeaseRenewal, StoreError> {
        let now = self.clock.now();
        let outcome = self.leases.write().renew(server, info, &self.limits, now)?;
        self.rooms.lock().leases_changed();
        Ok(outcome)
    }

    fn report_rooms_now(
        &self,
        server: &str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut rooms = self.rooms.lock();
        rooms.report(server, epoch, counts, &self.limits, now)
    }

    fn room_counts_now(&self) -> Arc<RoomCounts> {
        let until_when = |server: &str, epoch| self.leases.read().lives_until(server, epoch);
        self.rooms.lock().sum(self.clock.now(), until_when)
    }

    fn leases_now(&self) -> Known {
        self.leases.read().all(self.clock.now())
    }
}

impl Sessions for MemorySessions {
    fn is_shared(&self) -> bool {
        false
    }

    fn generation(&self) -> Answer<'_, u64> {
        answer(Ok(self.generation))
    }

    fn register<'a>(&'a self, session: &'a Session) -> Answer<'a, Registration> {
        answer(self.register_now(session))
    }

    fn renew<'a>(&'a self, session: &'a Session) -> Answer<'a, Renewal> {
        answer(Ok(self.renew_now(session)))
    }

    fn remove<'a>(&'a self, session: &'a Session) -> Answer<'a, bool> {
        answer(Ok(self.remove_now(session)))
    }

    fn holders<'a>(&'a self, keys: &'a [String]) -> Answer<'a, Vec<Option<Holder>>> {
        answer(Ok(self.holders_now(keys)))
    }

    fn of_mids<'a>(&'a self, mids: &'a [i64]) -> Answer<'a, Vec<Session>> {
        answer(Ok(self.of_mids_now(mids)))
    }

    fn report_rooms<'a>(
        &'a self,
        server: &'a str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Answer<'a, ()> {
        answer(self.report_rooms_now(server, epoch, counts))
    }

    fn room_counts(&self) -> Answer<'_, Arc<RoomCounts>> {
        answer(Ok(self.room_counts_now()))
    }

    fn renew_lease<'a>(&'a self, server: &'a str, info: CometInfo) -> Answer<'a, LeaseRenewal> {
        answer(self.renew_lease_now(server, info))
    }

    fn leases(&self) -> Answer<'_, Known> {
        answer(Ok(self.leases_now()))
    }
}

/// Whether `new` is an older connection of the comet that holds the key.
fn is_older(new: &Holder, old: &Holder) -> bool {
    new.server == old.server
        && new
            .connection
            .zip(old.connection)
            .is_some_and(|(new, old)| new < old)
}

/// Whether what is said in the name of `speaker` goes for `held`.
fn covers(speaker: &Holder, held: &Holder) -> bool {
    speaker.server == held.server
        && (speaker.connection.is_none() || speaker.connection == held.connection)
}

fn answer<'a, T: Send + 'a>(result: Result<T, StoreError>) -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(ready(result))
}

fn microseconds_since_1970() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
