//! Closing connections from outside: because someone asks for it, or because logic-stub itself sees that they must go.
//!
//! A connection that the store knows by its id is kicked by that id, so that a kick never hits a successor which logged in
//! while it was on its way.
//!
//! # Layout
//!
//! - [`Kicker`]: kicks that are asked for, and whose outcome is waited for; and the end of a whole comet
//! - [`later`]: those that are told in the background, and tried again
//! - [`policy`]: which connections of a user must go

pub mod later;
pub mod policy;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use protocol::{
    RoomId,
    grpc::comet::v1::{
        Addresses, Cause, Comeback, Connection, Connections, DrainRequest, Keys, KickReply,
        KickRequest, comet_client::CometClient, kick_request::Target,
    },
};
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    comets::{Comet, Comets, Known},
    metrics::Metrics,
    sessions::{Holder, Sessions, StoreError},
};

/// Kicks that are asked for. Shared by all requests.
pub struct Kicker {
    sessions: Arc<dyn Sessions>,
    comets: Arc<Comets>,
    metrics: Arc<Metrics>,
    limits: Limits,
}

/// Bounds of the calls to one comet.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For all calls of one kick.
    pub timeout: Duration,
    /// Keys or connections in one call.
    pub keys_per_call: usize,
    /// Bytes of one call.
    pub max_message: usize,
}

/// What clients are told by a kick.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Why; empty: the cause's own text.
    pub reason: String,
    /// Whether to come back; absent: the cause says it.
    pub comeback: Option<Comeback>,
}

impl From<&str> for Words {
    fn from(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            comeback: None,
        }
    }
}

/// What became of a kick.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kicked {
    /// Connections that were told to close.
    pub kicked: u64,
    /// The keys or mids among those that were named of whom nothing is connected.
    pub absent: Vec<String>,
    /// Comets that were not reached, or only for a part, and why.
    pub unreached: BTreeMap<String, String>,
}

/// Why nobody was kicked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KickError {
    /// The store did not say where the sessions are.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no comet at all.
    #[error("no comet is known")]
    NoComet,
}

/// Why a comet does not begin its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The store did not say which comets there are.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The comet did not take the call.
    #[error("{0}")]
    Comet(#[from] Failure),
}

/// Why a comet did not do as it was told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// No comet of this name lives.
    #[error("not known")]
    NotKnown,
    /// It has no address to be called at.
    #[error("without an address")]
    NoAddress,
    /// goim's own comet.
    #[error("it lacks comet.v1")]
    Unimplemented,
    /// No answer came in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It does not want to.
    #[error("it refused: {0}")]
    Refused(String),
    /// It cannot be reached.
    #[error("away: {0}")]
    Away(String),
}

/// Those whom a kick means, at one comet.
#[derive(Debug, Default)]
struct Named {
    connections: Vec<Connection>,
    /// Sessions of which no connection is known, such as those that goim's logic wrote down.
    keys: Vec<String>,
}

/// What the comets said, together.
#[derive(Debug, Default)]
struct Answers {
    kicked: u64,
    absent_keys: Vec<String>,
    unreached: BTreeMap<String, String>,
}

impl Kicker {
    /// Finds sessions in `sessions` and calls `comets`.
    pub fn new(
        sessions: Arc<dyn Sessions>,
        comets: Arc<Comets>,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        Self {
            sessions,
            comets,
            metrics,
            limits,
        }
    }

    /// Closes the connections that have these keys now.
    pub async fn keys(&self, mut keys: Vec<String>, words: &Words) -> Result<Kicked, KickError> {
        keys.sort_unstable();
        keys.dedup();
        let holders = self.sessions.holders(&keys).await?;
        let mut absent = Vec::new();
        let mut online = Vec::new();
        for (key, holder) in keys.into_iter().zip(holders) {
            match holder {
                Some(holder) => online.push((key, holder)),
                None => absent.push(key),
            }
        }
        let answers = self.sessions_named(online, words).await?;
        absent.extend(answers.absent_keys);
        Ok(Kicked {
            kicked: answers.kicked,
            absent,
            unreached: answers.unreached,
        })
    }

    /// Closes all connections that these users have now.
    pub async fn mids(&self, mut mids: Vec<i64>, words: &Words) -> Result<Kicked, KickError> {
        mids.sort_unstable();
        mids.dedup();
        let sessions = self.sessions.of_mids(&mids).await?;
        let mut owners: HashMap<String, i64> = HashMap::new();
        let mut online = Vec::new();
        for session in sessions {
            owners.insert(session.key.clone(), session.mid);
            online.push((session.key, session.holder));
        }
        let answers = self.sessions_named(online, words).await?;
        for key in &answers.absent_keys {
            owners.remove(key);
        }
        let there: HashSet<i64> = owners.into_values().collect();
        let absent = mids.iter().filter(|mid| !there.contains(mid));
        Ok(Kicked {
            kicked: answers.kicked,
            absent: absent.map(ToString::to_string).collect(),
            unreached: answers.unreached,
        })
    }

    /// Closes everyone who is in a room now, at every comet that lives.
    pub async fn room(&self, room: &RoomId, words: &Words) -> Result<Kicked, KickError> {
        let target = Target::Room(room.as_str().to_owned());
        self.everywhere(&target, words).await
    }

    /// Closes everyone who came from one of these addresses and networks, at every comet that lives.
    pub async fn addresses(
        &self,
        networks: Vec<String>,
        words: &Words,
    ) -> Result<Kicked, KickError> {
        let target = Target::Addresses(Addresses { networks });
        self.everywhere(&target, words).await
    }

