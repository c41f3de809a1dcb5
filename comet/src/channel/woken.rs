//! A channel of a woken outlet as its task has it: it waits until something is there, takes it, and says what became of it. For
//! doors whose task makes something else of the protos, such as JSON: [`Door::Poll`] and [`Door::Sse`].
//!
//! [`Door::Poll`]: crate::transport::Door::Poll
//! [`Door::Sse`]: crate::transport::Door::Sse

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use protocol::{Frame, MessageId};

use super::{Channel, backlog::Entry};
use crate::{
    close::CloseReason,
    whitelist::{Step, What},
};

/// Something that waited for the client. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Taken {
    /// A message, or several.
    Messages(Frame),
    /// So many answers.
    Answers(Arc<[u8]>, u32),
    /// The last words.
    Farewell(Arc<[u8]>),
}

impl Taken {
    /// The protos, one behind the other.
    pub fn protos(&self) -> &[u8] {
        match self {
            Self::Messages(frame) => frame.tcp(),
            Self::Answers(bytes, _) | Self::Farewell(bytes) => bytes,
        }
    }

    /// How many protos it is.
    pub fn count(&self) -> u64 {
        match self {
            Self::Messages(frame) => frame.messages() as u64,
            Self::Answers(_, replies) => u64::from(*replies),
            Self::Farewell(_) => 1,
        }
    }

    /// The messages of a push, if it is that.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Messages(frame) => Some(frame),
            Self::Answers(..) | Self::Farewell(_) => None,
        }
    }
}

impl Channel {
    /// Ready with the reason when the channel closes.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let mut state = self.state.lock();
        if let Some(reason) = state.closing {
            return Poll::Ready(reason);
        }
        state.wake_later(cx);
        Poll::Pending
    }

    /// Ready when something waits for the client.
    pub fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.backlog.is_empty() {
            return Poll::Ready(());
        }
        state.wake_later(cx);
        Poll::Pending
    }

    /// Whether something waits for the client.
    pub fn is_waiting(&self) -> bool {
        !self.state.lock().backlog.is_empty()
    }

    /// Takes all that waits. The answers among it are owed no longer; what becomes of the messages is told with
    /// [`Self::delivered`] and [`Self::lose`].
    pub fn take_all_waiting(&self) -> Vec<Taken> {
        let mut state = self.state.lock();
        let (taken, waited) = state.backlog.take_all();
        if let Some(waited) = waited {
            self.context.metrics.backlogs.observe(waited);
        }
        let taken: Vec<Taken> = taken.into_iter().map(Taken::from).collect();
        for taken in &taken {
            if let Taken::Answers(answers, count) = taken {
                let (count, bytes) = (*count, answers.len());
                self.note(&Step::Write(What::Answers { count, bytes }));
                self.pay(&mut state, count);
            }
        }
        taken
    }

    /// Counts messages that were taken and that the door's writer has accepted together.
    pub fn delivered(&self, messages: &[MessageId]) {
        if !messages.is_empty() {
            self.context.metrics.written(messages.len() as u64, 1);
            self.note(&Step::Write(What::Messages(messages)));
        }
    }

    /// Counts messages that were taken and that nobody will get, with the reason of the close.
    pub fn lose(&self, messages: &[MessageId]) {
        let reason = self.closing().unwrap_or(CloseReason::Internal).label();
        self.count_lost(messages.len(), reason);
        if !messages.is_empty() {
            self.note(&Step::Lost { reason, messages });
        }
    }
}

impl From<Entry> for Taken {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Message(frame) => Self::Messages(frame),
            Entry::Answer(bytes, replies) => Self::Answers(bytes.into(), replies),
            Entry::Farewell(bytes) => Self::Farewell(bytes.into()),
        }
    }
}
