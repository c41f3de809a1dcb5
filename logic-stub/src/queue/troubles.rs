//! What a reader cannot do: counted, said once, and a reason not to be ready while claimed streams cannot be read.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::readiness::Latch;
use parking_lot::Mutex;

use crate::metrics::Metrics;

/// What was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Call {
    Acknowledge,
    Claim,
    Decode,
    Find,
    Leave,
    Read,
    Readers,
    Release,
    Reply,
}

/// The troubles of all readers of a process.
#[derive(Debug)]
pub(super) struct Troubles {
    metrics: Arc<Metrics>,
    latch: Latch,
    /// So long a stream may be unreadable before the process is not ready.
    patience: Duration,
    /// Whether there are any: most calls succeed, and most of the time there are none.
    any: AtomicBool,
    present: Mutex<BTreeMap<(Call, u16), Trouble>>,
}

#[derive(Debug)]
struct Trouble {
    text: String,
    since: Instant,
}

impl Call {
    /// As it is counted.
    fn label(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Claim => "claim",
            Self::Decode => "decode",
            Self::Find => "find",
            Self::Leave => "leave",
            Self::Read => "read",
            Self::Readers => "readers",
            Self::Release => "release",
            Self::Reply => "reply",
        }
    }

    /// What is so while it fails.
    fn meaning(self) -> &'static str {
        match self {
            Self::Acknowledge => "pushes that have ended stay stored",
            Self::Claim => "a stream of pushes cannot be claimed",
            Self::Decode => {
                "a stored push is not readable here, of a later version perhaps: the stream is left to other readers"
            }
            Self::Find => "a stored push waits: where its receivers are cannot be asked",
            Self::Leave => "the others will see later that this process reads no more",
            Self::Read => "a stream of pushes cannot be read",
            Self::Readers => "who else reads the queue is not known",
            Self::Release => "a stream of pushes is not given back before its claim ends",
            Self::Reply => "a report is lost",
        }
    }
}

impl Troubles {
    /// None yet.
    pub(super) fn new(metrics: Arc<Metrics>, latch: Latch, patience: Duration) -> Self {
        latch.ready();
        Self {
            metrics,
            latch,
            patience,
            any: AtomicBool::new(false),
            present: Mutex::default(),
        }
    }

    /// Something failed, for a stream or, as 0, for all. The log has it once for each reason.
    pub(super) fn failed(&self, call: Call, stream: u16, error: &dyn Display) {
        self.metrics.queue.failures(call.label()).inc();
        let text = error.to_string();
        let mut present = self.present.lock();
        self.any.store(true, Ordering::Relaxed);
        let mut of_call = present.range((call, 0)..=(call, u16::MAX));
        if !of_call.any(|(_, trouble)| trouble.text == text) {
            tracing::warn!(stream, error = text, "{}", call.meaning());
        }
        let trouble = present.entry((call, stream)).or_insert_with(|| Trouble {
            text: String::new(),
            since: Instant::now(),
        });
        trouble.text = text;
    }

    /// The same was done.
    pub(super) fn done(&self, call: Call, stream: u16) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut present = self.present.lock();
        if present.remove(&(call, stream)).is_some() {
            let mut rest = present.range((call, 0)..=(call, u16::MAX));
            if rest.next().is_none() {
                tracing::info!(stream, "no longer: {}", call.meaning());
            }
        }
        self.any.store(!present.is_empty(), Ordering::Relaxed);
    }

    /// The stream is not read here any more.
    pub(super) fn forget(&self, stream: u16) {
        let mut present = self.present.lock();
        // What could not be decoded cannot be when it is read here again, and need not be said again.
        present.retain(|(call, of), _| *of != stream || *call == Call::Decode);
    }

    /// Whether the process is ready as far as its streams are concerned.
    pub(super) fn show(&self) {
        let present = self.present.lock();
        let unread = present.range((Call::Read, 0)..=(Call::Read, u16::MAX));
        let unread = unread.filter(|(_, trouble)| trouble.since.elapsed() >= self.patience);
        let unread: Vec<_> = unread.collect();
        match unread.first() {
            None => self.latch.ready(),
            Some((_, trouble)) => self.latch.not_ready(format!(
                "{} of its streams of pushes cannot be read: {}",
                unread.len(),
                trouble.text
            )),
        }
    }
}
