//! The loop of a bucket.
//!
//! - `parting`: connections that have to go

mod parting;

use std::{collections::VecDeque, sync::Arc};

use protocol::{Frame, RoomId, op};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{
    BucketContext, Control, Fanout, Identity, Join, PacedSlice, Reply, Single,
    fanout::{self, JoinLimits, Joined, Keyed, Running},
    members::{Inserted, Members},
    tally::Counts,
};
use crate::{
    channel::Channel,
    clock::Tick,
    close::{CloseReason, CloseWhen},
};

/// Logins, goodbyes and the like that are taken in one turn. They are short: 64 take no longer than a slice.
const BATCH: usize = 64;

/// Pushes to many that are looked at together, to be joined.
const JOIN_BATCH: usize = 1024;

/// A bucket: its maps and its work.
#[derive(Debug)]
pub(super) struct Actor {
    context: BucketContext,
    members: Members,
    /// Connections that are pushed to in one turn: by key, and as many again by fan-outs.
    slice: usize,
    limits: JoinLimits,
    keyed: Option<Keyed>,
    running: Option<Running>,
    waiting: VecDeque<Joined>,
    next_sweep: Instant,
    /// When to look next for clients that take nothing: four times in as long as they may.
    next_look: Tick,
}

/// Where a bucket's work comes from.
#[derive(Debug)]
pub(crate) struct Inboxes {
    pub(super) control: mpsc::Receiver<Control>,
    pub(crate) singles: mpsc::Receiver<Single>,
    pub(crate) fanouts: mpsc::Receiver<Fanout>,
}

impl Actor {
    pub(super) fn new(
        index: usize,
        context: BucketContext,
        slice: usize,
        limits: JoinLimits,
    ) -> Self {
        let members = Members::new(index, Arc::clone(&context.rooms));
        let next_sweep = Instant::now() + context.sweep;
        Self {
            context,
            members,
            slice,
            limits,
            keyed: None,
            running: None,
            waiting: VecDeque::new(),
            next_sweep,
            next_look: Tick(0),
        }
    }

    /// Works until all handles of the bucket are gone.
    pub(super) async fn run(mut self, mut inboxes: Inboxes) {
        while self.wait(&mut inboxes).await {
            while self.turn(&mut inboxes) {
                // Everybody else on this thread goes first: the connections that were written to, for example.
                yield_now().await;
            }
        }
    }

    /// Waits until there is something to do, and begins it; returns whether there ever will be.
    async fn wait(&mut self, inboxes: &mut Inboxes) -> bool {
        let Inboxes {
            control,
            singles,
            fanouts,
        } = inboxes;
        tokio::select! {
            biased;
            // Logins and goodbyes first; their inbox tells the end, too.
            first = control.recv() => {
                let Some(first) = first else {
                    return false;
                };
                self.control(first);
            }
            // Then single pushes, which must not wait behind a room of thousands.
            Some(single) = singles.recv() => self.begin_single(single),
            Some(first) = fanouts.recv() => self.begin_fanouts(first, fanouts),
            // Deadlines last: they are minutes.
            () = sleep_until(self.next_sweep) => {}
        }
        true
    }

    /// Does a bounded share of each kind of work, so that no kind can starve another; returns whether some may be left.
    fn turn(&mut self, inboxes: &mut Inboxes) -> bool {
        let controls = self.take_controls(&mut inboxes.control);
        let is_keyed_left = self.serve_singles(&mut inboxes.singles);
        let is_fanout_left = self.serve_fanouts(&mut inboxes.fanouts);
        let now = Instant::now();
        if now >= self.next_sweep {
            self.next_sweep = now + self.context.sweep;
            self.sweep();
        }
        controls == BATCH || is_keyed_left || is_fanout_left
    }

    fn take_controls(&mut self, inbox: &mut mpsc::Receiver<Control>) -> usize {
        let mut taken = 0;
        while taken < BATCH
            && let Ok(control) = inbox.try_recv()
        {
            self.control(control);
            taken += 1;
        }
        taken
    }

