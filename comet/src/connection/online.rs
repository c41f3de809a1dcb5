//! A connection that has logged in. It is small: it waits for its socket or its channel, and everything that takes time happens
//! elsewhere.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::{Header, op};
use rand::RngExt as _;
use tokio::time::sleep;

use super::{
    Answers, control,
    meter::{Meter, Pause},
    read,
};
use crate::{
    bucket::{Control, Identity, Reply},
    channel::{Channel, Turn},
    clock::Tick,
    close::{CloseReason, CloseWhen, Farewell},
    gate::Presence,
    gateway::Gateway,
    logic::{CallError, Session},
    operation::Upstream,
    push::whitelist,
    session::Request,
    transport::intake::{Event, Intake, Parsing},
    whitelist::Step,
};

/// Bytes of answers that are collected before they are sent, whatever the ring allows.
const ANSWER_BYTES: usize = 16 << 10;

/// All that an idle connection's task holds.
pub(super) struct Online {
    talk: Talk,
    intake: Intake,
    presence: Presence,
    /// Something that the bucket's full inbox has yet to take, or the end of a pause.
    waiting: Option<BoxFuture<'static, Result<(), Farewell>>>,
    meter: Meter,
    /// Whether what is waited for is the end of a pause, in which only reading stops.
    is_pausing: bool,
    /// Whether something is there to parse without reading.
    is_stalled: bool,
}

/// A client's side of the conversation: what it asks, and who answers.
pub(super) struct Talk {
    pub(super) gateway: Arc<Gateway>,
    pub(super) channel: Arc<Channel>,
    pub(super) session: Arc<Session>,
    /// Made with the first message for the application.
    upstream: Option<Upstream>,
}

/// Why the parsing of what came has stopped.
pub(super) enum Stop {
    /// Nothing whole is left.
    Drained,
    /// As many answers are owed as may be.
    RingFull,
    /// The bucket's inbox is full: this has to wait.
    Inbox(Control),
    /// The client has sent too much for a second.
    Pause(Pause),
    /// It is over.
    Close(Farewell),
}

impl Online {
    /// For a connection that is in its bucket.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        channel: Arc<Channel>,
        session: Arc<Session>,
        intake: Intake,
        presence: Presence,
    ) -> Self {
        Self {
            is_stalled: intake.has_rest(),
            intake,
            presence,
            waiting: None,
            meter: Meter::default(),
            is_pausing: false,
            talk: Talk::begin(gateway, channel, session),
        }
    }

    /// Ready when the channel closes, for whatever reason.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(farewell) = ready!(self.poll_farewell(cx)) {
            self.talk.channel.close(&farewell, CloseWhen::Now);
        }
        Poll::Ready(())
    }

    /// Takes the connection out of its bucket and of logic, and says farewell to its client.
    pub(super) async fn end(self) {
        let Self { talk, presence, .. } = self;
        talk.leave().await;
        super::end(&talk.gateway, &talk.channel).await;
        drop(presence);
    }

    /// Serves the client until its channel closes or it is to be closed with a farewell.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Farewell>> {
        loop {
            let waits = !self.poll_waiting(cx)?;
            if waits && !self.is_pausing {
                return Poll::Pending;
            }
            let channel = &self.talk.channel;
            let turn = if waits {
                channel.poll_turn_unread(cx)
            } else {
                channel.poll_turn(cx, self.is_stalled)
            };
            let stop = match ready!(turn) {
                Turn::Close => return Poll::Ready(Ok(())),
                Turn::Write => {
                    // An error closes the channel, which the next turn tells.
                    drop(self.talk.channel.write_waiting());
                    continue;
                }
                Turn::Read => self.take_in()?,
            };
            self.is_stalled = !matches!(stop, Stop::Drained);
            match stop {
                Stop::Drained | Stop::RingFull => {}
                Stop::Inbox(control) => self.waiting = Some(self.talk.wait_for_bucket(control)),
                Stop::Pause(pause) => self.pause(pause),
                Stop::Close(farewell) => return Poll::Ready(Err(farewell)),
            }
        }
    }

    /// Whether nothing has to be waited for before the next read.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Result<bool, Farewell> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(true);
        };
        let Poll::Ready(done) = waiting.as_mut().poll(cx) else {
            return Ok(false);
        };
        self.waiting = None;
        self.is_pausing = false;
        done.map(|()| true)
    }

    /// Stops reading for the rest of the second. This is the only timer that a connection has of its own.
    fn pause(&mut self, Pause { reason, rest }: Pause) {
        self.talk.gateway.metrics.throttled(reason).inc();
        self.is_pausing = true;
        self.waiting = Some(Box::pin(async move {
            sleep(rest).await;
            Ok(())
        }));
    }

    /// Parses what is there, or reads once.
    fn take_in(&mut self) -> Result<Stop, CloseReason> {
        let Self {
            talk,
            intake,
            meter,
            ..
        } = self;
        if self.is_stalled {
            return Ok(intake.feed(&mut [], |parsing| talk.parse(parsing, meter)));
        }
        let (gateway, channel) = (Arc::clone(&talk.gateway), Arc::clone(&talk.channel));
        let parse = |parsing: &mut Parsing<'_>| talk.parse(parsing, meter);
        let stop = read(&gateway, &channel, intake, parse)?;
        Ok(stop.unwrap_or(Stop::Drained))
    }
}

