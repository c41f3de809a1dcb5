//! Sessions in Redis, one server, a master with sentinels, or a cluster: for any number of logic-stubs, and for goim's logic beside them.
//!
//! goim's own keys hold goim's own values, with its expiry. What goim does not know stands in keys of the same slot:
//!
//! | Key | Type | Holds |
//! | --- | --- | --- |
//! | `key_<key>` | string | goim's: the server. The truth |
//! | `{key_<key>}session` | string | JSON: server, mid, connection, door, address, platform |
//! | `mid_<mid>` | hash | goim's: from keys to servers. An index that readers verify and repair |
//! | `ol_<server>` | hash | goim's: 64 fields of room counts in JSON |
//! | `{ol_<server>}epoch` | string | The epoch of the comet that reported them |
//! | `{ol_<server>}lease` | hash | Epoch, and what the comet said of itself as a `CometInfo` |
//! | `{ol_<server>}alive` | string | The epoch, as long as the lease lives |
//! | `comet_names` | sorted set | The names of comets, by when they were last heard of |
//! | `{<number>}store_generation` | string | A random number that an empty Redis has not: with the name of the server's run, the generation |
//!
//! # Layout
//!
//! - `place`, `wire`, `sentinel`, `health`: where Redis is, the way to it, and whether it is there
//! - `names`, `scripts`: its keys, and what it does in one step
//! - `record`, `city`: forms of what is in it
//! - `whereabouts`: the same with certificates that are renewed
//! - `leases`, `rooms`: those parts of the store
//! - `time`: until when a login may be written down

mod city;
mod health;
mod leases;
mod names;
mod place;
mod record;
mod rooms;
mod scripts;
mod sentinel;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod time;
mod whereabouts;
pub(crate) mod wire;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::grpc::goim::logic::CometInfo;
use redis::Value;

use super::{
    Answer, Holder, LeaseRenewal, Leases, Registration, Renewal, RoomCounts, Session, Sessions,
    StoreError, memory::Limits,
};
use crate::clock::Clock;
use leases::Remembered;
pub use place::{Cluster, Node, Place, PlaceError, Sentinels};
use record::{Pair, Record};
use rooms::Sum;
use scripts::{GENERATION, INDEX, REGISTER, REMOVE, RENEW};
use time::RedisTime;
pub use whereabouts::Whereabouts;
use wire::{Call, Script, Wire, read};

/// Sessions asked for in one round trip, so that one long list does not keep others waiting.
const BATCH: usize = 1_000;

/// Keys that make up the generation of a cluster: each master has at least one if it has a sixteenth of the slots in a row.
const PARTS: u16 = 16;

/// How long Redis is waited for, and how long an answer is good for.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For a connection.
    pub dial: Duration,
    /// For an answer.
    pub answer: Duration,
    /// The longest pause between two attempts to connect.
    pub pause: Duration,
    /// So long the sum of all room counts is not asked for again; zero is not at all.
    pub room_counts: Duration,
}

/// The store in Redis. Of the limits, that of sessions is Redis's own `maxmemory`.
#[derive(Debug)]
pub struct RedisSessions {
    wire: Wire,
    limits: Limits,
    waits: Waits,
    clock: Clock,
    /// Comets that may not be on the list: goim's, if they report to goim's logic.
    fixed: Vec<Arc<str>>,
    remembered: Remembered,
    time: RedisTime,
    sum: tokio::sync::Mutex<Option<Sum>>,
}

