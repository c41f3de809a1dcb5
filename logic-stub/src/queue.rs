//! Between the answer to a pusher and the lanes: streams in which a push waits until the comets have answered.
//!
//! A stream is read by one process at a time. Its claim has an epoch, which grows with each change of hands, and each entry has
//! a number, which grows from entry to entry. Both travel to the comets, which take nothing twice and nothing of an older epoch:
//! so whoever takes a stream over may begin at its oldest entry.
//!
//! # Layout
//!
//! - [`Queue`]: the trait; [`memory`]: inside this process; [`redis`]: in Redis Streams
//! - [`entry`]: a push as it is stored, and the stream that it belongs to
//! - [`Stored`]: what the push API sees
//! - `readers`: which streams this process reads; `reader`: one of them; `finder`: who gets what is read; `troubles`: what fails
//! - `contract`: the test that every implementation passes

#[cfg(test)]
pub(crate) mod contract;
pub mod entry;
mod finder;
pub mod memory;
mod reader;
mod readers;
pub mod redis;
mod stored;
mod troubles;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::MessageId;

pub use self::{memory::MemoryQueue, readers::Readers, redis::RedisQueue, stored::Stored};
use crate::sessions::Answer;

/// Streams of pushes, as one process sees them. Shared by all calls; every method may be called at any time from any task.
pub trait Queue: Send + Sync + 'static {
    /// Names the whole in positions.
    fn name(&self) -> &str;

    /// Names this process among those that use the queue.
    fn process(&self) -> &str;

    /// How many streams there are, numbered from 0.
    fn streams(&self) -> u16;

    /// Stores the parts of one push, one for each stream at most, each behind all that its stream has. A stream without room refuses, and
    /// nothing is stored, as far as the store can change the streams in one step. What a store has not done when it is given up is
    /// not done later, and what the way to it repeats is not done twice.
    fn append<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, ()>;

    /// Says that this process reads streams, and answers how many processes have said so within the life of a claim.
    fn readers(&self) -> Answer<'_, usize>;

    /// Takes the stream, or renews the claim if this process has it; none if another one has it.
    fn claim(&self, stream: u16) -> Answer<'_, Option<Claim>>;

    /// Gives a claim back before its end.
    fn release<'a>(&'a self, claim: &'a Claim) -> Answer<'a, ()>;

    /// Says that this process reads no streams any more.
    fn leave(&self) -> Answer<'_, ()>;

    /// The oldest entries with numbers above `after`, at most `max`; none if the claim is no longer the stream's.
    fn read<'a>(
        &'a self,
        claim: &'a Claim,
        after: u64,
        max: usize,
    ) -> Answer<'a, Option<Vec<Waiting>>>;

    /// Deletes entries. Whoever has the claim: what the comets have answered is done.
    fn acknowledge<'a>(&'a self, stream: u16, done: &'a [Done]) -> Answer<'a, ()>;

    /// Waits until the stream may have something new. Returns at once if it may have had since the last call.
    fn woken(&self, stream: u16) -> BoxFuture<'_, ()>;

    /// Tells the process `to`, which may wait for it, what became of the part of a message that a stream had. The last word counts.
    fn reply<'a>(&'a self, to: &'a str, part: (MessageId, u16), text: String) -> Answer<'a, ()>;

    /// What was told of a message: so many replies, or those that came within `limit`.
    fn replies(&self, id: MessageId, count: usize, limit: Duration) -> BoxFuture<'_, Vec<String>>;
}

/// Something to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which stream it belongs to.
    pub stream: u16,
    /// The message's name.
    pub id: MessageId,
    /// What is stored: see [`entry::Entry::encode`].
    pub content: Bytes,
}

/// The right to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Of which stream.
    pub stream: u16,
    /// Grows with each change of hands.
    pub epoch: u64,
    /// Entries that the stream held.
    pub entries: u64,
    /// How long the oldest of them had waited; zero if there was none.
    pub age: Duration,
    /// Whether it was taken from another process that had not given it back.
    pub taken_over: bool,
}

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place; microseconds since 1970, about.
    pub number: u64,
    /// How long it has waited.
    pub age: Duration,
    /// What was stored.
    pub content: Bytes,
}

/// An entry that is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Its place.
    pub number: u64,
    /// Bytes of its content.
    pub bytes: usize,
}

/// How much a queue holds and how long claims live.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The number of streams.
    pub streams: u16,
    /// Entries in one stream.
    pub messages: usize,
    /// Bytes in one stream.
    pub bytes: usize,
    /// Life of a claim that is not renewed.
    pub lease: Duration,
    /// How long a reply is kept for whoever waits.
    pub replies: Duration,
    /// Replicas of Redis that must have an entry before its push is answered. A store in this process has none.
    pub replicas: usize,
}