impl Talk {
    /// With a client that is in its bucket.
    pub(super) fn begin(
        gateway: Arc<Gateway>,
        channel: Arc<Channel>,
        session: Arc<Session>,
    ) -> Self {
        gateway.addresses.enter(session.client.ip());
        let renew_at = next_renewal(&gateway);
        session.renew_at.store(renew_at.0, Ordering::Relaxed);
        // The list may have changed since the login, after whoever changed it had looked at this bucket.
        whitelist::tell(&gateway, &session, &channel);
        if gateway.stopping.is_cancelled() {
            // The bucket may have dismissed its connections before this one joined.
            let farewell = gateway.drain.farewell();
            channel.close(&farewell, CloseWhen::AfterQueue);
        }
        Self {
            upstream: None,
            gateway,
            channel,
            session,
        }
    }

    /// Takes the connection out of its bucket and of logic.
    pub(super) async fn leave(&self) {
        let Self {
            gateway,
            channel,
            session,
            ..
        } = self;
        let inbox = &gateway.buckets.of(&session.key).control;
        // A bucket that has ended needs no goodbye.
        drop(inbox.send(Control::Leave(identity(session))).await);
        gateway.addresses.leave(session.client.ip());
        if channel.closing() != Some(CloseReason::Replaced { same_mid: true }) {
            gateway.goodbyes.say(Arc::clone(session));
        }
    }

    /// Notes a sign of life, and tells logic of it from time to time.
    pub(super) fn live(&self) {
        let now = self.gateway.channels.clock.now();
        self.channel.hear(now);
        if now.0 >= self.session.renew_at.load(Ordering::Relaxed) {
            renew(&self.gateway, &self.session);
        }
    }

    /// Takes what came, until nothing whole is left or something has to wait.
    fn parse(&mut self, parsing: &mut Parsing<'_>, meter: &mut Meter) -> Stop {
        let mut answers = Answers::default();
        let stop = loop {
            let event = match parsing.next(&self.gateway.intake) {
                Err(reason) => break Stop::Close(reason.into()),
                Ok(None) => break Stop::Drained,
                Ok(Some(event)) => event,
            };
            match self.on_event(&event, &mut answers) {
                Err(stop) => break stop,
                Ok(()) if self.is_ring_full(&mut answers) => break Stop::RingFull,
                Ok(()) => {}
            }
        };
        answers.send(&self.channel);
        let now = self.gateway.channels.clock.now();
        let pause = meter.note(now, parsing.frames(), parsing.taken(), &self.gateway.limits);
        match (stop, pause) {
            (Stop::Drained | Stop::RingFull, Some(pause)) => Stop::Pause(pause),
            (stop, _) => stop,
        }
    }

    /// Sends the answers when they fill the ring, which empties it again if the client reads.
    fn is_ring_full(&self, answers: &mut Answers) -> bool {
        let ring = self.gateway.channels.limits.ring;
        if answers.count >= ring || answers.bytes.len() >= ANSWER_BYTES {
            answers.send(&self.channel);
        }
        self.channel.is_ring_full()
    }

    fn on_event(&mut self, event: &Event<'_>, answers: &mut Answers) -> Result<(), Stop> {
        match control(event, answers).map_err(Stop::Close)? {
            Some((header, body)) => self.on_proto(header, body, answers),
            None => Ok(()),
        }
    }

