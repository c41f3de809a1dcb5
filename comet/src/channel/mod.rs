//! A channel is a connection as the rest of comet sees it: somewhere to put frames, answers and a farewell.
//!
//! One short lock guards what waits for the peer, and every byte to the peer goes through it: pushes, answers, pongs, the
//! farewell. While nothing waits, a push is written at once, by whoever pushes; what the socket does not take waits in a
//! bounded backlog, and the connection's task writes it when the socket can take it. Nothing here waits.
//!
//! # Layout
//!
//! - [`Channel`]: the shared object
//! - `backlog`: what waits, and what is partly written
//! - `ring`: the answers that a connection owes
//! - `sealed`: a socket behind TLS, and writing to it
//! - `task`: the side of the connection's own task: its turns, and writing what waits
//! - `noted`: its steps, where its connection is on the whitelist
//! - `woken`: the same for a task that takes what waits, in the place of a socket

mod backlog;
mod noted;
mod ring;
mod sealed;
mod task;
#[cfg(test)]
mod tests;
mod woken;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;
use protocol::{Frame, op};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use self::{
    backlog::{Backlog, Entry},
    ring::Ring,
};
pub use self::{sealed::Sealed, task::Turn, woken::Taken};
use crate::{
    clock::{Clock, Tick},
    close::{CloseReason, CloseWhen, Farewell},
    metrics::Metrics,
    room::Room,
    transport::Door,
    whitelist::{Step, What, Whitelist},
};

/// What a message finds that does not fit into a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FullPolicy {
    /// The message is not taken: goim's way.
    DropNewest,
    /// The oldest messages make room for it.
    DropOldest,
    /// The connection is closed as too slow.
    Disconnect,
}

/// The bounds of every channel.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages that wait.
    pub messages: usize,
    /// Bytes that wait.
    pub bytes: usize,
    /// What happens beyond.
    pub policy: FullPolicy,
    /// Answers owed before the task stops reading.
    pub ring: u32,
}

/// What all channels of a comet share.
#[derive(Debug)]
pub struct ChannelContext {
    /// Bounds.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Coarse time.
    pub clock: Clock,
    /// Whose steps are noted.
    pub whitelist: Arc<Whitelist>,
}

/// Where the bytes go.
#[derive(Debug)]
pub enum Outlet {
    /// A socket that whoever pushes may write to.
    Direct(TcpStream),
    /// A socket behind TLS, to which only the connection's task writes: it takes from the backlog.
    Sealed(Box<Sealed>),
    /// A task takes from the backlog, and hands it on by other means: long-poll, Server-Sent Events.
    Woken,
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The socket has it: to be counted by [`Metrics::written`], together with all that are pushed to at once.
    Written,
    /// It waits in the backlog.
    Queued,
    /// It was not taken: the backlog is full.
    Full,
    /// It was not taken: the connection is closing.
    Closing,
}

/// One connection, shared by its task and its bucket.
#[derive(Debug)]
pub struct Channel {
    /// 0 until the client logs in.
    id: AtomicU64,
    door: Door,
    /// Whether its steps are noted.
    is_noted: AtomicBool,
    outlet: Outlet,
    context: Arc<ChannelContext>,
    /// When the client was last heard, and how long it may be silent.
    heard: AtomicU32,
    silence: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    ring: Ring,
    /// Why the connection closes, once it does.
    closing: Option<CloseReason>,
    waker: Option<Waker>,
    /// The room whose count the client's heartbeats are answered with.
    room: Option<Arc<Room>>,
}

impl Channel {
    /// A channel with nothing waiting, whose client was heard just now; see [`Self::id`] for `id`.
    pub fn new(id: u64, door: Door, outlet: Outlet, context: Arc<ChannelContext>) -> Self {
        let now = context.clock.now();
        Self {
            id: AtomicU64::new(id),
            door,
            is_noted: AtomicBool::new(false),
            outlet,
            heard: AtomicU32::new(now.0),
            silence: AtomicU32::new(u32::MAX),
            state: Mutex::new(State {
                backlog: Backlog::default(),
                ring: Ring::new(context.limits.ring),
                closing: None,
                waker: None,
                room: None,
            }),
            context,
        }
    }

