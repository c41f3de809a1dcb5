//! The task of one session. It outlives the requests that carry it: each comes as a [`Visit`], of which the latest is attached
//! and gets what the channel has; without one, the channel's bounded backlog collects.
//!
//! # Layout
//!
//! - [`Keeper`]: its turns, from the login to the end
//! - `poll`: answering polls; `stream`: writing events

mod poll;
mod stream;

use std::{future::poll_fn, sync::Arc, time::Duration};

use protocol::{Decoded, HEADER_LEN, Header, codec};
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    SessionId, Subscriptions,
    held::Held,
    visit::{Attached, Change, Outcome, Rejection, Reply, Visit},
};
use crate::{
    channel::Taken,
    clock::Tick,
    close::{CloseReason, CloseWhen},
    connection::{
        Answers,
        meter::{Meter, Pause},
        online::{Stop, Talk},
    },
    gate::Presence,
};

/// A session's state.
pub(super) struct Keeper {
    shared: Arc<Subscriptions>,
    id: SessionId,
    talk: Talk,
    meter: Meter,
    /// Until when nothing more is taken of the client: it has sent too much.
    rests_until: Option<Instant>,
    visits: mpsc::Receiver<Visit>,
    held: Held,
    attached: Attached,
    /// Whether the latest request was for a stream, whose client acknowledges only when it comes back.
    is_stream: bool,
    /// Why the channel closes, once it is out of its bucket.
    closing: Option<CloseReason>,
    /// What the client is told then.
    last_words: LastWords,
    /// When what is attached is due, or a closed session is forgotten.
    due: Option<Instant>,
    is_forgotten: bool,
    _counted: (Presence, OwnedSemaphorePermit),
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Subscriptions>,
        id: SessionId,
        talk: Talk,
        visits: mpsc::Receiver<Visit>,
        counted: (Presence, OwnedSemaphorePermit),
    ) -> Self {
        Self {
            shared,
            id,
            talk,
            meter: Meter::default(),
            rests_until: None,
            visits,
            held: Held::default(),
            attached: Attached::Nobody,
            is_stream: false,
            closing: None,
            last_words: LastWords::default(),
            due: None,
            is_forgotten: false,
            _counted: counted,
        }
    }

    /// Serves the session until it is over; `first` is the request that logged in.
    pub(super) async fn run(mut self, first: Visit) {
        self.take(first).await;
        while !self.is_over() {
            self.turn().await;
        }
        self.end();
    }

    async fn turn(&mut self) {
        let channel = Arc::clone(&self.talk.channel);
        let shared = Arc::clone(&self.shared);
        let due = self.due;
        let is_left = self.closing.is_some() && matches!(self.attached, Attached::Nobody);
        tokio::select! {
            biased;
            // The end first: key and room are to be free at once.
            reason = poll_fn(|cx| channel.poll_closing(cx)), if self.closing.is_none() => {
                self.close(reason).await;
            }
            // A new request takes the place of the one that is attached, and tells what has arrived.
            Some(visit) = self.visits.recv() => self.take(visit).await,
            // A client that has gone is not to be given anything.
            change = self.attached.change() => match change {
                Change::Gone => self.on_gone(),
                Change::Free => self.accepted(),
            },
            () = poll_fn(|cx| channel.poll_waiting(cx)), if self.attached.wants() => self.hand_out(),
            // Whoever has not come to hear of the end cannot come any more.
            () = shared.gateway.doors.cancelled(), if is_left => self.is_forgotten = true,
            // Deadlines last: they are seconds.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.on_due(),
        }
    }

    async fn take(&mut self, visit: Visit) {
        match visit {
            Visit::Poll { ack, reply } => {
                if let Some(reply) = self.measured(0, reply) {
                    self.poll(ack, reply);
                }
            }
            Visit::Once { reply } => {
                let hold = self.shared.limits.hold.get();
                self.attach(Attached::Once(reply), hold);
            }
            Visit::Stream { after, reply } => {
                if let Some(reply) = self.measured(0, reply) {
                    self.stream(after, reply);
                }
            }
            Visit::Send {
                header,
                body,
                reply,
            } => self.send(header, &body, reply).await,
        }
    }

    /// Does what the client asks for. The answer comes as all others do.
    async fn send(&mut self, header: Header, body: &[u8], reply: Reply) {
        let channel = Arc::clone(&self.talk.channel);
        if self.closing.is_some() {
            drop(reply.send(Err(Rejection::Over { stay_away: false })));
            return;
        }
        if channel.is_ring_full() {
            drop(reply.send(Err(Rejection::RingFull)));
            return;
        }
        let Some(reply) = self.measured(body.len(), reply) else {
            return;
        };
        self.talk.live();
        let mut answers = Answers::default();
        let done = self.talk.on_proto(header, body, &mut answers);
        answers.send(&channel);
        let done = match done {
            Err(Stop::Inbox(control)) => self.talk.wait_for_bucket(control).await,
            Err(Stop::Close(farewell)) => Err(farewell),
            Ok(()) | Err(Stop::Drained | Stop::RingFull | Stop::Pause(_)) => Ok(()),
        };
        let outcome = match done {
            Ok(()) => Ok(Outcome::Taken),
            Err(farewell) => {
                channel.close(&farewell, CloseWhen::Now);
                Err(Rejection::Closed(farewell))
            }
        };
        // Whoever asked may have gone.
        drop(reply.send(outcome));
    }

    /// Counts a request, with so many bytes of a body; after too many, those of the rest of the second are refused.
    fn measured(&mut self, body: usize, reply: Reply) -> Option<Reply> {
        if self.rests_until.is_some_and(|end| Instant::now() < end) {
            drop(reply.send(Err(Rejection::TooFast)));
            return None;
        }
        let gateway = &self.talk.gateway;
        let now = gateway.channels.clock.now();
        let bytes = HEADER_LEN + body;
        if let Some(Pause { reason, rest }) = self.meter.note(now, 1, bytes, &gateway.limits) {
            gateway.metrics.throttled(reason).inc();
            self.rests_until = Some(Instant::now() + rest);
        }
        Some(reply)
    }

    /// Attaches a request in the place of the one before, until something comes, for so long at most.
    fn attach(&mut self, next: Attached, patience: Duration) {
        let before = std::mem::replace(&mut self.attached, next);
        if let Attached::Poll(older) | Attached::Once(older) = before {
            drop(older.send(Err(Rejection::Superseded)));
        }
        // While a request is there, its connection says whether the client is.
        self.talk.channel.set_silence(Tick(u32::MAX));
        self.talk.live();
        self.due = Some(Instant::now() + patience);
    }

    /// The client of the request that is attached has gone.
    fn on_gone(&mut self) {
        if matches!(self.attached, Attached::Once(_)) {
            self.finish_once();
        } else {
            self.detach();
        }
    }

    /// Nobody is attached any more: from here on the client has to come back in time.
    fn detach(&mut self) {
        self.attached = Attached::Nobody;
        let limits = &self.shared.limits;
        let channel = &self.talk.channel;
        channel.hear(self.talk.gateway.channels.clock.now());
        channel.set_silence(Tick::from(limits.idle.get()));
        self.due = self.closing.map(|_| Instant::now() + limits.idle.get());
    }

    /// The channel closes: out of bucket and logic at once, also where the client is yet to be told.
    async fn close(&mut self, reason: CloseReason) {
        self.talk.leave().await;
        self.closing = Some(reason);
        let shared = &self.shared;
        let patience = match self.attached {
            // So long for its client to come and hear why.
            Attached::Nobody => shared.limits.idle.get(),
            Attached::Poll(_) | Attached::Once(_) => Duration::ZERO,
            Attached::Stream(_) => shared.gateway.protocol.close_timeout.get(),
        };
        self.due = Some(Instant::now() + patience);
        self.end_stream();
    }

    /// Gives what waits to the request that is attached.
    fn hand_out(&mut self) {
        let taken = self.talk.channel.take_all_waiting();
        if let Some(Taken::Farewell(bytes)) = taken.last() {
            self.last_words = LastWords::read(bytes);
        }
        self.held.put(taken);
        match &self.attached {
            Attached::Nobody => {}
            Attached::Poll(_) => self.answer(),
            Attached::Once(_) => self.answer_once(),
            Attached::Stream(_) => self.write(Vec::new()),
        }
    }

    fn on_due(&mut self) {
        match &self.attached {
            Attached::Nobody => self.is_forgotten = true,
            Attached::Poll(_) => self.answer(),
            Attached::Once(_) => self.answer_nothing(),
            Attached::Stream(_) if self.closing.is_some() => {
                self.is_forgotten = true;
                self.detach();
            }
            Attached::Stream(_) => self.beat(),
        }
    }

    /// Notes what the client says that it has got.
    fn acknowledge(&mut self, number: u64) {
        self.delivered(number);
        self.held.forget(number);
    }

    fn delivered(&mut self, number: u64) {
        let messages = self.held.deliver(number);
        self.talk.channel.delivered(&messages);
    }

    /// Whether the client has been sent everything.
    fn is_told(&self) -> bool {
        self.held.is_delivered() && !self.talk.channel.is_waiting()
    }

    /// Whether the session can be forgotten: it is closed, and nobody is to be told any more.
    fn is_over(&self) -> bool {
        let Some(reason) = self.closing else {
            return false;
        };
        if !matches!(self.attached, Attached::Nobody) {
            return false;
        }
        let is_nobody_there = matches!(
            reason,
            CloseReason::PeerClosed | CloseReason::SocketError | CloseReason::HeartbeatTimeout
        );
        // A poll's last answer may have to be repeated; a stream's client that must stay away comes back to hear that.
        let may_come_back = if self.is_stream {
            self.stays_away(reason)
        } else {
            !self.held.is_empty()
        };
        self.is_forgotten || is_nobody_there || self.is_told() && !may_come_back
    }

    /// Whether a client is not to come back by itself.
    fn stays_away(&self, reason: CloseReason) -> bool {
        let by_itself = !matches!(
            reason,
            CloseReason::Replaced { .. } | CloseReason::Kicked | CloseReason::AuthRefused
        );
        !self.last_words.reconnect.unwrap_or(by_itself)
    }

    fn end(mut self) {
        self.shared.forget(self.id);
        self.visits.close();
        let channel = &self.talk.channel;
        channel.lose(&self.held.undelivered());
        channel.finish();
        let reason = self.closing.unwrap_or(CloseReason::Internal);
        tracing::debug!(id = channel.id(), reason = reason.label(), "closed");
        self.shared.gateway.metrics.closes(reason.label()).inc();
    }
}

/// What the last words advise, where they do.
#[derive(Debug, Default, Deserialize)]
struct LastWords {
    reconnect: Option<bool>,
    delay_ms: Option<u64>,
}

impl LastWords {
    /// Reads them from the proto that they are.
    fn read(bytes: &[u8]) -> Self {
        match codec::decode(bytes, usize::MAX) {
            Ok(Decoded::Frame { body, .. }) => serde_json::from_slice(body).unwrap_or_default(),
            // They are our own.
            Ok(Decoded::Incomplete { .. }) | Err(_) => Self::default(),
        }
    }

    /// After what time a client is to come back.
    fn delay(&self) -> Option<Duration> {
        self.delay_ms.map(Duration::from_millis)
    }
}
