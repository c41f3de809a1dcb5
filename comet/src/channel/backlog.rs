//! What waits for one client, in order, of which the head may be partly written.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use common::metrics::{Sizes, sampled};
use protocol::{Frame, MessageId};
use tokio::net::TcpStream;

use super::Limits;
use crate::{clock::Tick, transport::Door};

/// Parts of one vectored write. Linux takes 1024; 64 keep the array at 1 KiB of stack and make the call's own cost small.
const PARTS: usize = 64;

/// Something that waits.
#[derive(Debug)]
pub(super) enum Entry {
    Message(Frame),
    /// Encoded for the door; the second field says how many replies it holds.
    Answer(Box<[u8]>, u32),
    Farewell(Box<[u8]>),
}

/// What waits. Nearly always that is nothing, and then it is one null pointer.
#[derive(Debug, Default)]
pub(super) struct Backlog(Option<Box<Queue>>);

/// Entries that wait; at least one.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of the head that are written.
    written: usize,
    /// Messages that wait, those of a partly written head included.
    messages: usize,
    /// Bytes of messages that wait, a partly written head's included. Answers are bounded by the ring.
    bytes: usize,
    /// When the first of them came, if that is one of those that are timed.
    since: Option<Instant>,
    /// Since when nothing has been taken; none when something was since the last look.
    still_since: Option<Tick>,
}

/// What a round of writes achieved.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) messages: u64,
    pub(super) replies: u32,
    /// Bytes of the answers that hold these.
    pub(super) reply_bytes: usize,
    /// How long something had waited, if nothing does any more and that was timed.
    pub(super) waited: Option<Duration>,
    /// An error other than that the socket is full.
    pub(super) result: io::Result<()>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The messages that wait, those of a partly written head included.
    pub(super) fn messages(&self) -> Vec<MessageId> {
        let entries = self.0.iter().flat_map(|queue| &queue.entries);
        let frames = entries.filter_map(|entry| match entry {
            Entry::Message(frame) => Some(frame),
            Entry::Answer(..) | Entry::Farewell(_) => None,
        });
        let messages = frames.flat_map(|frame| frame.meta().iter().map(|meta| meta.id));
        messages.collect()
    }

    /// Whether another message fits. One always does if no message waits, however large: the buffer exists anyway, shared by
    /// all who get it.
    pub(super) fn has_room(&self, messages: usize, bytes: usize, limits: &Limits) -> bool {
        self.0
            .as_ref()
            .is_none_or(|queue| queue.has_room(messages, bytes, limits))
    }

    /// See [`super::Channel::is_stuck`].
    pub(super) fn is_stuck(&mut self, now: Tick, patience: Tick) -> bool {
        self.0.as_mut().is_some_and(|queue| {
            let since = *queue.still_since.get_or_insert(now);
            now.0.saturating_sub(since.0) >= patience.0
        })
    }

    /// Appends messages of so many bytes, of which `written` are written already; that is only so where nothing else waits.
    pub(super) fn put_message(&mut self, frame: &Frame, bytes: usize, written: usize) {
        let queue = self.queue(written);
        queue.messages += frame.messages();
        queue.bytes += bytes;
        queue.entries.push_back(Entry::Message(frame.clone()));
    }

    /// The same for what is no message, and not bounded here.
    pub(super) fn put(&mut self, entry: Entry, written: usize) {
        debug_assert_eq!(entry.messages(), 0, "messages are counted");
        self.queue(written).entries.push_back(entry);
    }

    /// Drops the oldest messages until the new one fits. Answers and a partly written head stay; if the new one does not fit
    /// beside that head, nothing goes. Returns how many messages went.
    pub(super) fn drop_oldest(
        &mut self,
        messages: usize,
        bytes: usize,
        limits: &Limits,
        door: Door,
    ) -> usize {
        self.change(|queue| queue.drop_oldest((messages, bytes), limits, door))
            .unwrap_or_default()
    }

    /// Drops everything but a partly written head. Returns how many messages went.
    pub(super) fn clear_unwritten(&mut self, door: Door) -> usize {
        self.change(|queue| queue.clear_unwritten(door))
            .unwrap_or_default()
    }

    /// Drops everything. Returns how many messages went.
    pub(super) fn clear(&mut self) -> usize {
        self.0.take().map_or(0, |queue| queue.messages)
    }

    /// Takes everything, of which nothing may be partly written; and how long something had waited, if that was timed.
    pub(super) fn take_all(&mut self) -> (VecDeque<Entry>, Option<Duration>) {
        let queue = self.0.take().unwrap_or_default();
        (queue.entries, queue.since.map(|since| since.elapsed()))
    }

    /// Writes until nothing waits or the socket is full, and counts each write by the messages that it completed.
    pub(super) fn write_to(&mut self, socket: &TcpStream, door: Door, writes: &Sizes) -> Written {
        self.timed(|queue, done| queue.write_to(socket, door, writes, done))
    }

    /// Moves as many of the bytes that wait to `out` as make `most` there.
    pub(super) fn take(&mut self, most: usize, door: Door, out: &mut Vec<u8>) -> Written {
        self.timed(|queue, done| queue.take(most, door, out, done))
    }

    fn queue(&mut self, written: usize) -> &mut Queue {
        debug_assert!(
            written == 0 || self.is_empty(),
            "only a head is partly written"
        );
        self.0.get_or_insert_with(|| {
            Box::new(Queue {
                written,
                since: sampled(),
                ..Queue::default()
            })
        })
    }

    fn timed(&mut self, change: impl FnOnce(&mut Queue, &mut Written)) -> Written {
        let mut done = Written::default();
        let since = self.0.as_ref().and_then(|queue| queue.since);
        self.change(|queue| change(queue, &mut done));
        if let Some(since) = since.filter(|_| self.is_empty()) {
            done.waited = Some(since.elapsed());
        }
        done
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let queue = self.0.as_mut()?;
        let result = change(queue);
        if queue.entries.is_empty() {
            self.0 = None;
        }
        Some(result)
    }
}

