//! The loop of a bucket.

use std::sync::Arc;

use protocol::op;
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    BucketContext, Control, Fanout, Identity, Join, PacedSlice, Reply, Single, Whom,
    fanout::{self, JoinLimits, Joined, Running},
    members::Members,
    tally::Counts,
};
use crate::{
    channel::Channel,
    close::{CloseReason, CloseWhen, Farewell},
};

/// Messages taken out of an inbox at once. Control and single pushes are short, so 64 of them stay well below a slice's 2 ms.
const BATCH: usize = 64;

/// Pushes to many that are looked at together, to be joined.
const JOIN_BATCH: usize = 1024;

/// A bucket: its maps and its work.
#[derive(Debug)]
pub(super) struct Actor {
    context: BucketContext,
    members: Members,
    /// Connections that a fan-out serves in one go.
    slice: usize,
    limits: JoinLimits,
    running: Option<Running>,
    waiting: std::collections::VecDeque<Joined>,
}

impl Actor {
    pub(super) fn new(
        index: usize,
        context: BucketContext,
        slice: usize,
        limits: JoinLimits,
    ) -> Self {
        let members = Members::new(index, Arc::clone(&context.rooms));
        Self {
            context,
            members,
            slice,
            limits,
            running: None,
            waiting: std::collections::VecDeque::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut control: mpsc::Receiver<Control>,
        mut singles: mpsc::Receiver<Single>,
        mut fanouts: mpsc::Receiver<Fanout>,
    ) {
        let mut controls = Vec::with_capacity(BATCH);
        let mut few = Vec::with_capacity(BATCH);
        let period = self.context.sweep;
        let mut sweep = interval_at(Instant::now() + period, period);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_running = self.running.is_some();
            let mut many = Vec::new();
            tokio::select! {
                biased;
                // Logins and goodbyes first: they are short and bounded by their own inbox.
                count = control.recv_many(&mut controls, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    controls.drain(..).for_each(|control| self.control(control));
                }
                // Then single pushes, which must not wait behind a room of thousands.
                _ = singles.recv_many(&mut few, BATCH), if !singles.is_closed() => {
                    few.drain(..).for_each(|single| self.single(single));
                }
                // Then a slice of the fan-out under way, after everybody else had a turn.
                () = yield_now(), if is_running => self.serve_slice(),
                // Then what waits for the next fan-out: the longer the last took, the more is joined.
                _ = fanouts.recv_many(&mut many, JOIN_BATCH), if !is_running && !fanouts.is_closed() => {
                    self.waiting = fanout::join(many, &self.limits);
                    self.begin_next();
                }
                // Deadlines last: they are minutes.
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Join(join) => self.join(*join),
            Control::Leave(Identity { key, id }) => drop(self.members.remove(&key, id)),
            Control::ChangeRoom(Identity { key, id }, room, reply) => {
                if self.members.change_room(&key, id, room.as_ref()) {
                    self.reply(&key, id, &reply);
                }
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
                let count = self.kick(whom, &farewell);
                // Whoever asked may have gone.
                let _ = kicked.send(count);
            }
            Control::CloseAll(farewell, when) => {
                for member in self.members.all() {
                    member.channel.close(&farewell, when);
                }
            }
        }
    }

    fn join(&mut self, join: Join) {
        let Join {
            key,
            mid,
            channel,
            room,
            accepts,
            auth,
        } = join;
        let older = self
            .members
            .insert(Arc::clone(&key), mid, Arc::clone(&channel), accepts);
        if let Some(older) = older {
            let same_mid = older.mid == mid;
            older
                .channel
                .close(&CloseReason::Replaced { same_mid }.into(), CloseWhen::Now);
        }
        if room.is_some() {
            self.members.change_room(&key, channel.id(), room.as_ref());
        }
        self.context.metrics.logins(channel.door()).inc();
        let reply = Reply {
            header: auth.reply(op::AUTH_REPLY),
            body: Box::default(),
        };
        reply.send(&channel);
    }

    fn sub(&mut self, identity: &Identity, operations: &[i32], reply: &Reply) {
        let max = self.context.max_accepts;
        let mut too_many = false;
        let member = self
            .members
            .change_accepts(&identity.key, identity.id, |accepts| {
                let added = operations
                    .iter()
                    .filter(|op| accepts.binary_search(op).is_err());
                let all: Vec<i32> = accepts.iter().chain(added).copied().collect();
                too_many = all.len() > max;
                if too_many { accepts.to_vec() } else { all }
            });
        let Some(member) = member else {
            return;
        };
        if too_many {
            member
                .channel
                .close(&CloseReason::TooManyAccepts.into(), CloseWhen::Now);
        } else {
            reply.send(&member.channel);
        }
    }

    fn reply(&self, key: &str, id: u64, reply: &Reply) {
        if let Some(member) = self.members.find_connection(key, id) {
            reply.send(&member.channel);
        }
    }

    /// Takes connections out of the maps, so that their keys are free at once, and closes them.
    fn kick(&mut self, whom: Whom, farewell: &Farewell) -> u32 {
        let connections: Vec<(Arc<str>, u64)> = match whom {
            Whom::Keys(keys) => keys
                .iter()
                .filter_map(|key| self.members.find(key))
                .map(identity)
                .collect(),
            Whom::Room(room) => self.members.in_room(&room).map(identity).collect(),
            Whom::Connection(key, id) => self
                .members
                .find_connection(&key, id)
                .map(identity)
                .into_iter()
                .collect(),
        };
        let mut kicked = 0;
        for (key, id) in connections {
            if let Some(member) = self.members.remove(&key, id) {
                kicked += u32::from(member.channel.close(farewell, CloseWhen::Now));
            }
        }
        kicked
    }

    fn single(&mut self, single: Single) {
        match single {
            Single::Keys {
                keys,
                op,
                frame,
                part,
            } => {
                let mut counts = Counts::default();
                let mut absent = Vec::new();
                for key in keys {
                    if let Some(member) = self.members.find(&key) {
                        counts.push_if_accepted(member, op, &frame);
                    } else {
                        counts.absent += 1;
                        absent.push(key);
                    }
                }
                part.finish(&counts, absent);
                self.count(&counts, frame.messages());
            }
            Single::Some { slice, next } => {
                let PacedSlice {
                    op,
                    frame,
                    from,
                    count,
                } = slice;
                let mut counts = Counts::default();
                let at = self.members.serve_all(from, count, u64::MAX, |member| {
                    counts.push_if_accepted(member, op, &frame);
                });
                self.count(&counts, frame.messages());
                // The broadcast may have been given up.
                let _ = next.send(at);
            }
        }
    }

    fn begin_next(&mut self) {
        let next = self.waiting.pop_front();
        self.running = next.map(|joined| Running::begin(joined, &mut self.members));
    }

    fn serve_slice(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        if running.serve(&mut self.members, self.slice)
            && let Some(finished) = self.running.take()
        {
            let (counts, messages) = finished.finish();
            self.count(&counts, messages);
            self.begin_next();
        }
    }

    fn sweep(&self) {
        let now = self.context.clock.now();
        for member in self
            .members
            .all()
            .filter(|member| member.channel.is_overdue(now))
        {
            member
                .channel
                .close(&CloseReason::HeartbeatTimeout.into(), CloseWhen::Now);
        }
    }

    fn count(&self, counts: &Counts, messages: usize) {
        let metrics = &self.context.metrics;
        let messages = messages as u64;
        metrics.taken.inc_by(counts.taken * messages);
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

impl Reply {
    /// Answers what was owed before.
    fn send(&self, channel: &Channel) {
        let mut bytes = Vec::new();
        channel.door().encode(self.header, &self.body, &mut bytes);
        channel.answer_owed(&bytes);
    }
}

fn identity(member: &super::members::Member) -> (Arc<str>, u64) {
    (Arc::clone(&member.key), member.channel.id())
}
