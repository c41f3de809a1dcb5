//! Writing events, chunk by chunk: the next one is made when the HTTP connection has taken the last.

use protocol::{op, query::Place};
use tokio::{sync::mpsc, time::Instant};

use super::Keeper;
use crate::{
    connection::subscription::visit::{Attached, Outcome, Rejection, Reply, Stream},
    transport::http::subscribe::{
        event::{self, Opening},
        json::Message,
    },
};

impl Keeper {
    pub(super) fn stream(&mut self, after: u64, reply: Reply) {
        if after > self.held.last() {
            drop(reply.send(Err(Rejection::BadAck)));
            return;
        }
        if self.is_told() && self.closing.is_some() {
            let stay_away = self.closing.is_some_and(|reason| self.stays_away(reason));
            drop(reply.send(Err(Rejection::Over { stay_away })));
            return;
        }
        let resumed = self.held.last() > 0;
        let missed = self.held.missed(after);
        self.count_resumed(resumed, missed);
        self.acknowledge(after);
        self.is_stream = true;
        let mut chunk = Vec::new();
        self.put_opening(after, resumed, missed, &mut chunk);
        let (sink, events) = mpsc::channel(1);
        let stream = Stream {
            sink,
            is_free: true,
            sent: after,
        };
        self.attach(Attached::Stream(stream), self.shared.limits.heartbeat.get());
        drop(reply.send(Ok(Outcome::Stream(events))));
        self.write(chunk);
    }

    /// Sends a stream all that it has not got, behind what is given.
    pub(super) fn write(&mut self, mut chunk: Vec<u8>) {
        let Attached::Stream(stream) = &mut self.attached else {
            return;
        };
        let session = self.id.to_string();
        for proto in self.held.after(stream.sent).protos() {
            let place = Place {
                session: &session,
                number: proto.number,
            };
            let message = Message::new(proto.header, proto.body, proto.id);
            let delay = self.last_words.delay();
            if let Some(delay) = delay.filter(|_| proto.header.op == op::DISCONNECT_REPLY) {
                // Browsers come back by themselves: at the time that is advised.
                event::put_retry(delay, &mut chunk);
            }
            event::put_message(place, proto.id, &message, &mut chunk);
        }
        stream.sent = self.held.last();
        stream.is_free = false;
        // There is room, unless the client has gone, which the next turn finds.
        drop(stream.sink.try_send(chunk.into()));
    }

    /// The writer has accepted the last chunk of a stream.
    pub(super) fn accepted(&mut self) {
        let Attached::Stream(stream) = &mut self.attached else {
            return;
        };
        stream.is_free = true;
        let sent = stream.sent;
        self.delivered(sent);
        let limits = &self.shared.limits;
        self.held.trim(limits.replay, limits.replay_bytes);
        self.end_stream();
    }

    /// Ends a stream whose client has been told everything.
    pub(super) fn end_stream(&mut self) {
        if self.closing.is_some()
            && self.is_told()
            && matches!(&self.attached, Attached::Stream(stream) if stream.is_free)
        {
            self.detach();
        }
    }

    /// Sends a sign of life.
    pub(super) fn beat(&mut self) {
        self.due = Some(Instant::now() + self.shared.limits.heartbeat.get());
        // A client that takes nothing is not alive by what it is sent.
        if self.attached.wants() {
            self.talk.live();
            let mut chunk = Vec::new();
            event::put_heartbeat(self.talk.channel.room_online(), &mut chunk);
            self.write(chunk);
        }
    }

    fn put_opening(&self, after: u64, resumed: bool, missed: u64, chunk: &mut Vec<u8>) {
        let limits = &self.shared.limits;
        let session = self.id.to_string();
        let place = Place {
            session: &session,
            number: after,
        };
        let heartbeat = limits.heartbeat.get().as_millis();
        let opening = Opening {
            session: session.clone(),
            key: &self.talk.session.key,
            mid: self.talk.session.mid,
            heartbeat: u64::try_from(heartbeat).unwrap_or(u64::MAX),
            resumed,
            missed,
        };
        event::put_opening(place, limits.retry.get(), &opening, chunk);
    }

    fn count_resumed(&self, resumed: bool, missed: u64) {
        if resumed {
            let metrics = &self.shared.gateway.metrics;
            metrics
                .resumed(if missed > 0 { "gap" } else { "whole" })
                .inc();
            metrics.missed.inc_by(missed);
        }
    }
}
