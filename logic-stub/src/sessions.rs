//! Where clients are connected: sessions, leases of comets and the online counts of rooms, behind one trait.
//!
//! The session of a key is the truth; what is kept per mid is an index, which readers verify and repair. No method needs two
//! keys changed at once that a cluster may keep apart: registering and removing decide by the key's own record. As in goim, a
//! mid of 0 or below is nobody's: its sessions are found by their keys alone.
//!
//! # Layout
//!
//! - [`memory`]: inside this process
//! - [`redis`]: in a Redis server or cluster
//! - `contract`: the test that every implementation passes

#[cfg(test)]
pub(crate) mod contract;
pub mod memory;
pub mod redis;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use protocol::grpc::goim::logic::{CometInfo, ConnectionRef};
use thiserror::Error;

pub use memory::MemorySessions;
pub use redis::RedisSessions;

/// What a store's method answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The online count of each room.
pub type RoomCounts = HashMap<String, i32>;

/// A store of sessions. Shared by all calls; every method may be called at any time from any task.
///
/// A session that came with a [`Connection`] is visible only while its comet's lease lives and has the connection's epoch.
/// One that came without (goim's own comet sends none) is visible until it expires. What is not visible is in no answer.
pub trait Sessions: Send + Sync + 'static {
    /// Whether other processes see what is in it.
    fn is_shared(&self) -> bool;

    /// Changes whenever the store starts anew and may have forgotten what it knew, or a part of it.
    fn generation(&self) -> Answer<'_, u64>;

    /// Writes down that `session.key` is connected at `session.holder`, until it expires. The newest call wins, but a
    /// comet cannot put an older connection of its own in the place of a newer one.
    fn register<'a>(&'a self, session: &'a Session) -> Answer<'a, Registration>;

    /// Starts the session's time to live anew, if the store has it with this holder.
    fn renew<'a>(&'a self, session: &'a Session) -> Answer<'a, Renewal>;

    /// Forgets the session if the store has it with this holder, and says whether it had. A holder without a connection
    /// stands for whatever its server holds under the key, as in goim.
    fn remove<'a>(&'a self, session: &'a Session) -> Answer<'a, bool>;

    /// Who holds each of `keys`, in their order.
    fn holders<'a>(&'a self, keys: &'a [String]) -> Answer<'a, Vec<Option<Holder>>>;

    /// The sessions of all of `mids`.
    fn of_mids<'a>(&'a self, mids: &'a [i64]) -> Answer<'a, Vec<Session>>;

    /// Replaces what `server` said of its rooms. `epoch` is that of its lease, if it has one.
    fn report_rooms<'a>(
        &'a self,
        server: &'a str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Answer<'a, ()>;

    /// The sum of all reports that are not older than five minutes and whose comet's lease, if it has one, lives.
    fn room_counts(&self) -> Answer<'_, Arc<RoomCounts>>;

    /// Renews a comet's lease. A later epoch takes the name over, and what was of earlier epochs is gone. One that says that it is
    /// `leaving` has no lease any more, until it says otherwise.
    fn renew_lease<'a>(&'a self, server: &'a str, info: CometInfo) -> Answer<'a, LeaseRenewal>;

    /// Which leases live, or were perhaps lost by the store before their end, and which have ended.
    fn leases(&self) -> Answer<'_, Leases>;
}

/// One client's connection, as pushes find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The user.
    pub mid: i64,
    /// The connection's name.
    pub key: String,
    /// Where it is.
    pub holder: Holder,
    /// Who is at its other end.
    pub client: Client,
}

/// What is known of a connection's other end. Goim's comet says nothing of its door and address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// By which door it came in: tcp, websocket, ...
    pub door: String,
    /// Its address and port.
    pub address: String,
    /// What kind of client it says it is: `web`, `ios`, ...
    pub platform: String,
}

impl From<&ConnectionRef> for Client {
    fn from(connection: &ConnectionRef) -> Self {
        Self {
            door: connection.door.clone(),
            address: connection.client_address.clone(),
            platform: connection.platform.clone(),
        }
    }
}

/// Who has a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The comet's name.
    pub server: Arc<str>,
    /// Which of the comet's connections; goim's comet does not say.
    pub connection: Option<Connection>,
}

/// One connection among all that a comet of this name ever had. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Of the comet's start.
    pub epoch: u64,
    /// Within the epoch.
    pub id: u64,
}

impl Connection {
    /// About when it logged in, in microseconds since 1970, by its comet's clock.
    pub fn login(&self) -> u64 {
        self.epoch.saturating_add(self.id)
    }
}

impl From<&ConnectionRef> for Connection {
    fn from(connection: &ConnectionRef) -> Self {
        Self {
            epoch: connection.epoch,
            id: connection.id,
        }
    }
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// Nobody held the key.
    New,
    /// The same connection held it already.
    Repeated,
    /// It was taken from this holder, which should close its connection.
    Replaced(Holder),
    /// Nothing changed: the same comet holds the key with this newer connection.
    Superseded(Holder),
}

/// What became of a session's renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It lives on.
    Renewed,
    /// The store has nothing under the key.
    Absent,
    /// Somebody else holds the key.
    Superseded,
}

/// What became of a lease's renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseRenewal {
    /// The store had it, with this epoch; it may have been dead for a while, but its sessions were not forgotten.
    Known,
    /// The store did not have it with this epoch.
    New,
    /// Nothing changed: a comet of a later epoch has the name.
    Superseded,
}

/// All leases that a store knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Leases {
    /// Those that live.
    pub alive: Vec<Lease>,
    /// Those that were not renewed, of comets that did not say that they leave: perhaps they are only cut off, and their clients
    /// are still there. As long as the store remembers them.
    pub ended: Vec<Ended>,
}

/// A lease that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The comet's name.
    pub server: Arc<str>,
    /// For how long it has had none.
    pub since: Duration,
}

/// A comet that lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The comet's name.
    pub server: Arc<str>,
    /// What it said of itself.
    pub info: Arc<CometInfo>,
    /// When it said so.
    pub renewed: Instant,
}

/// Why a store did not do as it was told.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Its bound is reached.
    #[error("the store holds its limit of {max} {what}")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The store cannot be reached or does not answer in time.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store is there and does not do it: an access list, a key of another type, no memory.
    #[error("the store refused: {0}")]
    Refused(String),
    /// It has done it, and may lose it: not enough of its replicas have it.
    #[error(
        "stored, but only {replicas} of {wanted} replicas have it: it may be delivered nevertheless"
    )]
    TooFew {
        /// Those that have it.
        replicas: usize,
        /// Those that should.
        wanted: usize,
    },
    /// It has done a part of what it was told, and not the rest for this reason.
    #[error("only a part is stored: {0}")]
    Partly(Box<Self>),
}