impl RedisSessions {
    /// Connects when it is first needed. `fixed` are comets whose room counts are looked for even if none of them was ever
    /// heard of. Must be called in a tokio runtime.
    pub fn new(
        place: impl Into<Whereabouts>,
        limits: Limits,
        waits: Waits,
        clock: Clock,
        fixed: Vec<Arc<str>>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            wire: Wire::new(place.into(), &waits, "the session store")?,
            limits,
            waits,
            clock,
            fixed,
            remembered: Remembered::default(),
            time: RedisTime::default(),
            sum: tokio::sync::Mutex::default(),
        })
    }

    async fn generation_now(&self) -> Result<u64, StoreError> {
        let parts = if self.wire.is_cluster() { PARTS } else { 1 };
        let call = |part| {
            let new = rand::random::<u64>().to_string();
            let key = names::generation(part, parts);
            Call::script(&GENERATION, [key], [new.as_bytes()])
        };
        let asked = Instant::now();
        let answers = self.wire.ask_all((0..parts).map(call).collect()).await?;
        let mut generation = 0_u64;
        let mut time = 0;
        for answer in answers {
            let (part, run, now): (u64, String, u64) = read(answer)?;
            // Of the clocks of a cluster, the one that is most ahead: what is in time is in time everywhere.
            time = now.max(time);
            // The first half of the name's 40 digits is more than enough.
            let run = run.get(..16).unwrap_or_default();
            let run = u64::from_str_radix(run, 16).unwrap_or_default();
            generation = generation.rotate_left(7) ^ part ^ run;
        }
        self.time.note(asked, time);
        Ok(generation)
    }

    async fn register_now(&self, session: &Session) -> Result<Registration, StoreError> {
        let (taken, old) = match self.write_session(session).await? {
            Some(written) => written,
            // An answer that is in time says that it is late: its clock was set. It has just told the time.
            None => self.write_session(session).await?.ok_or_else(|| {
                StoreError::Unavailable("redis's clock does not go as ours".to_owned())
            })?,
        };
        let Some(old) = old else {
            return Ok(Registration::New);
        };
        if old.mid != Some(session.mid) {
            // Either the index has the mid of before, or it has just been given one that does not hold the key.
            let wrong = if taken { old.mid } else { Some(session.mid) };
            let wrong = wrong.map(|mid| (mid, session.key.clone()));
            self.repair(wrong.into_iter().collect()).await;
        }
        Ok(if !taken {
            Registration::Superseded(old.holder)
        } else if old.holder == session.holder && old.holder.connection.is_some() {
            Registration::Repeated
        } else {
            Registration::Replaced(old.holder)
        })
    }

    /// Returns whether the session is written and what was there, if it was not too late.
    async fn write_session(
        &self,
        session: &Session,
    ) -> Result<Option<(bool, Option<Record>)>, StoreError> {
        let mut calls = vec![self.session_call(&REGISTER, session)?];
        calls.extend(self.index_call(session.mid, &session.key, &session.holder.server));
        let asked = Instant::now();
        let mut answers = self.wire.ask_in_turn(calls).await?.into_iter();
        let answer = answers.next().unwrap_or_default();
        let (outcome, server, beside): (i64, Value, Value) = read(answer)?;
        if outcome == 2 {
            self.time.note(asked, read(server)?);
            return Ok(None);
        }
        let Pair(old) = read(Value::Array(vec![server, beside]))?;
        Ok(Some((outcome == 1, old)))
    }

    async fn renew_now(&self, session: &Session) -> Result<Renewal, StoreError> {
        let renewal = match self
            .wire
            .ask::<i64>(self.session_call(&RENEW, session)?)
            .await?
        {
            0 => Renewal::Absent,
            1 => Renewal::Renewed,
            _ => Renewal::Superseded,
        };
        if renewal == Renewal::Renewed {
            let call = self.index_call(session.mid, &session.key, &session.holder.server);
            self.wire.ask_all(call.into_iter().collect()).await?;
        }
        Ok(renewal)
    }

    async fn remove_now(&self, session: &Session) -> Result<bool, StoreError> {
        let call = Call::script(
            &REMOVE,
            [names::of_key(&session.key), names::beside_key(&session.key)],
            [
                session.holder.server.as_bytes(),
                record::connection(&session.holder).as_bytes(),
            ],
        );
        let Pair(removed) = self.wire.ask(call).await?;
        let Some(removed) = removed else {
            return Ok(false);
        };
        let mid = removed.mid.unwrap_or(session.mid);
        self.repair(vec![(mid, session.key.clone())]).await;
        Ok(true)
    }

    async fn holders_now(&self, keys: &[String]) -> Result<Vec<Option<Holder>>, StoreError> {
        let records = self.records(keys.iter().map(String::as_str)).await?;
        let holders = records.iter().flatten().map(|record| &record.holder);
        let alive = self.alive(holders).await?;
        let visible = |record: Option<Record>| {
            let holder = record?.holder;
            alive.shows(&holder).then_some(holder)
        };
        Ok(records.into_iter().map(visible).collect())
    }

    async fn of_mids_now(&self, mids: &[i64]) -> Result<Vec<Session>, StoreError> {
        let indexed = self.indexed(mids).await?;
        let records = self
            .records(indexed.iter().map(|(_, key)| key.as_str()))
            .await?;
        let mut found = Vec::new();
        let mut stale = Vec::new();
        for ((mid, key), record) in indexed.into_iter().zip(records) {
            match record {
                Some(record) if record.mid.is_none_or(|of| of == mid) => found.push(Session {
                    mid,
                    key,
                    holder: record.holder,
                    client: record.client,
                }),
                Some(_) | None => stale.push((mid, key)),
            }
        }
        let alive = self
            .alive(found.iter().map(|session| &session.holder))
            .await?;
        found.retain(|session| alive.shows(&session.holder));
        if !stale.is_empty() {
            self.repair(stale).await;
        }
        Ok(found)
    }

    /// What the index has under `mids`: to be verified.
    async fn indexed(&self, mids: &[i64]) -> Result<Vec<(i64, String)>, StoreError> {
        let mids: BTreeSet<i64> = mids.iter().copied().filter(|mid| *mid > 0).collect();
        let mids: Vec<i64> = mids.into_iter().collect();
        let mut indexed = Vec::new();
        for mids in mids.chunks(BATCH) {
            let call =
                |mid: &i64| Call::Plain(redis::cmd("HKEYS").arg(names::of_mid(*mid)).to_owned());
            let answers = self.wire.ask_all(mids.iter().map(call).collect()).await?;
            for (mid, answer) in mids.iter().zip(answers) {
                let keys: Vec<Vec<u8>> = read(answer)?;
                let keys = keys
                    .into_iter()
                    .filter_map(|key| String::from_utf8(key).ok());
                indexed.extend(keys.map(|key| (*mid, key)));
            }
        }
        Ok(indexed)
    }

    async fn records<'a>(
        &self,
        keys: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let keys: Vec<&str> = keys.collect();
        let mut records = Vec::with_capacity(keys.len());
        for keys in keys.chunks(BATCH) {
            let call = |key: &&str| {
                let mut command = redis::cmd("MGET");
                command.arg(names::of_key(key)).arg(names::beside_key(key));
                Call::Plain(command)
            };
            for answer in self.wire.ask_all(keys.iter().map(call).collect()).await? {
                let Pair(record) = read(answer)?;
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Takes fields out of the index that should not be there. Whoever registers writes the session first and the index then:
    /// looking at the session after the index was changed finds all whose fields were taken out wrongly. What fails here is left
    /// to the next reader.
    async fn repair(&self, fields: Vec<(i64, String)>) {
        for fields in fields.chunks(BATCH) {
            if let Err(error) = self.repair_now(fields).await {
                tracing::debug!(%error, "an index of keys is not repaired");
                return;
            }
        }
    }

    async fn repair_now(&self, fields: &[(i64, String)]) -> Result<(), StoreError> {
        let delete = |(mid, key): &(i64, String)| {
            Call::Plain(
                redis::cmd("HDEL")
                    .arg(names::of_mid(*mid))
                    .arg(key)
                    .to_owned(),
            )
        };
        self.wire
            .ask_all(fields.iter().map(delete).collect())
            .await?;
        let records = self
            .records(fields.iter().map(|(_, key)| key.as_str()))
            .await?;
        let put_back = fields
            .iter()
            .zip(records)
            .filter_map(|((mid, key), record)| {
                let record = record?;
                let its = record.mid.is_none_or(|of| of == *mid);
                its.then(|| self.index_call(*mid, key, &record.holder.server))?
            });
        self.wire.ask_all(put_back.collect()).await?;
        Ok(())
    }

    fn session_call(&self, script: &'static Script, session: &Session) -> Result<Call, StoreError> {
        let beside = record::beside(session).map_err(|error| {
            StoreError::Refused(format!("a session cannot be written: {error}"))
        })?;
        let patience = self.time.after(self.waits.dial + self.waits.answer);
        Ok(Call::script(
            script,
            [names::of_key(&session.key), names::beside_key(&session.key)],
            [
                session.holder.server.as_bytes(),
                record::connection(&session.holder).as_bytes(),
                beside.as_bytes(),
                millis(self.limits.expire).as_bytes(),
                session.mid.to_string().as_bytes(),
                patience.to_string().as_bytes(),
            ],
        ))
    }

    fn index_call(&self, mid: i64, key: &str, server: &str) -> Option<Call> {
        let life = millis(self.limits.expire);
        let args = [key.as_bytes(), server.as_bytes(), life.as_bytes()];
        // goim's mids of 0 and below are nobody's: an index of all who are nobody would have no bound.
        (mid > 0).then(|| Call::script(&INDEX, [names::of_mid(mid)], args))
    }
}

impl Sessions for RedisSessions {
    fn is_shared(&self) -> bool {
        true
    }

    fn generation(&self) -> Answer<'_, u64> {
        Box::pin(self.generation_now())
    }

    fn register<'a>(&'a self, session: &'a Session) -> Answer<'a, Registration> {
        Box::pin(self.register_now(session))
    }

    fn renew<'a>(&'a self, session: &'a Session) -> Answer<'a, Renewal> {
        Box::pin(self.renew_now(session))
    }

    fn remove<'a>(&'a self, session: &'a Session) -> Answer<'a, bool> {
        Box::pin(self.remove_now(session))
    }

    fn holders<'a>(&'a self, keys: &'a [String]) -> Answer<'a, Vec<Option<Holder>>> {
        Box::pin(self.holders_now(keys))
    }

    fn of_mids<'a>(&'a self, mids: &'a [i64]) -> Answer<'a, Vec<Session>> {
        Box::pin(self.of_mids_now(mids))
    }

    fn report_rooms<'a>(
        &'a self,
        server: &'a str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Answer<'a, ()> {
        Box::pin(self.report_rooms_now(server, epoch, counts))
    }

    fn room_counts(&self) -> Answer<'_, Arc<RoomCounts>> {
        Box::pin(self.room_counts_now())
    }

    fn renew_lease<'a>(&'a self, server: &'a str, info: CometInfo) -> Answer<'a, LeaseRenewal> {
        Box::pin(self.renew_lease_now(server, info))
    }

    fn leases(&self) -> Answer<'_, Leases> {
        Box::pin(self.leases_now())
    }
}

/// A span of time as Redis wants it.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