    /// The connection's id, unique within this comet's epoch: of two logins, the later one's is greater. 0 before a login.
    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// Gives the connection its id, when its client asks to log in.
    pub fn identify(&self, id: u64) {
        self.id.store(id, Ordering::Relaxed);
    }

    /// The door it came through.
    pub fn door(&self) -> Door {
        self.door
    }

    /// Takes a frame for the client: to the socket at once where nothing waits before it, else into the backlog.
    pub fn push(&self, frame: &Frame) -> Pushed {
        let mut state = self.state.lock();
        let pushed = self.take(&mut state, frame);
        if self.is_noted() {
            // Under the lock, so that it is noted before whatever becomes of it next.
            self.note_push(frame, pushed);
        }
        pushed
    }

    fn take(&self, state: &mut State, frame: &Frame) -> Pushed {
        if state.closing.is_some() {
            return Pushed::Closing;
        }
        let bytes = self.door.bytes(frame);
        let Ok(written) = self.write_directly(&state.backlog, bytes) else {
            self.fail(state);
            return Pushed::Closing;
        };
        if written == bytes.len() {
            return Pushed::Written;
        }
        if written > 0 {
            self.context.metrics.writes.observe_many(0, 1);
        }
        if !state
            .backlog
            .has_room(frame.messages(), bytes.len(), &self.context.limits)
            && !self.make_room(state, frame.messages(), bytes.len())
        {
            return if state.closing.is_some() {
                Pushed::Closing
            } else {
                Pushed::Full
            };
        }
        state.backlog.put_message(frame, bytes.len(), written);
        state.wake();
        Pushed::Queued
    }

    /// Sends `replies` answers (or pongs) that were not owed before, already encoded for this door. They are not bounded
    /// here: the ring stops the reading that makes them.
    pub fn answer(&self, bytes: &[u8], replies: u32) {
        let mut state = self.state.lock();
        state.ring.owe(replies);
        self.put_answer(&mut state, bytes, replies);
    }

    /// Notes that an answer will come with [`Self::answer_owed`].
    pub fn owe(&self) {
        self.state.lock().ring.owe(1);
    }

    /// Sends one answer that was noted with [`Self::owe`].
    pub fn answer_owed(&self, bytes: &[u8]) {
        self.put_answer(&mut self.state.lock(), bytes, 1);
    }

    /// Whether so many answers are owed that nothing more is read.
    pub fn is_ring_full(&self) -> bool {
        self.state.lock().ring.is_full()
    }

