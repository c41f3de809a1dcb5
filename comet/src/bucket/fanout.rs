//! Joining what waits for the same receivers into one write, and serving it in slices.

use std::collections::VecDeque;

use hashbrown::HashMap;
use protocol::Frame;

use super::{
    Fanout, Target,
    members::{Member, Members},
    tally::{Counts, Part},
};
use crate::{channel::Pushed, metrics::Metrics, whitelist::Step};

/// The bounds of what is joined.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinLimits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// Messages for the same receivers, as one frame.
#[derive(Debug)]
pub(super) struct Joined {
    target: Target,
    frame: Frame,
    /// One for each push inside, with the number of its messages.
    parts: Vec<(Part, usize)>,
}

/// A fan-out under way.
#[derive(Debug)]
pub(super) struct Running {
    joined: Joined,
    counts: Counts,
    /// For a broadcast: where to go on, and who had joined when it began.
    at: usize,
    joins: u64,
}

/// A push to keys under way.
#[derive(Debug)]
pub(super) struct Keyed {
    keys: std::vec::IntoIter<String>,
    op: i32,
    frame: Frame,
    part: Part,
    counts: Counts,
    absent: Vec<String>,
}

/// Messages for the same receivers, being collected.
struct Group {
    target: Target,
    frames: Vec<Frame>,
    parts: Vec<(Part, usize)>,
    messages: usize,
    bytes: usize,
}

/// Joins pushes to the same receivers, keeping their order, within the limits.
pub(super) fn join(pushes: Vec<Fanout>, limits: &JoinLimits) -> VecDeque<Joined> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: HashMap<(bool, u64), usize> = HashMap::new();
    for Fanout {
        target,
        frame,
        part,
    } in pushes
    {
        let (messages, bytes) = (frame.messages(), frame.websocket().len());
        let latest = open.entry(target.identity()).or_insert(usize::MAX);
        let fits = |group: &&mut Group| {
            group.messages + messages <= limits.messages && group.bytes + bytes <= limits.bytes
        };
        if let Some(group) = groups.get_mut(*latest).filter(fits) {
            group.frames.push(frame);
            group.parts.push((part, messages));
            group.messages += messages;
            group.bytes += bytes;
        } else {
            *latest = groups.len();
            groups.push(Group {
                target,
                frames: vec![frame],
                parts: vec![(part, messages)],
                messages,
                bytes,
            });
        }
    }
    let joined = groups.into_iter().map(|group| Joined {
        target: group.target,
        frame: Frame::join(&group.frames),
        parts: group.parts,
    });
    joined.collect()
}

impl Target {
    /// Equal for pushes that have the same receivers.
    fn identity(&self) -> (bool, u64) {
        match self {
            Self::Room(room) => (true, room.serial()),
            Self::All { op } => (false, u64::from(op.cast_unsigned())),
        }
    }
}

impl Running {
    /// Begins to serve those who are there now.
    pub(super) fn begin(joined: Joined, members: &mut Members) -> Self {
        if let Target::Room(room) = &joined.target {
            members.begin_room(room);
        }
        Self {
            joined,
            counts: Counts::default(),
            at: 0,
            joins: members.joins(),
        }
    }

    /// Serves up to `count` more; returns how many, and whether that was the last.
    pub(super) fn serve(&mut self, members: &mut Members, count: usize) -> (usize, bool) {
        let Self {
            joined: Joined { target, frame, .. },
            counts,
            ..
        } = self;
        let mut served = 0;
        let is_done = match target {
            Target::Room(room) => members.serve_room(room, count, |member| {
                counts.push(member, frame);
                served += 1;
            }),
            Target::All { op } => {
                let next = members.serve_all(self.at, count, self.joins, |member| {
                    counts.push_if_accepted(member, *op, frame);
                    served += 1;
                });
                self.at = next.unwrap_or(usize::MAX);
                next.is_none()
            }
        };
        (served, is_done)
    }

    /// What became of it so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The messages that it is about.
    pub(super) fn frame(&self) -> &Frame {
        &self.joined.frame
    }

    /// Reports the outcome to those who pushed.
    pub(super) fn finish(self, metrics: &Metrics) {
        for (part, messages) in self.joined.parts {
            part.time(&metrics.pushed);
            if part.finish(&self.counts, Vec::new()) {
                metrics.nobody.inc_by(messages as u64);
            }
        }
    }
}

impl Keyed {
    pub(super) fn new(keys: Vec<String>, op: i32, frame: Frame, part: Part) -> Self {
        Self {
            keys: keys.into_iter(),
            op,
            frame,
            part,
            counts: Counts::default(),
            absent: Vec::new(),
        }
    }

    /// Serves up to `count` more keys; returns how many.
    pub(super) fn serve(&mut self, members: &Members, count: usize) -> usize {
        let before = self.keys.len();
        for key in self.keys.by_ref().take(count) {
            if let Some(member) = members.find(&key) {
                self.counts.push_if_accepted(member, self.op, &self.frame);
            } else {
                self.counts.absent += 1;
                self.absent.push(key);
            }
        }
        before - self.keys.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.keys.len() == 0
    }

    /// What became of it so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What it is about.
    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Reports the outcome to the one who pushed.
    pub(super) fn finish(self, metrics: &Metrics) {
        self.part.time(&metrics.pushed);
        self.part.finish(&self.counts, self.absent);
    }
}

impl Counts {
    /// Pushes to one connection and counts what became of it.
    pub(super) fn push(&mut self, member: &Member, frame: &Frame) {
        match member.channel.push(frame) {
            Pushed::Written => {
                self.taken += 1;
                self.written += 1;
            }
            Pushed::Queued => self.taken += 1,
            Pushed::Full => self.full += 1,
            Pushed::Closing => self.closing += 1,
        }
    }

    /// The same, for a connection that may not accept the operation.
    pub(super) fn push_if_accepted(&mut self, member: &Member, op: i32, frame: &Frame) {
        if member.accepts(op) {
            self.push(member, frame);
        } else {
            self.filtered += 1;
            let reason = "filtered";
            member.channel.note(&Step::Drop { reason, frame });
        }
    }
}

#[cfg(test)]
mod tests;
