//! Connections that have to go: those that are kicked, those of a comet that ends, and those whose time is over.

use std::sync::Arc;

use super::Actor;
use crate::{
    bucket::{Dismissed, Kicked, Whom, members::Member},
    clock::Tick,
    close::{CloseReason, CloseWhen, Farewell},
};

impl Actor {
    /// Takes connections out of the maps, so that their keys are free at once, and closes them.
    pub(super) fn kick(&mut self, whom: Whom, farewell: &Farewell) -> Kicked {
        let mut kicked = Kicked::default();
        let mut connections: Vec<(Arc<str>, u64)> = Vec::new();
        let mut meet = |key: String, found: Option<&Member>| match found {
            Some(member) => connections.push(identity(member)),
            None => kicked.absent.push(key),
        };
        match whom {
            Whom::Keys(keys) => {
                for key in keys {
                    let found = self.members.find(&key);
                    meet(key, found);
                }
            }
            Whom::Connections(named) => {
                for (key, id) in named {
                    let found = self.members.find_connection(&key, id);
                    meet(key, found);
                }
            }
            Whom::Room(room) => connections = self.members.in_room(&room).map(identity).collect(),
            Whom::Networks(networks) => {
                let is_meant = |member: &&Member| networks.contain(member.session.client.ip());
                connections = self.members.all().filter(is_meant).map(identity).collect();
            }
        }
        for (key, id) in connections {
            if let Some(member) = self.members.remove(&key, id) {
                kicked.count += u32::from(member.channel.close(farewell, CloseWhen::Now));
            }
        }
        kicked
    }

    /// Takes some connections out of the maps and closes them behind what waits for them: what comes later is not for them.
    pub(super) fn dismiss(&mut self, from: usize, count: usize, farewell: &Farewell) -> Dismissed {
        let mut some = Vec::new();
        let next = self
            .members
            .serve_all(from, count, u64::MAX, |member| some.push(identity(member)));
        let mut count = 0;
        for (key, id) in some {
            if let Some(member) = self.members.remove(&key, id) {
                count += u32::from(member.channel.close(farewell, CloseWhen::AfterQueue));
            }
        }
        Dismissed { count, next }
    }

    /// Closes those whose time is over.
    pub(super) fn sweep(&mut self) {
        let now = self.context.clock.now();
        let patience = Tick::from(self.context.write_timeout);
        let looks = now >= self.next_look;
        if looks {
            self.next_look = Tick(now.0.saturating_add(patience.0 / 4));
        }
        for Member { channel, .. } in self.members.all() {
            if channel.is_overdue(now) {
                channel.close(&CloseReason::HeartbeatTimeout.into(), CloseWhen::Now);
            } else if looks && channel.is_stuck(now, patience) {
                channel.close(&CloseReason::WriteTimeout.into(), CloseWhen::Now);
            }
        }
    }
}

fn identity(member: &Member) -> (Arc<str>, u64) {
    (Arc::clone(&member.session.key), member.channel.id())
}