    /// Begins to close the connection; the first reason stands. The farewell has a place beyond the backlog's bounds. Returns
    /// whether this call began it.
    pub fn close(&self, farewell: &Farewell, when: CloseWhen) -> bool {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return false;
        }
        self.begin_close(&mut state, farewell, when);
        true
    }

    /// Why the connection closes, once it does.
    pub fn closing(&self) -> Option<CloseReason> {
        self.state.lock().closing
    }

    /// Notes the room whose count answers the client's heartbeats.
    pub fn set_room(&self, room: Option<Arc<Room>>) {
        self.state.lock().room = room;
    }

    /// How many are online in the client's room; 0 without one.
    pub fn room_online(&self) -> u32 {
        self.state
            .lock()
            .room
            .as_ref()
            .map_or(0, |room| room.online())
    }

    /// Sets how long the client may be silent.
    pub fn set_silence(&self, silence: Tick) {
        self.silence.store(silence.0, Ordering::Relaxed);
    }

    /// Notes a sign of life.
    pub fn hear(&self, now: Tick) {
        self.heard.store(now.0, Ordering::Relaxed);
    }

    /// Whether the client has been silent for too long. While we ourselves do not read because answers are yet to come, its
    /// silence does not count; where it does not take the answers that are there, it does.
    pub fn is_overdue(&self, now: Tick) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        if now.0.saturating_sub(heard) <= self.silence.load(Ordering::Relaxed) {
            return false;
        }
        let state = self.state.lock();
        if state.ring.is_full() && state.backlog.is_empty() {
            self.hear(now);
            return false;
        }
        true
    }

    /// Whether the client has taken nothing of what waits for it for as long as `patience`. To be asked from time to time: the
    /// time counts from the first question that finds nothing taken since the one before. Never so without a socket: whose client
    /// may be between two requests has bounds of its own.
    pub fn is_stuck(&self, now: Tick, patience: Tick) -> bool {
        !matches!(self.outlet, Outlet::Woken) && self.state.lock().backlog.is_stuck(now, patience)
    }

    /// Writes as much as the socket takes at once, if nothing waits before it; returns how many bytes that was. If it was any,
    /// the caller counts a write.
    fn write_directly(&self, backlog: &Backlog, bytes: &[u8]) -> io::Result<usize> {
        let Outlet::Direct(socket) = &self.outlet else {
            return Ok(0);
        };
        if !backlog.is_empty() {
            return Ok(0);
        }
        match socket.try_write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn put_answer(&self, state: &mut State, bytes: &[u8], replies: u32) {
        if state.closing.is_some() {
            return;
        }
        let written = self.write_directly(&state.backlog, bytes);
        if written.as_ref().is_ok_and(|written| *written > 0) {
            self.context.metrics.writes.observe_many(0, 1);
        }
        let answers = What::Answers {
            count: replies,
            bytes: bytes.len(),
        };
        match written {
            Ok(written) if written == bytes.len() => {
                self.note(&Step::Write(answers));
                self.pay(state, replies);
            }
            Ok(written) => {
                self.note(&Step::Queue(answers));
                state
                    .backlog
                    .put(Entry::Answer(bytes.into(), replies), written);
                state.wake();
            }
            Err(_) => self.fail(state),
        }
    }

    /// Notes that answers are written. If that ends a full ring, the task reads again, and what the client sent meanwhile is
    /// yet to be heard.
    fn pay(&self, state: &mut State, replies: u32) {
        if state.ring.pay(replies) {
            self.hear(self.context.clock.now());
            state.wake();
        }
    }

    /// Applies the policy for a full backlog; returns whether there is room now.
    fn make_room(&self, state: &mut State, messages: usize, bytes: usize) -> bool {
        match self.context.limits.policy {
            FullPolicy::DropNewest => false,
            FullPolicy::DropOldest => {
                let limits = &self.context.limits;
                let before = self.waiting(state);
                let lost = state
                    .backlog
                    .drop_oldest(messages, bytes, limits, self.door);
                self.count_lost(lost, "oldest");
                self.note_lost(state, &before, "oldest");
                state.backlog.has_room(messages, bytes, limits)
            }
            FullPolicy::Disconnect => {
                self.begin_close(state, &CloseReason::Slow.into(), CloseWhen::Now);
                false
            }
        }
    }

    fn begin_close(&self, state: &mut State, farewell: &Farewell, when: CloseWhen) {
        let reason = farewell.reason.label();
        state.closing = Some(farewell.reason);
        self.note(&Step::Close { reason });
        if when == CloseWhen::Now {
            let before = self.waiting(state);
            let lost = state.backlog.clear_unwritten(self.door);
            self.count_lost(lost, reason);
            self.note_lost(state, &before, reason);
        }
        let last_words = farewell.encode(self.door);
        if farewell.reason.can_be_told() {
            let told = self.context.metrics.protos_out(op::DISCONNECT_REPLY);
            told.inc();
        }
        if !last_words.is_empty() {
            state.backlog.put(Entry::Farewell(last_words.into()), 0);
        }
        state.wake();
    }

    /// The socket does not work any more: nothing that waits can be delivered.
    fn fail(&self, state: &mut State) {
        let is_first = state.closing.is_none();
        let reason = *state.closing.get_or_insert(CloseReason::SocketError);
        let reason = reason.label();
        if is_first {
            self.note(&Step::Close { reason });
        }
        self.lose_all(state, reason);
        state.wake();
    }

    fn lose_all(&self, state: &mut State, reason: &'static str) {
        let before = self.waiting(state);
        let lost = state.backlog.clear();
        self.count_lost(lost, reason);
        self.note_lost(state, &before, reason);
    }

    fn count_lost(&self, messages: usize, reason: &'static str) {
        if messages > 0 {
            self.context.metrics.lost(reason).inc_by(messages as u64);
        }
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
