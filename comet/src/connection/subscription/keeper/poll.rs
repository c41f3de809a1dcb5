//! Answering polls: with all that came, until the next poll says that it has arrived; goim 1's with one proto.

use std::{mem, sync::Arc};

use protocol::op;

use super::Keeper;
use crate::{
    close::{CloseReason, CloseWhen},
    connection::subscription::{
        held::Numbered,
        visit::{Answer, Attached, Outcome, Rejection, Reply},
    },
};

impl Keeper {
    pub(super) fn poll(&mut self, ack: u64, reply: Reply) {
        if ack > self.held.last() {
            drop(reply.send(Err(Rejection::BadAck)));
            return;
        }
        self.acknowledge(ack);
        self.is_stream = false;
        self.attach(Attached::Poll(reply), self.shared.limits.hold.get());
        // It has the last words: there is nothing more to wait for.
        self.is_forgotten =
            self.closing.is_some() && self.held.is_empty() && !self.talk.channel.is_waiting();
        if self.is_forgotten || !self.held.is_empty() {
            // What is held is an answer that has not arrived: it is repeated.
            self.answer();
        }
    }

    /// Answers a poll with all that is held.
    pub(super) fn answer(&mut self) {
        let attached = mem::replace(&mut self.attached, Attached::Nobody);
        let Attached::Poll(reply) = attached else {
            self.attached = attached;
            return;
        };
        let session = &self.talk.session;
        let answer = Answer {
            id: self.id,
            key: Arc::clone(&session.key),
            mid: session.mid,
            parcel: self.held.after(0),
            last: self.held.last(),
            online: self.talk.channel.room_online(),
        };
        if reply.send(Ok(Outcome::Answer(answer))).is_ok() {
            self.delivered(self.held.last());
        }
        self.detach();
    }

    /// Answers goim 1's poll with the first proto that is no answer, which ends the session.
    pub(super) fn answer_once(&mut self) {
        let parcel = self.held.after(0);
        let is_last = |proto: &Numbered<'_>| proto.header.op == op::DISCONNECT_REPLY;
        let mut protos = parcel.protos();
        let Some(first) = protos.find(|proto| proto.id.is_some() || is_last(proto)) else {
            self.acknowledge(self.held.last());
            return;
        };
        let number = first.number;
        let one = Outcome::One(Some((first.header, first.body.to_vec())));
        let attached = mem::replace(&mut self.attached, Attached::Nobody);
        if let Attached::Once(reply) = attached
            && reply.send(Ok(one)).is_ok()
        {
            self.delivered(number);
        }
        self.finish_once();
    }

    /// goim 1's clients cannot come back to a session.
    pub(super) fn finish_once(&mut self) {
        let closed = CloseReason::PeerClosed.into();
        self.talk.channel.close(&closed, CloseWhen::Now);
        self.is_forgotten = true;
        self.detach();
    }

    /// Answers goim 1's poll in whose time nothing came.
    pub(super) fn answer_nothing(&mut self) {
        if let Attached::Once(reply) = mem::replace(&mut self.attached, Attached::Nobody) {
            drop(reply.send(Ok(Outcome::One(None))));
        }
        self.finish_once();
    }
}
