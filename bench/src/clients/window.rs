//! Which pushes have been received by everyone, so that a pusher can keep a number of them under way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

/// Pushes that may be under way at once, over all windows.
pub const MAX_WINDOW: u64 = 1 << 16;

/// What one thread of clients tells the pusher.
#[derive(Debug, Default)]
pub struct Progress {
    completed: AtomicU64,
    received: AtomicU64,
    changed: Notify,
}

impl Progress {
    /// How many pushes, from the first, all connections of this thread have received.
    pub fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }

    /// Messages that this thread received, ever.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Wakes whoever waits when [`Self::completed`] grows.
    pub fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Messages have come.
    pub(super) fn add_received(&self, count: u64) {
        self.received.fetch_add(count, Relaxed);
    }

    fn complete(&self, completed: u64) {
        self.completed.store(completed, Relaxed);
        self.changed.notify_waiters();
    }
}

/// Counts receipts push by push.
#[derive(Debug)]
pub(super) struct Window {
    /// Streams, served in turn.
    groups: u64,
    /// Messages in a push.
    joined: u64,
    /// Receipts that make a push complete, for each group.
    wanted: Vec<u32>,
    /// Whether any connection of this thread is in a group.
    has_members: bool,
    /// Receipts of push `p` at `p % MAX_WINDOW`.
    counts: Vec<u32>,
    completed: u64,
    /// One after the latest push that anyone received.
    latest: u64,
}

impl Window {
    /// For pushes of `joined` messages to groups in turn; `members` are the connections of each.
    pub(super) fn new(joined: u32, members: &[u32]) -> Self {
        Self {
            groups: (members.len() as u64).max(1),
            joined: u64::from(joined).max(1),
            wanted: members
                .iter()
                .map(|members| members.saturating_mul(joined))
                .collect(),
            has_members: members.iter().any(|members| *members > 0),
            counts: vec![0; usize::try_from(MAX_WINDOW).unwrap_or(0)],
            completed: 0,
            latest: 0,
        }
    }

    /// A message has come to a connection, or is taken as lost: the window would wait for it for ever.
    pub(super) fn count(&mut self, group: u32, index: u64) {
        let push = (index / self.joined) * self.groups + u64::from(group);
        self.latest = self.latest.max(push + 1);
        let slot = usize::try_from(push % MAX_WINDOW).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(slot) {
            *count += 1;
        }
    }

    /// Tells what is complete by now.
    pub(super) fn advance(&mut self, progress: &Progress) {
        let before = self.completed;
        // Another thread may have all the members of a group: then there is nothing to wait for.
        while let Some(wanted) = self.wanted_next()
            && (wanted == 0 || self.completed < self.latest)
        {
            let slot = usize::try_from(self.completed % MAX_WINDOW).unwrap_or(0);
            match self.counts.get_mut(slot) {
                Some(count) if *count >= wanted => *count = 0,
                _ => break,
            }
            self.completed += 1;
        }
        if self.completed > before {
            progress.complete(self.completed);
        }
    }

    /// Tells what is complete before anything has come: nothing, or all there will ever be for a thread without members.
    pub(super) fn restart(&mut self, progress: &Progress) {
        self.completed = 0;
        if !self.has_members {
            progress.complete(u64::MAX / 2);
            return;
        }
        progress.complete(0);
        self.advance(progress);
    }

    /// Receipts that make the next push complete; nothing in a thread without members.
    fn wanted_next(&self) -> Option<u32> {
        let group = usize::try_from(self.completed % self.groups).unwrap_or(0);
        self.wanted.get(group).copied().filter(|_| self.has_members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(joined: u32, members: &[u32], receipts: &[(u32, u64)]) -> u64 {
        let progress = Progress::default();
        let mut window = Window::new(joined, members);
        window.restart(&progress);
        for (group, index) in receipts {
            window.count(*group, *index);
        }
        window.advance(&progress);
        progress.completed()
    }

    #[test]
    fn a_push_is_complete_when_all_have_it() {
        assert_eq!(completed(1, &[2], &[(0, 0)]), 0);
        assert_eq!(completed(1, &[2], &[(0, 0), (0, 1), (0, 0)]), 1);
        assert_eq!(completed(1, &[2], &[(0, 0), (0, 1), (0, 0), (0, 1)]), 2);
    }

    #[test]
    fn groups_take_turns_and_joined_messages_are_one_push() {
        assert_eq!(completed(1, &[1, 1], &[(0, 0), (0, 1)]), 1);
        assert_eq!(completed(1, &[1, 1], &[(0, 0), (0, 1), (1, 0)]), 3);
        assert_eq!(completed(2, &[1], &[(0, 0)]), 0);
        assert_eq!(completed(2, &[1], &[(0, 0), (0, 1)]), 1);
    }

    #[test]
    fn a_group_without_members_holds_nothing_up() {
        assert_eq!(completed(1, &[0, 1], &[]), 1);
        assert_eq!(completed(1, &[0, 1], &[(1, 0)]), 3);
        assert_eq!(completed(1, &[1, 0], &[(0, 0)]), 2);
        assert!(completed(1, &[0, 0], &[]) > 1 << 60);
    }
}