    /// Serves pushes to few, in their order, to `slice` connections; returns whether some may be left.
    fn serve_singles(&mut self, inbox: &mut mpsc::Receiver<Single>) -> bool {
        let mut budget = self.slice;
        while budget > 0 {
            if let Some(keyed) = &mut self.keyed {
                budget = budget.saturating_sub(keyed.serve(&self.members, budget).max(1));
                if let Some(finished) = self.keyed.take_if(|keyed| keyed.is_done()) {
                    self.count(finished.counts(), finished.frame());
                    finished.finish(&self.context.metrics);
                }
                continue;
            }
            let Ok(single) = inbox.try_recv() else {
                return false;
            };
            self.begin_single(single);
            budget -= 1;
        }
        true
    }

    fn begin_single(&mut self, single: Single) {
        match single {
            Single::Keys {
                keys,
                op,
                frame,
                part,
            } => self.keyed = Some(Keyed::new(keys, op, frame, part)),
            Single::Some { slice, next } => {
                let served = self.serve_paced(&slice);
                // The broadcast may have been given up.
                let _ = next.send(served);
            }
        }
    }

    fn serve_paced(&mut self, slice: &PacedSlice) -> (Counts, Option<usize>) {
        let mut counts = Counts::default();
        let at = self
            .members
            .serve_all(slice.from, slice.count, u64::MAX, |member| {
                counts.push_if_accepted(member, slice.op, &slice.frame);
            });
        self.count(&counts, &slice.frame);
        (counts, at)
    }

    /// Serves pushes to many, one after the other, to `slice` connections; returns whether some may be left.
    fn serve_fanouts(&mut self, inbox: &mut mpsc::Receiver<Fanout>) -> bool {
        let mut budget = self.slice;
        while budget > 0 {
            if let Some(running) = &mut self.running {
                let (served, is_done) = running.serve(&mut self.members, budget);
                budget = budget.saturating_sub(served.max(1));
                if is_done && let Some(finished) = self.running.take() {
                    self.count(finished.counts(), finished.frame());
                    finished.finish(&self.context.metrics);
                    self.begin_next();
                }
                continue;
            }
            // The longer the last ones took, the more is joined.
            let Ok(first) = inbox.try_recv() else {
                return false;
            };
            self.begin_fanouts(first, inbox);
        }
        true
    }

    fn begin_fanouts(&mut self, first: Fanout, inbox: &mut mpsc::Receiver<Fanout>) {
        let mut many = vec![first];
        while many.len() < JOIN_BATCH
            && let Ok(next) = inbox.try_recv()
        {
            many.push(next);
        }
        self.waiting = fanout::join(many, &self.limits);
        self.begin_next();
    }

