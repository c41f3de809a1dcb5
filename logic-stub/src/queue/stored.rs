//! The queue as the push API sees it: a push is stored, and somebody may wait for its report.

use std::{fmt, sync::Arc, time::Duration};

use protocol::MessageId;

use super::{
    Part, Queue,
    entry::{Entry, split},
};
use crate::{
    lanes::Report,
    metrics::Metrics,
    push::{Message, Whom},
    sessions::StoreError,
};

/// What a report names as pending when the reader has not told of every part in time.
const PENDING: &str = "queue";

/// Stores pushes.
pub struct Stored {
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
    /// Keys of each kind that a report names.
    report_keys: usize,
}

/// A push that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's name.
    id: MessageId,
    /// Reports that will come for it, if they were asked for.
    parts: usize,
}

impl Stored {
    /// Stores in `queue`; reports name at most `report_keys` keys of each kind.
    pub fn new(queue: Arc<dyn Queue>, metrics: Arc<Metrics>, report_keys: usize) -> Self {
        Self {
            queue,
            metrics,
            report_keys,
        }
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Stores a push. With `asked`, somebody will wait for its [report](Self::report).
    pub async fn push(
        &self,
        message: &Message,
        whom: Whom,
        asked: bool,
    ) -> Result<Receipt, StoreError> {
        let label = whom.label();
        let outcome = self.store(message, whom, asked).await;
        match &outcome {
            Ok(receipt) => {
                self.metrics.queue.stored.inc_by(receipt.parts as u64);
                self.metrics.pushes(label).inc();
            }
            Err(StoreError::Full { .. }) => drop(self.metrics.refused_pushes("queue_full").inc()),
            Err(StoreError::TooFew { .. }) => drop(self.metrics.refused_pushes("replicas").inc()),
            Err(_) => drop(self.metrics.refused_pushes("store").inc()),
        }
        outcome
    }

    /// What became of a push, as far as it is known within `limit`.
    pub async fn report(&self, receipt: Receipt, limit: Duration) -> Report {
        let Receipt { id, parts } = receipt;
        let mut replies = self.queue.replies(id, parts, limit).await.into_iter();
        let count = replies.len();
        let mut report = match replies.next() {
            Some(first) if count >= parts => read(id, &first),
            first => {
                let mut report = Report::pending(id, PENDING);
                if let Some(first) = first {
                    report.join(read(id, &first), self.report_keys);
                }
                report
            }
        };
        for reply in replies {
            report.join(read(id, &reply), self.report_keys);
        }
        report
    }

    async fn store(
        &self,
        message: &Message,
        whom: Whom,
        asked: bool,
    ) -> Result<Receipt, StoreError> {
        let reply = asked.then(|| self.queue.process().to_owned());
        let part = |(stream, whom)| {
            let entry = Entry::new(message, whom, reply.clone());
            let content = entry.encode().map_err(|error| {
                StoreError::Refused(format!("a push cannot be written: {error}"))
            })?;
            let id = message.id;
            Ok(Part {
                stream,
                id,
                content,
            })
        };
        let parts = split(whom, self.queue.streams()).into_iter().map(part);
        let parts: Vec<Part> = parts.collect::<Result<_, StoreError>>()?;
        self.queue.append(&parts).await?;
        Ok(Receipt {
            id: message.id,
            parts: parts.len(),
        })
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("queue", &self.queue.name())
            .finish_non_exhaustive()
    }
}

/// What the reader of a part has written; one that cannot be read is as good as none.
fn read(id: MessageId, reply: &str) -> Report {
    serde_json::from_str(reply).unwrap_or_else(|error| {
        tracing::warn!(%error, "a report is not readable");
        Report::pending(id, PENDING)
    })
}
