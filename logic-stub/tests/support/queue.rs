//! A queue in this process that fails, and does not answer, when a test tells it to.

use std::{
    future::pending,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use logic_stub::{
    queue::{Claim, Done, MemoryQueue, Part, Queue, Waiting},
    sessions::{Answer, StoreError},
};
use protocol::MessageId;

/// The queue.
pub struct Faulty {
    pub queue: MemoryQueue,
    /// Whether claims of all streams but the first are not answered.
    pub silent: AtomicBool,
    /// Those that were not.
    pub unanswered: AtomicUsize,
    /// Claims of the first stream.
    pub first: AtomicUsize,
    /// Whether nothing can be read.
    pub unreadable: AtomicBool,
}

impl Faulty {
    /// Without faults yet.
    pub fn new(queue: MemoryQueue) -> Self {
        Self {
            queue,
            silent: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            unreadable: AtomicBool::new(false),
        }
    }
}

impl Queue for Faulty {
    fn name(&self) -> &str {
        self.queue.name()
    }

    fn process(&self) -> &str {
        self.queue.process()
    }

    fn streams(&self) -> u16 {
        self.queue.streams()
    }

    fn append<'a>(&'a self, parts: &'a [Part]) -> Answer<'a, ()> {
        self.queue.append(parts)
    }

    fn readers(&self) -> Answer<'_, usize> {
        self.queue.readers()
    }

    fn claim(&self, stream: u16) -> Answer<'_, Option<Claim>> {
        Box::pin(async move {
            if stream == 0 {
                self.first.fetch_add(1, Ordering::Relaxed);
            } else if self.silent.load(Ordering::Relaxed) {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                return pending().await;
            }
            self.queue.claim(stream).await
        })
    }

    fn release<'a>(&'a self, claim: &'a Claim) -> Answer<'a, ()> {
        self.queue.release(claim)
    }

    fn leave(&self) -> Answer<'_, ()> {
        self.queue.leave()
    }

    fn read<'a>(
        &'a self,
        claim: &'a Claim,
        after: u64,
        max: usize,
    ) -> Answer<'a, Option<Vec<Waiting>>> {
        if self.unreadable.load(Ordering::Relaxed) {
            let refused = StoreError::Refused("no permission".to_owned());
            return Box::pin(async { Err(refused) });
        }
        self.queue.read(claim, after, max)
    }

    fn acknowledge<'a>(&'a self, stream: u16, done: &'a [Done]) -> Answer<'a, ()> {
        self.queue.acknowledge(stream, done)
    }

    fn woken(&self, stream: u16) -> BoxFuture<'_, ()> {
        self.queue.woken(stream)
    }

    fn reply<'a>(&'a self, to: &'a str, part: (MessageId, u16), text: String) -> Answer<'a, ()> {
        self.queue.reply(to, part, text)
    }

    fn replies(&self, id: MessageId, count: usize, limit: Duration) -> BoxFuture<'_, Vec<String>> {
        self.queue.replies(id, count, limit)
    }
}