    fn begin_next(&mut self) {
        let next = self.waiting.pop_front();
        self.running = next.map(|joined| Running::begin(joined, &mut self.members));
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Join(join) => self.join(*join),
            Control::Leave(Identity { key, id }) => drop(self.members.remove(&key, id)),
            Control::ChangeRoom(identity, room, reply) => {
                self.change_room(&identity, room.as_ref(), &reply);
            }
            Control::Sub(identity, operations, reply) => self.sub(&identity, &operations, &reply),
            Control::Unsub(Identity { key, id }, operations, reply) => {
                self.members.change_accepts(&key, id, |accepts| {
                    accepts
                        .iter()
                        .copied()
                        .filter(|op| !operations.contains(op))
                        .collect()
                });
                self.reply(&key, id, &reply);
            }
            Control::Kick(whom, farewell, kicked) => {
                let outcome = self.kick(whom, &farewell);
                // Whoever asked may have gone.
                let _ = kicked.send(outcome);
            }
            Control::List(from, count, listed) => {
                let mut some = Vec::new();
                let next = self.members.serve_all(from, count, u64::MAX, |member| {
                    some.push((Arc::clone(&member.session), Arc::clone(&member.channel)));
                });
                // Whoever asked may have given up.
                let _ = listed.send((some, next));
            }
            Control::Dismiss(from, count, farewell, dismissed) => {
                let outcome = self.dismiss(from, count, &farewell);
                // Whoever asked may have given up.
                let _ = dismissed.send(outcome);
            }
        }
    }

    fn join(&mut self, join: Join) {
        let Join {
            session,
            channel,
            room,
            accepts,
            auth,
            joined,
        } = join;
        let inserted = self
            .members
            .insert(Arc::clone(&session), Arc::clone(&channel), accepts);
        match inserted {
            Inserted::First => {}
            Inserted::Replacing(earlier) => {
                let same_mid = earlier.session.mid == session.mid;
                let farewell = CloseReason::Replaced { same_mid }.into();
                earlier.channel.close(&farewell, CloseWhen::Now);
            }
            Inserted::TooLate { same_mid } => {
                let farewell = CloseReason::Replaced { same_mid }.into();
                channel.close(&farewell, CloseWhen::Now);
                let _ = joined.send(());
                return;
            }
        }
        if let Some(room) = &room {
            if !self.context.rooms.may_enter(room) {
                channel.close(&CloseReason::TooManyRooms.into(), CloseWhen::Now);
                let _ = joined.send(());
                return;
            }
            self.members
                .change_room(&session.key, channel.id(), Some(room));
        }
        self.context.metrics.logins(channel.door()).inc();
        let reply = Reply {
            header: auth.reply(op::AUTH_REPLY),
            body: Box::default(),
        };
        self.answer(&channel, &reply);
        // The connection waits for it.
        let _ = joined.send(());
    }

    fn change_room(&mut self, identity: &Identity, room: Option<&RoomId>, reply: &Reply) {
        let Identity { key, id } = identity;
        if room.is_some_and(|room| !self.context.rooms.may_enter(room)) {
            if let Some(member) = self.members.find_connection(key, *id) {
                let farewell = CloseReason::TooManyRooms.into();
                member.channel.close(&farewell, CloseWhen::Now);
            }
        } else if self.members.change_room(key, *id, room) {
            self.reply(key, *id, reply);
        }
    }

    fn sub(&mut self, identity: &Identity, operations: &[i32], reply: &Reply) {
        let max = self.context.max_accepts;
        let mut too_many = false;
        let member = self
            .members
            .change_accepts(&identity.key, identity.id, |accepts| {
                let mut all: Vec<i32> = accepts.iter().chain(operations).copied().collect();
                all.sort_unstable();
                all.dedup();
                too_many = all.len() > max;
                if too_many { accepts.to_vec() } else { all }
            });
        let Some(channel) = member.map(|member| Arc::clone(&member.channel)) else {
            return;
        };
        if too_many {
            channel.close(&CloseReason::TooManyAccepts.into(), CloseWhen::Now);
        } else {
            self.answer(&channel, reply);
        }
    }

    fn reply(&self, key: &str, id: u64, reply: &Reply) {
        if let Some(member) = self.members.find_connection(key, id) {
            self.answer(&member.channel, reply);
        }
    }

    /// Answers what was owed before.
    fn answer(&self, channel: &Channel, reply: &Reply) {
        let mut bytes = Vec::new();
        channel.door().encode(reply.header, &reply.body, &mut bytes);
        self.context.metrics.protos_out(reply.header.op).inc();
        channel.answer_owed(&bytes);
    }

    fn count(&self, counts: &Counts, frame: &Frame) {
        let metrics = &self.context.metrics;
        let messages = frame.messages() as u64;
        if counts.taken > 0 {
            metrics.taken.inc_by(counts.taken * messages);
            for op in frame.operations() {
                metrics.protos_out(op).inc_by(counts.taken);
            }
        }
        metrics.written(messages, counts.written);
        metrics.absent.inc_by(counts.absent * messages);
        metrics.filtered.inc_by(counts.filtered * messages);
        if counts.full > 0 {
            metrics
                .dropped("backlog_full")
                .inc_by(counts.full * messages);
        }
        if counts.closing > 0 {
            metrics.dropped("closing").inc_by(counts.closing * messages);
        }
    }
}

#[cfg(test)]
mod tests;