    /// Begins the end of a comet; returns how many connections it has.
    pub async fn drain(&self, server: &str) -> Result<u32, DrainError> {
        let name: Arc<str> = server.into();
        let known = self.comets.known_with([&name].into_iter()).await?;
        let deadline = Instant::now() + self.limits.timeout;
        let (mut client, request) = client(known.get(&name), DrainRequest {}, &self.limits)?;
        let reply = answer(client.drain(request), deadline, &self.limits).await?;
        Ok(reply.connections)
    }

    async fn everywhere(&self, target: &Target, words: &Words) -> Result<Kicked, KickError> {
        let known = self.comets.known();
        if known.is_empty() {
            return Err(KickError::NoComet);
        }
        let requests = || vec![request(target.clone(), Cause::Kicked, words)];
        let calls = known.keys().map(|name| (Arc::clone(name), requests()));
        let answers = self.call_all(calls.collect(), &known).await;
        Ok(Kicked {
            kicked: answers.kicked,
            absent: Vec::new(),
            unreached: answers.unreached,
        })
    }

    async fn sessions_named(
        &self,
        online: Vec<(String, Holder)>,
        words: &Words,
    ) -> Result<Answers, StoreError> {
        let mut by_comet: BTreeMap<Arc<str>, Named> = BTreeMap::new();
        for (key, Holder { server, connection }) in online {
            let named = by_comet.entry(server).or_default();
            match connection {
                Some(connection) => named.connections.push(Connection {
                    key,
                    epoch: connection.epoch,
                    id: connection.id,
                }),
                None => named.keys.push(key),
            }
        }
        let known = self.comets.known_with(by_comet.keys()).await?;
        let calls = by_comet.into_iter().map(|(name, named)| {
            let requests = named.requests(self.limits.keys_per_call, words);
            (name, requests)
        });
        Ok(self.call_all(calls.collect(), &known).await)
    }

    /// Calls all comets at once, each by one call after the other.
    async fn call_all(&self, calls: Vec<(Arc<str>, Vec<KickRequest>)>, known: &Known) -> Answers {
        let deadline = Instant::now() + self.limits.timeout;
        let calling = calls.into_iter().map(|(name, requests)| async move {
            let mut answers = Answers::default();
            for request in requests {
                match call(known.get(&name), request, deadline, &self.limits).await {
                    Ok(reply) => {
                        answers.kicked += u64::from(reply.kicked);
                        answers.absent_keys.extend(reply.absent_keys);
                    }
                    Err(failure) => {
                        tracing::warn!(comet = %name, %failure, "a comet does not take a kick");
                        let (name, why) = (name.as_ref().to_owned(), failure.to_string());
                        answers.unreached.insert(name, why);
                        break;
                    }
                }
            }
            answers
        });
        let mut calling: FuturesUnordered<_> = calling.collect();
        let mut all = Answers::default();
        while let Some(answers) = calling.next().await {
            all.kicked += answers.kicked;
            all.absent_keys.extend(answers.absent_keys);
            all.unreached.extend(answers.unreached);
        }
        self.metrics.kicked("asked").inc_by(all.kicked);
        all
    }
}

impl Named {
    fn requests(self, max: usize, words: &Words) -> Vec<KickRequest> {
        let connections = self.connections.chunks(max).map(|part| {
            let connections = part.to_vec();
            Target::Connections(Connections { connections })
        });
        let keys = self.keys.chunks(max).map(|part| {
            let keys = part.to_vec();
            Target::Keys(Keys { keys })
        });
        connections
            .chain(keys)
            .map(|target| request(target, Cause::Kicked, words))
            .collect()
    }
}

impl Failure {
    /// The reason in metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NotKnown | Self::NoAddress | Self::Silent(_) | Self::Away(_) => "comet_away",
            Self::Unimplemented => "unimplemented",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether the same call may do better later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::NotKnown | Self::NoAddress | Self::Silent(_) | Self::Away(_) => true,
            Self::Unimplemented | Self::Refused(_) => false,
        }
    }
}

impl fmt::Debug for Kicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kicker")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

pub(crate) fn request(target: Target, cause: Cause, words: &Words) -> KickRequest {
    KickRequest {
        target: Some(target),
        reason: words.reason.clone(),
        cause: cause.into(),
        comeback: words.comeback,
    }
}

/// Makes one call to a comet.
pub(crate) async fn call(
    comet: Option<&Arc<Comet>>,
    request: KickRequest,
    deadline: Instant,
    limits: &Limits,
) -> Result<KickReply, Failure> {
    let (mut client, request) = client(comet, request, limits)?;
    answer(client.kick(request), deadline, limits).await
}

/// The way of a call to a comet beside its lane, and the request for it, which shows the comet who calls.
pub(crate) fn client<T>(
    comet: Option<&Arc<Comet>>,
    message: T,
    limits: &Limits,
) -> Result<(CometClient<Channel>, Request<T>), Failure> {
    let comet = comet.ok_or(Failure::NotKnown)?;
    let lane = comet.lane.as_ref().ok_or(Failure::NoAddress)?;
    let client = CometClient::new(lane.calls())
        .max_decoding_message_size(limits.max_message)
        .max_encoding_message_size(limits.max_message);
    Ok((client, lane.request(message)))
}

/// Waits for a comet's answer.
pub(crate) async fn answer<T>(
    calling: impl Future<Output = Result<Response<T>, Status>>,
    deadline: Instant,
    limits: &Limits,
) -> Result<T, Failure> {
    match timeout_at(deadline, calling).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(failure(&status)),
        Err(_) => Err(Failure::Silent(limits.timeout)),
    }
}

fn failure(status: &Status) -> Failure {
    let text = status.message().to_owned();
    match status.code() {
        Code::Unimplemented => Failure::Unimplemented,
        Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied => Failure::Refused(text),
        _ => Failure::Away(text),
    }
}
