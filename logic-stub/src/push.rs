//! The way of a push: from keys, mids, a room or everyone into the lanes of the comets concerned, into all or none.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use protocol::{HEADER_LEN, Header, MessageId, RoomId};
use thiserror::Error;

use crate::{
    comets::{Comet, Comets, Known},
    lanes::{Lane, Loss, Reservation, Tally},
    metrics::Metrics,
    sessions::{Holder, Sessions, StoreError},
};

/// How many names an error lists before it only counts.
const MAX_NAMED: usize = 20;

/// Routes pushes. Shared by all requests.
pub struct Pusher {
    sessions: Arc<dyn Sessions>,
    comets: Arc<Comets>,
    metrics: Arc<Metrics>,
    /// Keys in one message to a comet.
    keys_per_call: usize,
}

/// A message for clients, encoded once for all comets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its name in receipts and logs.
    pub id: MessageId,
    /// The operation under which clients get it.
    pub operation: i32,
    frame: Bytes,
}

/// Whom a message is for, at one comet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// These connections, if they accept the operation.
    Keys(Vec<String>),
    /// All connections of a room.
    Room(RoomId),
    /// All connections that accept the operation.
    Everyone {
        /// Connections a second at this comet; 0 is as fast as it goes.
        speed: i32,
    },
}

/// Why a push was not taken for everyone it was for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The store did not say where the sessions are; nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no comet at all.
    #[error("no comet is known")]
    NoComet,
    /// The lanes of these comets have no room for it; nothing was sent.
    #[error("nothing was sent: no room at {0}")]
    Full(Names),
    /// There is no lane to these comets. The others have got it.
    #[error("not taken by {0}")]
    Unreached(Names),
}

/// Who of a push's targets gets it by one comet.
type ByComet = BTreeMap<Arc<str>, Vec<Target>>;

/// What a key takes beside its bytes.
const KEY_OVERHEAD: usize = size_of::<String>();

/// A list for people: long ones end in a number.
#[derive(Debug)]
pub struct Names(Vec<String>);

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        Self(names)
    }
}

impl Names {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(names) = self;
        for (index, name) in names.iter().take(MAX_NAMED).enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            // The names come from pushers and clients.
            name.chars()
                .filter(|c| !c.is_control())
                .try_for_each(|c| f.write_char(c))?;
        }
        match names.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Message {
    /// A message of `body` under `operation`.
    pub fn new(operation: i32, body: &[u8]) -> Self {
        let mut frame = Vec::new();
        Header::push(operation).encode(body, &mut frame);
        let id = MessageId(uuid::Uuid::now_v7().into_bytes());
        Self {
            id,
            operation,
            frame: frame.into(),
        }
    }

    /// The frame that clients get.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// What the pusher said.
    pub fn body(&self) -> Bytes {
        self.frame.slice(HEADER_LEN..)
    }

    /// Bytes of that.
    pub(crate) fn body_len(&self) -> usize {
        self.frame.len() - HEADER_LEN
    }
}

impl Target {
    /// How much it counts for where no connections are counted: its keys, or one.
    pub(crate) fn weight(&self) -> u64 {
        match self {
            Self::Keys(keys) => keys.len() as u64,
            Self::Room(_) | Self::Everyone { .. } => 1,
        }
    }

    /// Bytes of its names. A key has a share for its own place in memory and on the wire.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.iter().map(|key| KEY_OVERHEAD + key.len()).sum(),
            Self::Room(room) => room.as_str().len(),
            Self::Everyone { .. } => 0,
        }
    }
}