    /// Does what the client asks for.
    pub(super) fn on_proto(
        &mut self,
        header: Header,
        body: &[u8],
        answers: &mut Answers,
    ) -> Result<(), Stop> {
        self.gateway.metrics.protos_in(header.op).inc();
        let bytes = body.len();
        self.channel.note(&Step::Read { header, bytes });
        let request = self.gateway.online().on_frame(header, body);
        let reply = |op| Reply {
            header: header.reply(op),
            body: body.into(),
        };
        let request = request.map_err(|reason| Stop::Close(reason.into()))?;
        let what = request.label();
        self.channel.note(&Step::Process { what, header });
        match request {
            Request::Heartbeat => {
                self.heartbeat(header, answers);
                Ok(())
            }
            Request::Unreadable => {
                self.gateway.metrics.ignored("unreadable_operations").inc();
                self.gateway.metrics.protos_out(header.op + 1).inc();
                answers.proto(self.channel.door(), header.reply(header.op + 1), body);
                Ok(())
            }
            Request::Application => {
                self.receive(header, body);
                Ok(())
            }
            Request::ChangeRoom(room) => {
                let reply = reply(op::CHANGE_ROOM_REPLY);
                self.ask_bucket(Control::ChangeRoom(identity(&self.session), room, reply))
            }
            Request::Sub(operations) => {
                let reply = reply(op::SUB_REPLY);
                self.ask_bucket(Control::Sub(identity(&self.session), operations, reply))
            }
            Request::Unsub(operations) => {
                let reply = reply(op::UNSUB_REPLY);
                self.ask_bucket(Control::Unsub(identity(&self.session), operations, reply))
            }
        }
    }

    fn heartbeat(&mut self, header: Header, answers: &mut Answers) {
        self.live();
        let online = i32::try_from(self.channel.room_online()).unwrap_or(i32::MAX);
        let reply = header.reply(op::HEARTBEAT_REPLY);
        self.gateway.metrics.protos_out(reply.op).inc();
        answers.proto(self.channel.door(), reply, &online.to_be_bytes());
    }

    fn receive(&mut self, header: Header, body: &[u8]) {
        self.channel.owe();
        let upstream = self.upstream.get_or_insert_with(|| {
            Upstream::new(
                &self.gateway,
                Arc::clone(&self.channel),
                Arc::clone(&self.session),
            )
        });
        upstream.send(header, Bytes::copy_from_slice(body));
    }

    /// Has the bucket change its maps; it answers the client in the same turn.
    fn ask_bucket(&self, control: Control) -> Result<(), Stop> {
        self.channel.owe();
        let bucket = self.gateway.buckets.of(&self.session.key);
        bucket
            .control
            .try_send(control)
            .map_err(|full| Stop::Inbox(full.into_inner()))
    }

    pub(super) fn wait_for_bucket(
        &self,
        control: Control,
    ) -> BoxFuture<'static, Result<(), Farewell>> {
        let inbox = self.gateway.buckets.of(&self.session.key).control.clone();
        Box::pin(async move {
            let sent = inbox.send(control).await;
            sent.map_err(|_| CloseReason::GoingAway.into())
        })
    }
}

/// Tells logic that a session lives, in the background.
fn renew(gateway: &Gateway, session: &Arc<Session>) {
    let next = next_renewal(gateway);
    session.renew_at.store(next.0, Ordering::Relaxed);
    let (logic, session) = (gateway.logic.clone(), Arc::clone(session));
    tokio::spawn(async move {
        match logic.heartbeat(&session).await {
            Ok(()) | Err(CallError::Superseded) => {}
            Err(CallError::Refused(why) | CallError::Denied(why)) => {
                tracing::warn!(key = %session.key, why, "logic refuses a session's Heartbeat");
            }
            Err(CallError::Unavailable(why)) => {
                tracing::debug!(key = %session.key, why, "a session's Heartbeat is told with the next one");
                // The session's life is not to run out meanwhile.
                session.renew_at.store(0, Ordering::Relaxed);
            }
        }
    });
}

fn identity(session: &Session) -> Identity {
    Identity {
        key: Arc::clone(&session.key),
        id: session.id,
    }
}

/// Sessions are renewed at random times, so that a herd of logins makes no herd of renewals.
fn next_renewal(gateway: &Gateway) -> Tick {
    let config = &gateway.logic_config;
    let (min, max) = (config.heartbeat_min.get(), config.heartbeat_max.get());
    let wait = min + max.saturating_sub(min).mul_f64(rand::rng().random::<f64>());
    let wait = Tick::from(wait.max(Duration::from_millis(100)));
    Tick(gateway.channels.clock.now().0.saturating_add(wait.0))
}