impl Default for Written {
    fn default() -> Self {
        Self {
            messages: 0,
            replies: 0,
            reply_bytes: 0,
            waited: None,
            result: Ok(()),
        }
    }
}

impl Queue {
    fn has_room(&self, messages: usize, bytes: usize, limits: &Limits) -> bool {
        fits((self.messages, self.bytes), (messages, bytes), limits)
    }

    fn drop_oldest(&mut self, new: (usize, usize), limits: &Limits, door: Door) -> usize {
        let before = self.messages;
        let head = self.entries.front().filter(|_| self.written > 0);
        let stays = head.map_or((0, 0), |head| (head.messages(), head.message_bytes(door)));
        if !fits(stays, new, limits) {
            return 0;
        }
        let mut at = usize::from(self.written > 0);
        while !self.has_room(new.0, new.1, limits) {
            match self.entries.get(at) {
                None => break,
                Some(Entry::Message(_)) => self.remove(at, door),
                Some(_) => at += 1,
            }
        }
        before - self.messages
    }

    fn clear_unwritten(&mut self, door: Door) -> usize {
        let before = self.messages;
        let keep = usize::from(self.written > 0);
        while self.entries.len() > keep {
            self.remove(keep, door);
        }
        before - self.messages
    }

    fn write_to(&mut self, socket: &TcpStream, door: Door, writes: &Sizes, done: &mut Written) {
        while !self.entries.is_empty() {
            match self.write_once(socket, door) {
                Ok(written) => {
                    let before = done.messages;
                    self.advance(written, door, done);
                    writes.observe_many(done.messages - before, 1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    done.result = Err(error);
                    break;
                }
            }
        }
    }

    fn take(&mut self, most: usize, door: Door, out: &mut Vec<u8>, done: &mut Written) {
        while let Some(head) = self.entries.front() {
            let rest = &head.bytes(door)[self.written..];
            let taken = rest.len().min(most - out.len());
            if taken == 0 {
                break;
            }
            out.extend_from_slice(&rest[..taken]);
            self.advance(taken, door, done);
        }
    }

    fn write_once(&self, socket: &TcpStream, door: Door) -> io::Result<usize> {
        let mut parts = [io::IoSlice::new(&[]); PARTS];
        let mut skip = self.written;
        let mut used = 0;
        for (part, entry) in parts.iter_mut().zip(&self.entries) {
            *part = io::IoSlice::new(&entry.bytes(door)[skip..]);
            skip = 0;
            used += 1;
        }
        socket.try_write_vectored(&parts[..used])
    }

    fn advance(&mut self, written: usize, door: Door, done: &mut Written) {
        self.still_since = None;
        self.written += written;
        while let Some(head) = self.entries.front() {
            let len = head.bytes(door).len();
            if self.written < len {
                return;
            }
            self.written -= len;
            done.messages += head.messages() as u64;
            if let Entry::Answer(_, replies) = head {
                done.replies += replies;
                done.reply_bytes += len;
            }
            self.messages -= head.messages();
            self.bytes -= head.message_bytes(door);
            self.entries.pop_front();
        }
    }

    fn remove(&mut self, at: usize, door: Door) {
        if let Some(entry) = self.entries.remove(at) {
            self.messages -= entry.messages();
            self.bytes -= entry.message_bytes(door);
        }
    }
}

impl Entry {
    fn bytes(&self, door: Door) -> &[u8] {
        match self {
            Self::Message(frame) => door.bytes(frame),
            Self::Answer(bytes, _) | Self::Farewell(bytes) => bytes,
        }
    }

    fn messages(&self) -> usize {
        match self {
            Self::Message(frame) => frame.messages(),
            Self::Answer(..) | Self::Farewell(_) => 0,
        }
    }

    fn message_bytes(&self, door: Door) -> usize {
        match self {
            Self::Message(frame) => door.bytes(frame).len(),
            Self::Answer(..) | Self::Farewell(_) => 0,
        }
    }
}

/// Whether more messages and bytes fit beside those that wait.
fn fits(waiting: (usize, usize), more: (usize, usize), limits: &Limits) -> bool {
    waiting.0 == 0 || (waiting.0 + more.0 <= limits.messages && waiting.1 + more.1 <= limits.bytes)
}
