//! A queue in Redis: one stream with a consumer group for each of its streams, spread over a cluster.
//!
//! | Key | Type | Holds |
//! | --- | --- | --- |
//! | `{push/<streams>/<stream>}entries` | stream | The entries: `<number>-0`, with the field `push`. Its group is `lanes` |
//! | `{push/<streams>/<stream>}state` | hash | The last `number`, the last `epoch`, the `bytes` of all entries, the `reader` until it gives the stream back, and `waits` while the reader has nothing to read |
//! | `{push/<streams>/<stream>}owner` | string | `<epoch>/<process>` of the reader, as long as its claim lives |
//! | `{push/<streams>/<stream>}names` | sorted set | The names of the messages that were stored last, by when: what is stored again within seconds is not stored twice |
//! | `push_readers` | sorted set | The processes that read, by when they last said so |
//! | `push_reply_<message id>` | hash | Reports of a message that somebody waits for, by the stream of the part |
//!
//! Readers are woken on the channel `push_wake_<process>`. Redis must not evict keys (`maxmemory-policy noeviction`).
//!
//! # Layout
//!
//! - `append`: how pushes get there; `commits`: on to replicas
//! - `scripts`: what Redis does in one step
//! - `wakes`: the channel, and who waits here

mod append;
mod commits;
mod scripts;
#[cfg(test)]
mod tests;
mod wakes;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::MessageId;
use redis::{FromRedisValue, ParsingError, Value};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::{Claim, Done, Limits, Part, Queue, Waiting};
use crate::sessions::{
    Answer, StoreError,
    redis::{
        Waits, Whereabouts,
        time::RedisTime,
        wire::{Call, Wire},
    },
};
use commits::Commits;
use scripts::{ACKNOWLEDGE, CLAIM, READ, READERS, RELEASE, REPLIES, REPLY};
use wakes::{Wakes, reply_to};

/// Bytes from which on an answer takes no more entries: so much less than Redis does in a millisecond.
const ANSWER: usize = 1 << 20;

/// How long a wake-up for a reply may stay away before the list is looked at without.
const LOOK: Duration = Duration::from_millis(250);

/// The names of the processes that read.
const READERS_KEY: &str = "push_readers";

/// The queue, as this process sees it.
pub struct RedisQueue {
    name: String,
    process: String,
    limits: Limits,
    waits: Waits,
    wire: Wire,
    /// If replicas must have what is stored.
    commits: Option<Commits>,
    /// Of the server that has each stream.
    times: Box<[RedisTime]>,
    wakes: Arc<Wakes>,
    _listening: AbortOnDropHandle<()>,
}

impl RedisQueue {
    /// Connects when it is first needed, by two connections beside that of the sessions, and a third one if replicas must have what is
    /// stored. Must be called in a tokio runtime.
    pub fn new(
        place: impl Into<Whereabouts>,
        limits: Limits,
        waits: Waits,
    ) -> Result<Self, StoreError> {
        let place = place.into();
        let process = uuid::Uuid::now_v7().simple().to_string();
        let wakes = Arc::new(Wakes::new(limits.streams));
        let wire = Wire::new(place.clone(), &waits, "the queue")?;
        let commits = match limits.replicas {
            0 => None,
            replicas => Some(Commits::new(
                place.clone(),
                limits.streams,
                replicas,
                &waits,
            )?),
        };
        let (listener, channel) = (Arc::clone(&wakes), channel(&process));
        let listening = async move { listener.listen(&place, &waits, &channel).await };
        Ok(Self {
            name: format!("push/{}", limits.streams),
            process,
            limits,
            waits,
            wire,
            commits,
            times: (0..limits.streams).map(|_| RedisTime::default()).collect(),
            wakes,
            _listening: AbortOnDropHandle::new(tokio::spawn(listening)),
        })
    }

    async fn claim_now(&self, stream: u16) -> Result<Option<Claim>, StoreError> {
        let life = millis(self.limits.lease);
        let args = [self.process.as_bytes(), life.as_bytes()];
        let call = Call::script(&CLAIM, self.keys(stream), args);
        let (epoch, entries, age, taken_over, time): (String, u64, u64, u8, u64) =
            self.wire.ask(call).await?;
        self.time_of(stream).note(std::time::Instant::now(), time);
        let claim = |epoch| Claim {
            stream,
            epoch,
            entries,
            age: Duration::from_micros(age),
            taken_over: taken_over == 1,
        };
        Ok(epoch.parse().ok().map(claim))
    }

    async fn release_now(&self, claim: &Claim) -> Result<(), StoreError> {
        let [_, state, owner] = self.keys(claim.stream);
        let ticket = self.ticket(claim);
        let call = Call::script(&RELEASE, [owner, state], [ticket.as_bytes()]);
        self.wire.ask::<Value>(call).await.map(drop)
    }

    async fn read_now(
        &self,
        claim: &Claim,
        after: u64,
        max: usize,
    ) -> Result<Option<Vec<Waiting>>, StoreError> {
        let (ticket, after, max) = (self.ticket(claim), after.to_string(), max.to_string());
        let answer = ANSWER.to_string();
        let args = [
            ticket.as_bytes(),
            self.process.as_bytes(),
            after.as_bytes(),
            max.as_bytes(),
            answer.as_bytes(),
        ];
        let call = Call::script(&READ, self.keys(claim.stream), args);
        let Entries(entries) = self.wire.ask(call).await?;
        Ok(entries)
    }