impl Pusher {
    /// Routes by what `sessions` knows to `comets`, in messages of at most `keys_per_call` keys.
    pub fn new(
        sessions: Arc<dyn Sessions>,
        comets: Arc<Comets>,
        keys_per_call: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            sessions,
            comets,
            metrics,
            keys_per_call,
        }
    }

    /// To the connections of these names. Answers which of them are not online. `report` is told what becomes of it, here as
    /// in the other pushes.
    pub async fn keys(
        &self,
        message: &Message,
        keys: Vec<String>,
        report: Option<&Arc<Tally>>,
    ) -> Result<Names, PushError> {
        let holders = self.stored(self.sessions.holders(&keys).await)?;
        let mut absent = Vec::new();
        let mut online = Vec::new();
        for (key, holder) in keys.into_iter().zip(holders) {
            match holder {
                Some(holder) => online.push((key, holder)),
                None => absent.push(key),
            }
        }
        if let Some(report) = report {
            report.absent(&absent);
        }
        let outcome = self.to_sessions(message, online, report).await;
        self.count("keys", absent.len(), outcome)?;
        Ok(Names(absent))
    }

    /// To all connections of these users. Answers which of them are not online.
    pub async fn mids(
        &self,
        message: &Message,
        mids: Vec<i64>,
        report: Option<&Arc<Tally>>,
    ) -> Result<Names, PushError> {
        let sessions = self.stored(self.sessions.of_mids(&mids).await)?;
        let online: HashSet<i64> = sessions.iter().map(|session| session.mid).collect();
        let absent = mids.iter().filter(|mid| !online.contains(mid));
        let absent: Vec<String> = absent.map(ToString::to_string).collect();
        let sessions = sessions
            .into_iter()
            .map(|session| (session.key, session.holder));
        let outcome = self.to_sessions(message, sessions.collect(), report);
        self.count("mids", absent.len(), outcome.await)?;
        Ok(Names(absent))
    }

    /// To all connections of a room.
    pub fn room(
        &self,
        message: &Message,
        room: RoomId,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        self.to_all_comets(message, &Target::Room(room), report)?;
        self.metrics.pushes("room").inc();
        Ok(())
    }

    /// To everyone; `speed` is in connections a second over all comets, 0 for as fast as it goes.
    pub fn everyone(
        &self,
        message: &Message,
        speed: i32,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        // goim's job shares the speed among the comets.
        let comets = i32::try_from(self.comets.known().len())
            .unwrap_or(i32::MAX)
            .max(1);
        let speed = if speed > 0 {
            (speed / comets).max(1)
        } else {
            0
        };
        self.to_all_comets(message, &Target::Everyone { speed }, report)?;
        self.metrics.pushes("all").inc();
        Ok(())
    }

    async fn to_sessions(
        &self,
        message: &Message,
        online: Vec<(String, Holder)>,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let mut by_comet: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for (key, holder) in online {
            by_comet.entry(holder.server).or_default().push(key);
        }
        let known = self.stored(self.comets.known_with(by_comet.keys()).await)?;
        let targets = by_comet.into_iter().map(|(comet, keys)| {
            let parts = keys.chunks(self.keys_per_call);
            (
                comet,
                parts.map(|part| Target::Keys(part.to_vec())).collect(),
            )
        });
        self.enqueue(message, targets.collect(), &known, report)
    }

    fn to_all_comets(
        &self,
        message: &Message,
        target: &Target,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let known = self.comets.known();
        if known.is_empty() {
            self.metrics.refused_pushes("no_comet").inc();
            return Err(PushError::NoComet);
        }
        let targets = known
            .keys()
            .map(|name| (Arc::clone(name), vec![target.clone()]));
        self.enqueue(message, targets.collect(), &known, report)
    }

    /// Puts the message into the lanes of all comets concerned, or into none. Comets without a lane do not hold up the others:
    /// trying again would not help.
    fn enqueue(
        &self,
        message: &Message,
        targets: ByComet,
        known: &Known,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let mut reserved = Vec::with_capacity(targets.len());
        let mut full = Vec::new();
        let mut unreached = Vec::new();
        for (name, targets) in targets {
            match lane_of(known.get(&name)) {
                Ok(lane) => match lane.reserve(message, targets, report) {
                    Ok(room) => reserved.push(room),
                    Err(refused) => full.push(format!("comet {name} ({refused})")),
                },
                Err(why) => unreached.push((name, targets, why)),
            }
        }
        if !full.is_empty() {
            self.metrics.refused_pushes("lane_full").inc();
            return Err(PushError::Full(Names(full)));
        }
        reserved.iter().for_each(Reservation::announce);
        reserved.into_iter().for_each(Reservation::fill);
        self.lose(unreached, report)
    }

    fn lose(
        &self,
        unreached: Vec<(Arc<str>, Vec<Target>, Loss)>,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let mut names = Vec::new();
        for (comet, targets, why) in unreached {
            tracing::warn!(%comet, reason = why.label(), "there is no lane to a comet");
            for target in &targets {
                self.metrics.lose(why, target.weight());
                if let Some(report) = report {
                    report.lose(why, target);
                }
            }
            names.push(format!("comet {comet} ({why})"));
        }
        if names.is_empty() {
            Ok(())
        } else {
            Err(PushError::Unreached(Names(names)))
        }
    }

    /// Counts a push, `offline` of whose keys or mids have no session; of one that was refused whole, nothing.
    fn count(
        &self,
        target: &'static str,
        offline: usize,
        outcome: Result<(), PushError>,
    ) -> Result<(), PushError> {
        if matches!(outcome, Ok(()) | Err(PushError::Unreached(_))) {
            self.metrics.offline.inc_by(offline as u64);
        }
        outcome?;
        self.metrics.pushes(target).inc();
        Ok(())
    }

    fn stored<T>(&self, answer: Result<T, StoreError>) -> Result<T, PushError> {
        if answer.is_err() {
            self.metrics.refused_pushes("store").inc();
        }
        Ok(answer?)
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("comets", &self.comets)
            .finish_non_exhaustive()
    }
}

fn lane_of(comet: Option<&Arc<Comet>>) -> Result<&Lane, Loss> {
    let comet = comet.ok_or(Loss::NotKnown)?;
    comet.lane.as_deref().ok_or(Loss::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_goims_frame() {
        let message = Message::new(1000, b"hi");
        let header = [0, 0, 0, 18, 0, 16, 0, 1, 0, 0, 0x03, 0xe8, 0, 0, 0, 0];
        assert_eq!(message.frame()[..], [&header[..], b"hi"].concat());
        assert_eq!(message.body(), "hi");
    }

    #[test]
    fn long_lists_end_in_a_number_and_carry_no_control_characters() {
        let names = |count: usize| Names((0..count).map(|n| n.to_string()).collect()).to_string();
        assert_eq!(names(2), "0, 1");
        assert!(names(20).ends_with("18, 19"));
        assert!(names(1_000).ends_with("18, 19 and 980 more"));
        assert_eq!(Names(vec!["a\r\nb\u{7}".to_owned()]).to_string(), "ab");
    }
}
