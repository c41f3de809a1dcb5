//! The steps of a channel whose connection is on the whitelist. Each function here is called behind a look at one flag.

use std::sync::{Arc, atomic::Ordering};

use protocol::{Frame, MessageId};

use super::{Channel, Pushed, State, backlog::Written};
use crate::whitelist::{Step, What};

impl Channel {
    /// Whether its steps are noted.
    pub fn is_noted(&self) -> bool {
        self.is_noted.load(Ordering::Relaxed)
    }

    /// Has its steps noted, as those of this user and key, or no longer. One that closes stays as it is until its end.
    pub fn set_noted(&self, noted: Option<(i64, &Arc<str>)>) {
        let state = self.state.lock();
        if state.closing.is_some() {
            return;
        }
        let whitelist = &self.context.whitelist;
        match noted {
            Some((mid, key)) => whitelist.enter(self.id(), mid, key),
            None => whitelist.leave(self.id()),
        }
        self.is_noted.store(noted.is_some(), Ordering::Relaxed);
    }

    /// Notes the end, and nothing after it.
    pub(super) fn note_end(&self, reason: &'static str) {
        if self.is_noted() {
            self.note(&Step::End { reason });
            self.is_noted.store(false, Ordering::Relaxed);
            self.context.whitelist.leave(self.id());
        }
    }

    /// Notes a step, if its steps are noted.
    pub fn note(&self, step: &Step<'_>) {
        if self.is_noted() {
            self.context.whitelist.note(self.id(), step);
        }
    }

    #[cold]
    pub(super) fn note_push(&self, frame: &Frame, pushed: Pushed) {
        let drop = |reason| Step::Drop { reason, frame };
        self.note(&match pushed {
            Pushed::Written => Step::Write(What::Frame(frame)),
            Pushed::Queued => Step::Queue(What::Frame(frame)),
            Pushed::Full => drop("backlog_full"),
            Pushed::Closing => drop("closing"),
        });
    }

    /// What waits, for a comparison with what waits after a change; nothing where nobody wants to know.
    pub(super) fn waiting(&self, state: &State) -> Vec<MessageId> {
        if self.is_noted() {
            state.backlog.messages()
        } else {
            Vec::new()
        }
    }

    /// Notes what a round of writes has achieved: which of the messages that waited before are written, and how many answers.
    pub(super) fn note_written(&self, state: &State, before: &[MessageId], done: &Written) {
        if !self.is_noted() {
            return;
        }
        let written = gone(before, &self.waiting(state));
        if !written.is_empty() {
            self.note(&Step::Write(What::Messages(&written)));
        }
        if done.replies > 0 {
            let (count, bytes) = (done.replies, done.reply_bytes);
            self.note(&Step::Write(What::Answers { count, bytes }));
        }
    }

    /// Notes that some of what waited before will not be delivered.
    pub(super) fn note_lost(&self, state: &State, before: &[MessageId], reason: &'static str) {
        let messages = gone(before, &self.waiting(state));
        if !messages.is_empty() {
            let messages = &messages;
            self.note(&Step::Lost { reason, messages });
        }
    }
}

/// What is in `before` and not in `after`, which has a part of it in the same order.
pub(super) fn gone(before: &[MessageId], after: &[MessageId]) -> Vec<MessageId> {
    let mut after = after.iter().rev().peekable();
    // From the end: of a message that was there twice, the older has gone.
    let gone = before.iter().rev();
    let gone = gone.filter(|id| after.next_if_eq(id).is_none());
    let mut gone: Vec<MessageId> = gone.copied().collect();
    gone.reverse();
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_gone_is_what_is_missing() {
        let ids = |ids: &[u8]| ids.iter().map(|&id| MessageId([id; 16])).collect();
        let check = |before: &[u8], after: &[u8], expected: &[u8]| {
            let (before, after): (Vec<_>, Vec<_>) = (ids(before), ids(after));
            let expected: Vec<_> = ids(expected);
            assert_eq!(gone(&before, &after), expected);
        };
        check(&[1, 2, 3], &[1, 2, 3], &[]);
        check(&[1, 2, 3], &[3], &[1, 2]);
        check(&[1, 2, 3], &[1, 3], &[2]);
        check(&[1, 1, 2], &[1, 2], &[1]);
        check(&[1, 2], &[], &[1, 2]);
    }
}