    async fn acknowledge_now(&self, stream: u16, done: &[Done]) -> Result<(), StoreError> {
        let [entries, state, _] = self.keys(stream);
        let args = done.iter().flat_map(|done| {
            [
                done.number.to_string().into_bytes(),
                done.bytes.to_string().into_bytes(),
            ]
        });
        let call = Call::Script {
            script: &ACKNOWLEDGE,
            keys: vec![entries, state],
            args: args.collect(),
        };
        self.wire.ask::<Value>(call).await.map(drop)
    }

    async fn readers_now(&self) -> Result<usize, StoreError> {
        let life = millis(self.limits.lease);
        let args = [self.process.as_bytes(), life.as_bytes()];
        let call = Call::script(&READERS, [READERS_KEY.to_owned()], args);
        self.wire.ask(call).await
    }

    async fn leave_now(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("ZREM");
        command.arg(READERS_KEY).arg(&self.process);
        self.wire.ask::<Value>(Call::Plain(command)).await.map(drop)
    }

    async fn reply_now(
        &self,
        to: &str,
        (id, stream): (MessageId, u16),
        text: String,
    ) -> Result<(), StoreError> {
        let stream = stream.to_string();
        let (life, channel, said) = (millis(self.limits.replies), channel(to), reply_to(id));
        let args = [
            stream.as_bytes(),
            text.as_bytes(),
            life.as_bytes(),
            channel.as_bytes(),
            said.as_bytes(),
        ];
        let call = Call::script(&REPLY, [replies_key(id)], args);
        self.wire.ask::<Value>(call).await.map(drop)
    }

    async fn replies_now(&self, id: MessageId, count: usize, limit: Duration) -> Vec<String> {
        let waiter = self.wakes.waiter(id);
        let end = Instant::now() + limit;
        loop {
            let look = async {
                // In time or not: it is looked at.
                let _ = timeout(LOOK, waiter.replied()).await;
            };
            let late = timeout_at(end, look).await.is_err();
            let wanted = if late { 0 } else { count }.to_string();
            let call = Call::script(&REPLIES, [replies_key(id)], [wanted.as_bytes()]);
            let found: Result<Vec<String>, _> = self.wire.ask(call).await;
            match found {
                Ok(texts) if late || texts.len() >= count => return texts,
                Err(_) if late => return Vec::new(),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Those of one stream: entries, state, owner.
    fn keys(&self, stream: u16) -> [String; 3] {
        let name = &self.name;
        ["entries", "state", "owner"].map(|what| format!("{{{name}/{stream}}}{what}"))
    }

    /// That of the messages that were stored last in one stream.
    fn names_key(&self, stream: u16) -> String {
        format!("{{{}/{stream}}}names", self.name)
    }

    /// What the owner's key holds.
    fn ticket(&self, claim: &Claim) -> String {
        format!("{}/{}", claim.epoch, self.process)
    }
}

impl Queue for RedisQueue {
    fn name(&self) -> &str {
        &self.name
    }

    fn process(&self) -> &str {
        &self.process
    }

    fn streams(&self) -> u16 {
        self.limits.streams
    }

    fn append<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, ()> {
        Box::pin(self.append_now(parts))
    }

    fn readers(&self) -> Answer<'_, usize> {
        Box::pin(self.readers_now())
    }

    fn claim(&self, stream: u16) -> Answer<'_, Option<Claim>> {
        Box::pin(self.claim_now(stream))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> Answer<'a, ()> {
        Box::pin(self.release_now(claim))
    }

    fn leave(&self) -> Answer<'_, ()> {
        Box::pin(self.leave_now())
    }

    fn read<'a>(
        &'a self,
        claim: &'a Claim,
        after: u64,
        max: usize,
    ) -> Answer<'a, Option<Vec<Waiting>>> {
        Box::pin(self.read_now(claim, after, max))
    }

    fn acknowledge<'a>(&'a self, stream: u16, done: &'a [Done]) -> Answer<'a, ()> {
        Box::pin(self.acknowledge_now(stream, done))
    }

    fn woken(&self, stream: u16) -> BoxFuture<'_, ()> {
        Box::pin(self.wakes.woken(stream))
    }

    fn reply<'a>(&'a self, to: &'a str, part: (MessageId, u16), text: String) -> Answer<'a, ()> {
        Box::pin(self.reply_now(to, part, text))
    }

    fn replies(&self, id: MessageId, count: usize, limit: Duration) -> BoxFuture<'_, Vec<String>> {
        Box::pin(self.replies_now(id, count, limit))
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue")
            .field("process", &self.process)
            .field("limits", &self.limits)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

/// The answer of [`READ`]: none if the claim is lost.
struct Entries(Option<Vec<Waiting>>);

impl FromRedisValue for Entries {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let answer: Option<Vec<Bytes>> = redis::from_redis_value(value)?;
        let Some(answer) = answer else {
            return Ok(Self(None));
        };
        let number = |text: &Bytes| {
            let text = std::str::from_utf8(text).ok();
            text.and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| ParsingError::from("a number of an entry is none".to_owned()))
        };
        let [now, entries @ ..] = answer.as_slice() else {
            return Err(ParsingError::from("the time is missing".to_owned()));
        };
        let now = number(now)?;
        let (entries, _) = entries.as_chunks::<2>();
        let waiting = |[at, content]: &[Bytes; 2]| {
            let number = number(at)?;
            Ok(Waiting {
                number,
                age: Duration::from_micros(now.saturating_sub(number)),
                content: content.clone(),
            })
        };
        let waiting = entries
            .iter()
            .map(waiting)
            .collect::<Result<_, ParsingError>>()?;
        Ok(Self(Some(waiting)))
    }
}

fn channel(process: &str) -> String {
    format!("push_wake_{process}")
}

fn replies_key(id: MessageId) -> String {
    format!("push_reply_{id}")
}

/// A span of time as Redis wants it.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}
