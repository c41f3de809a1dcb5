//! The way of a push: from keys, mids, a room or everyone to the comets concerned, all of them at once.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::{self, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::join_all;
use protocol::{HEADER_LEN, Header, MessageId, RoomId};
use thiserror::Error;

use crate::{
    comets::{Comet, Comets, Known},
    config::RpcClient,
    send::{SendError, send},
    sessions::{Holder, Sessions, StoreError},
};

/// How many names an error lists before it only counts.
const MAX_NAMED: usize = 20;

/// Routes pushes. Shared by all requests.
pub struct Pusher {
    sessions: Arc<dyn Sessions>,
    comets: Arc<Comets>,
    client: RpcClient,
}

/// A message for clients, encoded once for all comets.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its name in receipts and logs.
    pub id: MessageId,
    /// The operation under which clients get it.
    pub operation: i32,
    frame: Bytes,
}

/// What one comet is to do with a message.
#[derive(Debug, Clone)]
pub struct Push {
    /// To whom.
    pub target: Target,
    /// What.
    pub message: Message,
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
        /// Connections a second over all comets; 0 is as fast as it goes.
        speed: i32,
    },
}

/// Why a push did not reach everyone it was for. Whoever could be reached has got it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The store did not say where the sessions are; nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no comet at all.
    #[error("no comet is known")]
    NoComet,
    /// These comets did not take it.
    #[error("not taken by {0}")]
    Unreached(Names),
}

/// A list for people: long ones end in a number.
#[derive(Debug)]
pub struct Names(Vec<String>);

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
}

impl Pusher {
    /// Routes by what `sessions` knows to `comets`.
    pub fn new(sessions: Arc<dyn Sessions>, comets: Arc<Comets>, client: RpcClient) -> Self {
        Self {
            sessions,
            comets,
            client,
        }
    }

    /// To the connections of these names. Answers which of them are not online.
    pub async fn keys(&self, message: Message, keys: Vec<String>) -> Result<Names, PushError> {
        let holders = self.sessions.holders(&keys).await?;
        let mut absent = Vec::new();
        let mut online = Vec::new();
        for (key, holder) in keys.into_iter().zip(holders) {
            match holder {
                Some(holder) => online.push((key, holder)),
                None => absent.push(key),
            }
        }
        self.to_sessions(message, online).await?;
        Ok(Names(absent))
    }

    /// To all connections of these users. Answers which of them are not online.
    pub async fn mids(&self, message: Message, mids: Vec<i64>) -> Result<Names, PushError> {
        let sessions = self.sessions.of_mids(&mids).await?;
        let online: HashSet<i64> = sessions.iter().map(|session| session.mid).collect();
        let absent = mids.iter().filter(|mid| !online.contains(mid));
        let absent = Names(absent.map(ToString::to_string).collect());
        let sessions = sessions
            .into_iter()
            .map(|session| (session.key, session.holder));
        self.to_sessions(message, sessions.collect()).await?;
        Ok(absent)
    }

    /// To all connections of a room.
    pub async fn room(&self, message: Message, room: RoomId) -> Result<(), PushError> {
        let target = Target::Room(room);
        self.to_all_comets(&Push { target, message }).await
    }

    /// To everyone; `speed` is in connections a second over all comets, 0 for as fast as it goes.
    pub async fn everyone(&self, message: Message, speed: i32) -> Result<(), PushError> {
        // goim's job shares the speed among the comets.
        let comets = i32::try_from(self.comets.known().len())
            .unwrap_or(i32::MAX)
            .max(1);
        let speed = if speed > 0 {
            (speed / comets).max(1)
        } else {
            0
        };
        let target = Target::Everyone { speed };
        self.to_all_comets(&Push { target, message }).await
    }

    async fn to_sessions(
        &self,
        message: Message,
        online: Vec<(String, Holder)>,
    ) -> Result<(), PushError> {
        let mut by_comet: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for (key, holder) in online {
            by_comet.entry(holder.server).or_default().push(key);
        }
        let known = self.known_with(by_comet.keys()).await?;
        let sends = by_comet.into_iter().map(|(name, keys)| {
            let comet = known.get(&name).cloned();
            let message = message.clone();
            async move {
                let sent = match comet {
                    Some(comet) => self.to_keys(&comet, message, keys).await,
                    None => Err(SendError::Unknown),
                };
                (name, sent)
            }
        });
        report(join_all(sends).await)
    }

    /// In calls of a bounded size, one after the other: together they keep the order of the pushes of one pusher.
    async fn to_keys(
        &self,
        comet: &Comet,
        message: Message,
        keys: Vec<String>,
    ) -> Result<(), SendError> {
        let mut outcome = Ok(());
        for part in keys.chunks(self.client.keys_per_call) {
            let target = Target::Keys(part.to_vec());
            let push = Push {
                target,
                message: message.clone(),
            };
            outcome = outcome.and(send(comet, &push, self.client.timeout.get()).await);
        }
        outcome
    }

    async fn to_all_comets(&self, push: &Push) -> Result<(), PushError> {
        let known = self.comets.known();
        if known.is_empty() {
            return Err(PushError::NoComet);
        }
        let sends = known.values().map(|comet| async move {
            let sent = send(comet, push, self.client.timeout.get()).await;
            (Arc::clone(&comet.name), sent)
        });
        report(join_all(sends).await)
    }

    /// The comets known, looked up once more if one of `names` is not among them: it may have registered with another
    /// logic-stub a moment ago.
    async fn known_with<'a>(
        &self,
        names: impl Iterator<Item = &'a Arc<str>>,
    ) -> Result<Arc<Known>, StoreError> {
        let known = self.comets.known();
        if names.into_iter().all(|name| known.contains_key(name)) {
            return Ok(known);
        }
        self.comets.refresh().await?;
        Ok(self.comets.known())
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("comets", &self.comets)
            .finish_non_exhaustive()
    }
}

fn report(sent: Vec<(Arc<str>, Result<(), SendError>)>) -> Result<(), PushError> {
    let failed = sent
        .into_iter()
        .filter_map(|(name, sent)| Some((name, sent.err()?)));
    let failed: Vec<_> = failed
        .map(|(comet, error)| {
            tracing::warn!(%comet, %error, "a comet did not take a push");
            format!("comet {comet} ({error})")
        })
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(PushError::Unreached(Names(failed)))
    }
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
