//! A queue inside this process. What it holds ends with the process: it is there so that both stores behave alike.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use protocol::MessageId;
use tokio::{sync::Notify, time::timeout};

use super::{Claim, Done, Limits, Part, Queue, Waiting};
use crate::{
    clock::Clock,
    sessions::{Answer, StoreError},
};

/// The queue, as one process sees it. Only tests have several.
pub struct MemoryQueue {
    shared: Arc<Shared>,
    process: String,
}

struct Shared {
    name: String,
    limits: Limits,
    clock: Clock,
    state: Mutex<State>,
    woken: Box<[Notify]>,
    replied: Notify,
}

struct State {
    streams: Vec<Stream>,
    /// Who reads, and until when that is believed.
    readers: HashMap<String, Instant>,
    replies: HashMap<MessageId, Replies>,
}

#[derive(Default)]
struct Stream {
    entries: BTreeMap<u64, Bytes>,
    bytes: usize,
    /// The last number that was given.
    number: u64,
    epoch: u64,
    owner: Option<Owner>,
}

struct Owner {
    process: String,
    until: Instant,
}

struct Replies {
    /// By the stream of the part.
    texts: BTreeMap<u16, String>,
    until: Instant,
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new(limits: Limits, clock: Clock) -> Self {
        let streams = || 0..limits.streams;
        let process = uuid::Uuid::now_v7().simple().to_string();
        let state = State {
            streams: streams().map(|_| Stream::default()).collect(),
            readers: HashMap::new(),
            replies: HashMap::new(),
        };
        let shared = Shared {
            name: format!("push/{process}"),
            limits,
            clock,
            state: Mutex::new(state),
            woken: streams().map(|_| Notify::new()).collect(),
            replied: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            process,
        }
    }

    /// The same queue, as another process would see it if it could.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            process: uuid::Uuid::now_v7().simple().to_string(),
        }
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn append_now(&self, parts: &[Part]) -> Result<(), StoreError> {
        let limits = &self.shared.limits;
        let mut state = self.shared.state.lock();
        let mut added: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        for part in parts {
            let (messages, bytes) = added.entry(part.stream).or_default();
            *messages += 1;
            *bytes += part.content.len();
        }
        for (stream, (messages, bytes)) in added {
            let stream = &state.streams[usize::from(stream)];
            limits.check(stream.entries.len() + messages, stream.bytes + bytes)?;
        }
        for part in parts {
            state.streams[usize::from(part.stream)].append(part.content.clone());
        }
        drop(state);
        for part in parts {
            self.shared.woken[usize::from(part.stream)].notify_one();
        }
        Ok(())
    }

    fn claim_now(&self, number: u16) -> Option<Claim> {
        let now = self.now();
        let until = now + self.shared.limits.lease;
        let mut state = self.shared.state.lock();
        let stream = &mut state.streams[usize::from(number)];
        let mut taken_over = false;
        match &mut stream.owner {
            Some(owner) if owner.until > now && owner.process != self.process => return None,
            Some(owner) if owner.until > now => owner.until = until,
            before => {
                let other = |owner: &Owner| owner.process != self.process;
                taken_over = before.as_ref().is_some_and(other);
                stream.epoch = microseconds_since_1970().max(stream.epoch + 1);
                let process = self.process.clone();
                stream.owner = Some(Owner { process, until });
            }
        }
        let waited = |(number, _): (&u64, &Bytes)| {
            Duration::from_micros(microseconds_since_1970().saturating_sub(*number))
        };
        Some(Claim {
            stream: number,
            epoch: stream.epoch,
            entries: stream.entries.len() as u64,
            age: stream
                .entries
                .first_key_value()
                .map(waited)
                .unwrap_or_default(),
            taken_over,
        })
    }

    fn release_now(&self, claim: &Claim) {
        let mut state = self.shared.state.lock();
        let stream = &mut state.streams[usize::from(claim.stream)];
        if stream.is_of(claim, &self.process, self.now()) {
            stream.owner = None;
        }
    }

    fn read_now(&self, claim: &Claim, after: u64, max: usize) -> Option<Vec<Waiting>> {
        let now = microseconds_since_1970();
        let state = self.shared.state.lock();
        let stream = &state.streams[usize::from(claim.stream)];
        if !stream.is_of(claim, &self.process, self.now()) {
            return None;
        }
        let entries = stream.entries.range(after.saturating_add(1)..).take(max);
        let waiting = entries.map(|(number, content)| Waiting {
            number: *number,
            age: Duration::from_micros(now.saturating_sub(*number)),
            content: content.clone(),
        });
        Some(waiting.collect())
    }

    fn acknowledge_now(&self, stream: u16, done: &[Done]) {
        let mut state = self.shared.state.lock();
        let stream = &mut state.streams[usize::from(stream)];
        for done in done {
            if let Some(content) = stream.entries.remove(&done.number) {
                stream.bytes -= content.len();
            }
        }
    }

    fn readers_now(&self) -> usize {
        let now = self.now();
        let mut state = self.shared.state.lock();
        let until = now + self.shared.limits.lease;
        state.readers.insert(self.process.clone(), until);
        state.readers.retain(|_, until| *until > now);
        state.readers.len()
    }

    fn reply_now(&self, (id, stream): (MessageId, u16), text: String) {
        let now = self.now();
        let until = now + self.shared.limits.replies;
        let mut state = self.shared.state.lock();
        state.replies.retain(|_, replies| replies.until > now);
        let replies = state.replies.entry(id).or_insert_with(|| Replies {
            texts: BTreeMap::new(),
            until,
        });
        replies.texts.insert(stream, text);
        drop(state);
        self.shared.replied.notify_waiters();
    }

    async fn until_replied(&self, id: MessageId, count: usize) {
        loop {
            let replied = self.shared.replied.notified();
            let has = |replies: &Replies| replies.texts.len() >= count;
            if self.shared.state.lock().replies.get(&id).is_some_and(has) {
                return;
            }
            replied.await;
        }
    }
}

