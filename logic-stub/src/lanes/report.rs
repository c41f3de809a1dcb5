//! What became of a message: added up over the comets that it went to, for the pusher that asks.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use protocol::MessageId;
use serde::{Deserialize, Serialize};
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
    /// The comet has heard of a later sender, which has the message too.
    Superseded,
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
    Counted {
        counts: Counts,
        absent_keys: Vec<String>,
        /// Keys that had it before.
        repeated: u64,
    },
    /// The comet has it and does not say what became of it.
    Uncounted,
    /// It did not get there.
    Lost(Loss),
}

/// Connections by what became of the message to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Written, or in a bounded backlog.
    pub(crate) taken: u64,
    /// Keys that are not connected, and users without any.
    pub(crate) absent: u64,
    /// Not accepting the operation.
    pub(crate) filtered: u64,
    /// With a full backlog, or closing.
    pub(crate) dropped: u64,
}

/// What a pusher that asks is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The message's, in hexadecimal digits.
    id: String,
    #[serde(flatten)]
    counts: Counts,
    /// Keys, or comets for rooms and everyone, that took it without saying what became of it.
    uncounted: u64,
    /// Keys, or comets for rooms and everyone, that it did not reach, by [`Loss::label`].
    lost: BTreeMap<Cow<'static, str>, u64>,
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
    /// Whether what goes astray is left to whoever is told the end.
    is_stored: bool,
    state: Mutex<State>,
    settled: Notify,
}

/// Where all outcomes of a message are told at once.
pub(crate) struct End(Box<dyn FnOnce(Ended) + Send>);

/// All outcomes of a message have come.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) report: Report,
    /// It may have to be sent again: by whoever has taken over, or after this process.
    pub(crate) again: bool,
    /// What may reach its receivers another way, and is not in the report.
    pub(crate) astray: Vec<Astray>,
}

/// A part of a stored message that did not get where it was sent. Its receivers may be elsewhere, or take it later.
#[derive(Debug)]
pub(crate) struct Astray {
    pub(crate) comet: Arc<str>,
    pub(crate) target: Target,
    pub(crate) why: Loss,
}

#[derive(Debug, Default)]
struct State {
    report: Report,
    /// What each comet still owes.
    open: BTreeMap<Arc<str>, usize>,
    /// See [`Ended::again`].
    again: bool,
    /// See [`Ended::astray`].
    astray: Vec<Astray>,
    /// Told when nothing is open; none before all is known that may be.
    end: Option<End>,
}

impl End {
    pub(crate) fn new(told: impl FnOnce(Ended) + Send + 'static) -> Self {
        Self(Box::new(told))
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("End")
    }
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
            Self::Superseded => "superseded",
            Self::Unconfirmed => "unconfirmed",
            Self::NotKnown => "not_known",
            Self::NoAddress => "no_address",
        }
    }
}

impl Loss {
    /// Whether that of a stored message may reach its receivers another way: keys are looked up again, and a comet with too
    /// many slow broadcasts takes another one later. What is for a room is not among them: its order would not hold.
    fn leads_astray(self, target: &Target) -> bool {
        match target {
            Target::Keys(_) => matches!(
                self,
                Self::CometAway
                    | Self::CometRestarted
                    | Self::LeaseEnded
                    | Self::NoAddress
                    | Self::Busy
            ),
            Target::Everyone { speed } => *speed > 0 && self == Self::Busy,
            Target::Room(_) => false,
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
            Self::Superseded => "another one sends it",
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
            ..State::default()
        };
        Self {
            max_keys,
            is_stored: false,
            state: Mutex::new(state),
            settled: Notify::new(),
        }
    }

    /// The same for a stored message, which can be sent again.
    pub(crate) fn stored(id: MessageId, max_keys: usize) -> Self {
        Self {
            is_stored: true,
            ..Self::new(id, max_keys)
        }
    }

    /// Whether an outcome is not the last word.
    pub(super) fn is_astray(&self, target: &Target, outcome: &Outcome) -> bool {
        self.is_stored && matches!(outcome, Outcome::Lost(why) if why.leads_astray(target))
    }

    /// One more outcome will come from `comet`.
    pub(super) fn expect(&self, comet: &Arc<str>) {
        let mut state = self.state.lock();
        *state.open.entry(Arc::clone(comet)).or_default() += 1;
    }

    /// An outcome that was expected.
    pub(super) fn settle(&self, comet: &Arc<str>, target: &Target, outcome: Outcome) {
        let is_astray = self.is_astray(target, &outcome);
        let mut state = self.state.lock();
        match outcome {
            Outcome::Counted {
                counts,
                absent_keys,
                repeated,
            } => {
                state.report.counts.add(counts);
                state.report.uncounted += repeated;
                let names = &mut state.report.absent_keys;
                append(names, absent_keys, self.max_keys);
            }
            Outcome::Uncounted => state.report.uncounted += target.weight(),
            Outcome::Lost(why) if is_astray => state.astray.push(Astray {
                comet: Arc::clone(comet),
                target: target.clone(),
                why,
            }),
            Outcome::Lost(why) => {
                state.again |= matches!(why, Loss::Superseded | Loss::LaneClosed);
                state.report.lose(why, target, self.max_keys);
            }
        }
        if let Some(open) = state.open.get_mut(comet) {
            *open -= 1;
            if *open == 0 {
                state.open.remove(comet);
            }
        }
        if state.open.is_empty() {
            self.settled.notify_one();
            end(state);
        }
    }

    /// Nothing more will be expected: `end` is told when all has come, which may be at once.
    pub(crate) fn seal(&self, told: End) {
        let mut state = self.state.lock();
        state.end = Some(told);
        if state.open.is_empty() {
            end(state);
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

    /// So many users have no key anywhere.
    pub fn absent_users(&self, count: u64) {
        self.state.lock().report.counts.absent += count;
    }

    /// What is known.
    pub(crate) fn so_far(&self) -> Report {
        self.state.lock().report.clone()
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

/// Tells the end of a message that has one.
fn end(mut state: MutexGuard<'_, State>) {
    if let Some(End(told)) = state.end.take() {
        let ended = Ended {
            report: state.report.clone(),
            again: state.again,
            astray: std::mem::take(&mut state.astray),
        };
        drop(state);
        told(ended);
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
    /// Of a message of which nothing is known yet; `pending` says what is waited for.
    pub(crate) fn pending(id: MessageId, pending: &str) -> Self {
        Self {
            id: id.to_string(),
            pending: vec![pending.to_owned()],
            ..Self::default()
        }
    }

    /// Adds what is known of another part of the same message.
    pub(crate) fn join(&mut self, other: Self, max_keys: usize) {
        self.counts.add(other.counts);
        self.uncounted += other.uncounted;
        for (why, count) in other.lost {
            *self.lost.entry(why).or_default() += count;
        }
        append(&mut self.absent_keys, other.absent_keys, max_keys);
        append(&mut self.lost_keys, other.lost_keys, max_keys);
        self.pending.extend(other.pending);
    }

    fn lose(&mut self, why: Loss, target: &Target, max_keys: usize) {
        *self.lost.entry(why.label().into()).or_default() += target.weight();
        if let Target::Keys(keys) = target {
            append(&mut self.lost_keys, keys.iter().cloned(), max_keys);
        }
    }
}

fn append(names: &mut Vec<String>, more: impl IntoIterator<Item = String>, max: usize) {
    let room = max.saturating_sub(names.len());
    names.extend(more.into_iter().take(room));
}
