//! What became of a message: added up over the comets that it went to, for the pusher that asks.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use protocol::MessageId;
use serde::Serialize;
use tokio::{sync::Notify, time::timeout};

use crate::push::Target;

/// Why a message that a lane had taken, or for which there was no lane, did not reach its comet as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The comet was away for longer than a message may wait.
    CometAway,
    /// The comet came back as a new process: the connections that it was for are gone.
    CometRestarted,
    /// The comet's lease ran out, or the configuration no longer has it.
    LeaseEnded,
    /// This process ends.
    LaneClosed,
    /// The comet's inboxes stayed full.
    Busy,
    /// The comet took it for wrong.
    Refused,
    /// A unary call ended without an answer. It is not repeated: the comet may have taken it.
    Unconfirmed,
    /// Sessions are there, and their comet is not known.
    NotKnown,
    /// The comet has no address that can be called.
    NoAddress,
}

/// The end of one message at one comet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The comet's receipt.
    Counted(Counts, Vec<String>),
    /// The comet has it and does not say what became of it.
    Uncounted,
    /// It did not get there.
    Lost(Loss),
}

/// Connections by what became of the message to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Counts {
    /// Written, or in a bounded backlog.
    pub(crate) taken: u64,
    /// Keys that are not connected.
    pub(crate) absent: u64,
    /// Not accepting the operation.
    pub(crate) filtered: u64,
    /// With a full backlog, or closing.
    pub(crate) dropped: u64,
}

/// What a pusher that asks is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The message's, in hexadecimal digits.
    id: String,
    #[serde(flatten)]
    counts: Counts,
    /// Keys, or comets for rooms and everyone, that took it without saying what became of it.
    uncounted: u64,
    /// Keys, or comets for rooms and everyone, that it did not reach, by [`Loss::label`].
    lost: BTreeMap<&'static str, u64>,
    /// Some of the keys that are not connected.
    absent_keys: Vec<String>,
    /// Some of the keys that it did not reach.
    lost_keys: Vec<String>,
    /// Comets that did not answer in time.
    pending: Vec<String>,
}

/// Adds up the outcomes of one message.
#[derive(Debug)]
pub struct Tally {
    max_keys: usize,
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    report: Report,
    /// What each comet still owes.
    open: BTreeMap<Arc<str>, usize>,
}

impl Loss {
    /// The reason in reports and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::CometAway => "comet_away",
            Self::CometRestarted => "comet_restarted",
            Self::LeaseEnded => "lease_ended",
            Self::LaneClosed => "lane_closed",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Unconfirmed => "unconfirmed",
            Self::NotKnown => "not_known",
            Self::NoAddress => "no_address",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CometAway => "away",
            Self::CometRestarted => "restarted",
            Self::LeaseEnded => "without a lease",
            Self::LaneClosed => "its lane is closed",
            Self::Busy => "busy",
            Self::Refused => "it refused",
            Self::Unconfirmed => "no answer",
            Self::NotKnown => "not known",
            Self::NoAddress => "without an address",
        })
    }
}

impl Tally {
    /// For the message of this id; names at most `max_keys` keys of each kind.
    pub fn new(id: MessageId, max_keys: usize) -> Self {
        let report = Report {
            id: id.to_string(),
            ..Report::default()
        };
        let state = State {
            report,
            open: BTreeMap::new(),
        };
        Self {
            max_keys,
            state: Mutex::new(state),
            settled: Notify::new(),
        }
    }

    /// One more outcome will come from `comet`.
    pub(super) fn expect(&self, comet: &Arc<str>) {
        let mut state = self.state.lock();
        *state.open.entry(Arc::clone(comet)).or_default() += 1;
    }

    /// An outcome that was expected.
    pub(super) fn settle(&self, comet: &Arc<str>, target: &Target, outcome: Outcome) {
        let mut state = self.state.lock();
        match outcome {
            Outcome::Counted(counts, absent_keys) => {
                state.report.counts.add(counts);
                let names = &mut state.report.absent_keys;
                append(names, absent_keys, self.max_keys);
            }
            Outcome::Uncounted => state.report.uncounted += target.weight(),
            Outcome::Lost(why) => state.report.lose(why, target, self.max_keys),
        }
        if let Some(open) = state.open.get_mut(comet) {
            *open -= 1;
            if *open == 0 {
                state.open.remove(comet);
            }
        }
        if state.open.is_empty() {
            self.settled.notify_one();
        }
    }

    /// There is no lane to where this is.
    pub fn lose(&self, why: Loss, target: &Target) {
        self.state.lock().report.lose(why, target, self.max_keys);
    }

    /// These keys are not connected anywhere.
    pub fn absent(&self, keys: &[String]) {
        let mut state = self.state.lock();
        state.report.counts.absent += keys.len() as u64;
        let names = &mut state.report.absent_keys;
        append(names, keys.iter().cloned(), self.max_keys);
    }

    /// Waits for all outcomes that are expected, at most `limit`.
    pub async fn wait(&self, limit: Duration) -> Report {
        let all = async {
            while !self.state.lock().open.is_empty() {
                self.settled.notified().await;
            }
        };
        // Whether in time or not: what is open is named.
        let _ = timeout(limit, all).await;
        let state = self.state.lock();
        let pending = state.open.keys().map(ToString::to_string).collect();
        Report {
            pending,
            ..state.report.clone()
        }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.taken += other.taken;
        self.absent += other.absent;
        self.filtered += other.filtered;
        self.dropped += other.dropped;
    }
}

impl Report {
    fn lose(&mut self, why: Loss, target: &Target, max_keys: usize) {
        *self.lost.entry(why.label()).or_default() += target.weight();
        if let Target::Keys(keys) = target {
            append(&mut self.lost_keys, keys.iter().cloned(), max_keys);
        }
    }
}

fn append(names: &mut Vec<String>, more: impl IntoIterator<Item = String>, max: usize) {
    let room = max.saturating_sub(names.len());
    names.extend(more.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn keys(keys: &[&str]) -> Target {
        Target::Keys(keys.iter().map(|&key| key.to_owned()).collect())
    }

    #[tokio::test]
    async fn outcomes_add_up_and_names_are_bounded() {
        let tally = Tally::new(MessageId([0xab; 16]), 2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for comet in [&a, &a, &b] {
            tally.expect(comet);
        }
        tally.absent(&["x".to_owned()]);
        let counts = Counts {
            taken: 2,
            absent: 2,
            filtered: 1,
            dropped: 1,
        };
        let absent = vec!["y".to_owned(), "z".to_owned()];
        tally.settle(&a, &keys(&["k"]), Outcome::Counted(counts, absent));
        let lost = keys(&["l", "m", "n"]);
        tally.settle(&a, &lost, Outcome::Lost(Loss::CometAway));
        tally.lose(Loss::NotKnown, &keys(&["o"]));
        let report = tally.wait(SOON).await;
        let expected = json!({
            "id": "ab".repeat(16), "taken": 2, "absent": 3, "filtered": 1, "dropped": 1, "uncounted": 0,
            "lost": {"comet_away": 3, "not_known": 1}, "absent_keys": ["x", "y"], "lost_keys": ["l", "m"],
            "pending": ["b"],
        });
        assert_eq!(serde_json::to_value(report).unwrap(), expected);
        tally.settle(&b, &keys(&["p", "q"]), Outcome::Uncounted);
        let report = tally.wait(Duration::from_mins(1)).await;
        assert_eq!((report.uncounted, report.pending), (2, vec![]));
    }
}
