//! What waits in a lane, bounded in messages and bytes from the reservation until the end of each message.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{sync::Notify, time::Instant};

use super::report::{Loss, Tally};
use crate::push::{Message, Target};

/// A message on its way to one comet.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) target: Target,
    /// Which part of the message for this comet: from 0.
    pub(super) part: u64,
    pub(super) message: Message,
    /// Its share of the lane's bound.
    pub(super) bytes: usize,
    /// When it came.
    pub(super) since: Instant,
    pub(super) report: Option<Arc<Tally>>,
    /// Its place in the lane; 0 until it is taken off the queue.
    pub(super) number: u64,
}

/// Why a lane takes no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Too much waits already.
    #[error("its lane is full: {messages} messages of {bytes} bytes wait")]
    Full {
        /// Messages that wait.
        messages: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// No call would hold it.
    #[error("a message of {bytes} bytes is over the limit of {max}")]
    TooLarge {
        /// With its keys, in bytes.
        bytes: usize,
        /// In bytes.
        max: usize,
    },
}

/// The queue of one lane.
pub(super) struct Queue {
    max_messages: usize,
    max_bytes: usize,
    state: Mutex<State>,
    arrived: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    /// Reserved, waiting, or taken off and not ended.
    messages: usize,
    bytes: usize,
    closed: Option<Loss>,
}

impl Queue {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages,
            max_bytes,
            state: Mutex::default(),
            arrived: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Takes room for so many messages of so many bytes in all.
    pub(super) fn reserve(&self, messages: usize, bytes: usize) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.messages + messages > self.max_messages || state.bytes + bytes > self.max_bytes {
            return Err(Refused::Full {
                messages: state.messages,
                bytes: state.bytes,
            });
        }
        state.messages += messages;
        state.bytes += bytes;
        Ok(())
    }

    /// Gives room back.
    pub(super) fn free(&self, messages: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.messages -= messages;
        state.bytes -= bytes;
        if state.messages == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Puts in what room was reserved for; a closed queue gives it back with the reason.
    pub(super) fn put(&self, items: Vec<Item>) -> Result<(), (Vec<Item>, Loss)> {
        let mut state = self.state.lock();
        if let Some(why) = state.closed {
            return Err((items, why));
        }
        state.waiting.extend(items);
        self.arrived.notify_one();
        Ok(())
    }

    /// Moves up to `max` of what waits to `taken` and gives each its number.
    pub(super) fn take(
        &self,
        max: usize,
        taken: &mut VecDeque<Item>,
        mut number: impl FnMut() -> u64,
    ) {
        let mut state = self.state.lock();
        let count = max.min(state.waiting.len());
        taken.extend(state.waiting.drain(..count).map(|mut item| {
            item.number = number();
            item
        }));
    }

    /// Takes off what came longer ago than `age`.
    pub(super) fn take_older(&self, age: Duration) -> Vec<Item> {
        let mut state = self.state.lock();
        let is_old = |item: &Item| item.since.elapsed() >= age;
        let count = state.waiting.iter().take_while(|item| is_old(item)).count();
        state.waiting.drain(..count).collect()
    }

    /// Takes nothing more; returns what waits, and the reason that stands.
    pub(super) fn close(&self, why: Loss) {
        self.state.lock().closed.get_or_insert(why);
    }

    /// What waits in a queue that was closed, and why it was.
    pub(super) fn remains(&self) -> (VecDeque<Item>, Loss) {
        let mut state = self.state.lock();
        let why = state.closed.unwrap_or(Loss::LaneClosed);
        (std::mem::take(&mut state.waiting), why)
    }

    /// Waits until something was put in. May return without.
    pub(super) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    /// Waits until something waits.
    pub(super) async fn waiting(&self) {
        while self.state.lock().waiting.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// Waits until nothing is reserved, waits or is under way.
    pub(super) async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.state.lock().messages == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Queue")
            .field("waiting", &state.waiting.len())
            .field("messages", &state.messages)
            .field("bytes", &state.bytes)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