impl Queue for MemoryQueue {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn process(&self) -> &str {
        &self.process
    }

    fn streams(&self) -> u16 {
        self.shared.limits.streams
    }

    fn append<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, ()> {
        Box::pin(ready(self.append_now(parts)))
    }

    fn readers(&self) -> Answer<'_, usize> {
        Box::pin(ready(Ok(self.readers_now())))
    }

    fn claim(&self, stream: u16) -> Answer<'_, Option<Claim>> {
        Box::pin(ready(Ok(self.claim_now(stream))))
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> Answer<'a, ()> {
        self.release_now(claim);
        Box::pin(ready(Ok(())))
    }

    fn leave(&self) -> Answer<'_, ()> {
        self.shared.state.lock().readers.remove(&self.process);
        Box::pin(ready(Ok(())))
    }

    fn read<'a>(
        &'a self,
        claim: &'a Claim,
        after: u64,
        max: usize,
    ) -> Answer<'a, Option<Vec<Waiting>>> {
        Box::pin(ready(Ok(self.read_now(claim, after, max))))
    }

    fn acknowledge<'a>(&'a self, stream: u16, done: &'a [Done]) -> Answer<'a, ()> {
        self.acknowledge_now(stream, done);
        Box::pin(ready(Ok(())))
    }

    fn woken(&self, stream: u16) -> BoxFuture<'_, ()> {
        Box::pin(self.shared.woken[usize::from(stream)].notified())
    }

    fn reply<'a>(&'a self, _: &'a str, part: (MessageId, u16), text: String) -> Answer<'a, ()> {
        self.reply_now(part, text);
        Box::pin(ready(Ok(())))
    }

    fn replies(&self, id: MessageId, count: usize, limit: Duration) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            // Whether in time or not: what is there is the answer.
            let _ = timeout(limit, self.until_replied(id, count)).await;
            let replies = self.shared.state.lock().replies.remove(&id);
            replies.map_or_else(Vec::new, |replies| replies.texts.into_values().collect())
        })
    }
}

impl Stream {
    fn append(&mut self, content: Bytes) {
        self.number = microseconds_since_1970().max(self.number + 1);
        self.bytes += content.len();
        self.entries.insert(self.number, content);
    }

    fn is_of(&self, claim: &Claim, process: &str, now: Instant) -> bool {
        let held = |owner: &Owner| owner.process == process && owner.until > now;
        self.epoch == claim.epoch && self.owner.as_ref().is_some_and(held)
    }
}

impl Limits {
    /// Whether a stream may hold so much.
    pub(super) fn check(&self, messages: usize, bytes: usize) -> Result<(), StoreError> {
        if messages > self.messages {
            return Err(self.too_many_messages());
        }
        if bytes > self.bytes {
            return Err(self.too_many_bytes());
        }
        Ok(())
    }

    pub(super) fn too_many_messages(&self) -> StoreError {
        StoreError::Full {
            what: "pushes in a stream",
            max: self.messages,
        }
    }

    pub(super) fn too_many_bytes(&self) -> StoreError {
        StoreError::Full {
            what: "bytes of pushes in a stream",
            max: self.bytes,
        }
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("name", &self.shared.name)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

fn microseconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::contract::{self, LIMITS, Subject};

    struct Subjected {
        one: MemoryQueue,
        other: MemoryQueue,
        ahead: Arc<Mutex<Duration>>,
    }

    impl Subjected {
        fn new() -> Self {
            let ahead = Arc::new(Mutex::new(Duration::ZERO));
            let (start, hand) = (Instant::now(), Arc::clone(&ahead));
            let one = MemoryQueue::new(LIMITS, Clock::new(move || start + *hand.lock()));
            let other = one.beside();
            Self { one, other, ahead }
        }
    }

    impl Subject for Subjected {
        fn queues(&self) -> [&dyn Queue; 2] {
            [&self.one, &self.other]
        }

        fn pass(&self, time: Duration) {
            *self.ahead.lock() += time;
        }
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::check(Subjected::new).await;
    }
}
