//! A bucket holds a share of the connections and their rooms. It is an actor: it alone owns its maps, and joining, leaving and
//! pushing are messages to it, taken in order. So its maps need no lock, and a room's order is the order in which it was
//! pushed.
//!
//! # Layout
//!
//! - [`Buckets`], [`Bucket`]: the handles, and the messages that go into the inboxes
//! - [`tally`]: what became of a push, over all buckets concerned
//! - `actor`: the loop
//! - `members`: the maps
//! - `fanout`: joining what waits, and serving it in slices

mod actor;
mod fanout;
mod members;
pub mod tally;

use std::{hash::BuildHasher as _, sync::Arc};

use protocol::{Frame, Header, RoomId};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::actor::Inboxes;
use self::{
    actor::Actor,
    fanout::JoinLimits,
    tally::{Counts, Part},
};
use crate::{
    channel::Channel,
    clock::Clock,
    close::Farewell,
    config,
    logic::Session,
    metrics::Metrics,
    networks::Networks,
    room::{Room, Rooms},
};

/// A connection among those of its bucket.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key that logic gave it.
    pub key: Arc<str>,
    /// The connection's id: of all that had the key, this one.
    pub id: u64,
}

/// What changes a bucket's maps.
#[derive(Debug)]
pub enum Control {
    /// A login: replaces an older connection of the key, and answers Auth.
    Join(Box<Join>),
    /// The end of a connection; without effect if the key has a successor.
    Leave(Identity),
    /// Another room, or none; then the answer.
    ChangeRoom(Identity, Option<RoomId>, Reply),
    /// More accepted operations; then the answer.
    Sub(Identity, Vec<i32>, Reply),
    /// Fewer accepted operations; then the answer.
    Unsub(Identity, Vec<i32>, Reply),
    /// Closes connections; answers how many, and who is not here.
    Kick(Whom, Farewell, oneshot::Sender<Kicked>),
    /// Up to so many connections from this place on, and the place to go on from, if there is one.
    List(usize, usize, oneshot::Sender<Listed>),
    /// Has up to so many connections from this place on leave, with these words behind what waits for each; answers how many, and
    /// the place to go on from, if there is one.
    Dismiss(usize, usize, Farewell, oneshot::Sender<Dismissed>),
}

/// Some connections of a bucket, and where the next ones are.
pub type Listed = (Vec<(Arc<Session>, Arc<Channel>)>, Option<usize>);

/// A login.
#[derive(Debug)]
pub struct Join {
    /// Who it is.
    pub session: Arc<Session>,
    /// The connection.
    pub channel: Arc<Channel>,
    /// The room to join.
    pub room: Option<RoomId>,
    /// The operations that it accepts.
    pub accepts: Vec<i32>,
    /// Of the Auth that is answered.
    pub auth: Header,
    /// Is told when it is answered: no other answer may come before.
    pub joined: oneshot::Sender<()>,
}

/// The answer that follows a change: under which header, with which body.
#[derive(Debug)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: Box<[u8]>,
}

/// Who is kicked.
#[derive(Debug)]
pub enum Whom {
    /// Whatever connections have these keys.
    Keys(Vec<String>),
    /// Everyone in the room.
    Room(Arc<Room>),
    /// These connections, by key and id, and no successors of them.
    Connections(Vec<(String, u64)>),
    /// Everyone who came from one of these networks.
    Networks(Arc<Networks>),
}

/// What became of a kick.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kicked {
    /// Connections that were told to close.
    pub count: u32,
    /// The keys of those that were named and are not here.
    pub absent: Vec<String>,
}

/// What became of a dismissal.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dismissed {
    /// Connections that were told.
    pub count: u32,
    /// Where the next ones are.
    pub next: Option<usize>,
}

/// A push to few.
#[derive(Debug)]
pub enum Single {
    /// To these keys, as far as they accept the operation.
    Keys {
        /// Who.
        keys: Vec<String>,
        /// The operation that must be accepted.
        op: i32,
        /// What.
        frame: Frame,
        /// Where the outcome goes.
        part: Part,
    },
    /// A part of a paced broadcast.
    Some {
        /// Who, what, and where in the bucket.
        slice: PacedSlice,
        /// What became of it, and where the next slice starts; `None` at the end.
        next: oneshot::Sender<(Counts, Option<usize>)>,
    },
}

/// A part of a paced broadcast: the connections from one place in a bucket on.
#[derive(Debug)]
pub struct PacedSlice {
    /// The operation that must be accepted.
    pub op: i32,
    /// What.
    pub frame: Frame,
    /// Where to start.
    pub from: usize,
    /// How many at most.
    pub count: usize,
}

/// A push to many.
#[derive(Debug)]
pub struct Fanout {
    /// Who.
    pub target: Target,
    /// What.
    pub frame: Frame,
    /// Where the outcome goes.
    pub part: Part,
}

/// Who gets a fan-out.
#[derive(Debug, Clone)]
pub enum Target {
    /// Everyone in the room.
    Room(Arc<Room>),
    /// Everyone who accepts the operation.
    All {
        /// The operation.
        op: i32,
    },
}

/// The inboxes of one bucket. Each kind has its own bound, so that pushes cannot starve logins.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Joins, leaves and the like.
    pub control: mpsc::Sender<Control>,
    /// Pushes to few.
    pub singles: mpsc::Sender<Single>,
    /// Pushes to many.
    pub fanouts: mpsc::Sender<Fanout>,
}

/// All buckets of a comet.
#[derive(Debug)]
pub struct Buckets {
    buckets: Box<[Bucket]>,
    hasher: foldhash::fast::RandomState,
}

/// What the buckets share with the rest of comet.
#[derive(Debug, Clone)]
pub struct BucketContext {
    /// All rooms.
    pub rooms: Arc<Rooms>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Coarse time, for deadlines.
    pub clock: Clock,
    /// How often deadlines are looked at.
    pub sweep: std::time::Duration,
    /// Operations that one connection may accept.
    pub max_accepts: usize,
    /// How long a client may take nothing of what waits for it.
    pub write_timeout: std::time::Duration,
}

impl Buckets {
    /// Starts the buckets' tasks. They end when all handles are gone.
    pub fn start(config: &config::Bucket, context: &BucketContext) -> Self {
        let size = match config.size {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            size => size,
        };
        let size = size.clamp(1, crate::room::MAX_BUCKETS);
        let buckets = (0..size).map(|index| Bucket::start(index, config, context.clone()));
        Self {
            buckets: buckets.collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// Buckets that nobody serves but the test.
    #[cfg(test)]
    pub(crate) fn unserved(config: &config::Bucket) -> (Self, Vec<Inboxes>) {
        let (buckets, inboxes): (Vec<_>, _) = (0..config.size)
            .map(|_| Bucket::new(config.control, config.inbox))
            .unzip();
        let buckets = Self {
            buckets: buckets.into(),
            hasher: foldhash::fast::RandomState::default(),
        };
        (buckets, inboxes)
    }

    /// The bucket that has the key's connection.
    pub fn of(&self, key: &str) -> &Bucket {
        &self.buckets[self.index_of(key)]
    }

    /// The index of the bucket that has the key's connection.
    pub fn index_of(&self, key: &str) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "reduced modulo the number of buckets"
        )]
        let hash = self.hasher.hash_one(key) as usize;
        hash % self.buckets.len()
    }

    /// All of them, by index.
    pub fn all(&self) -> &[Bucket] {
        &self.buckets
    }
}

impl Bucket {
    fn start(index: usize, config: &config::Bucket, context: BucketContext) -> Self {
        let (bucket, inboxes) = Self::new(config.control, config.inbox);
        let limits = JoinLimits {
            messages: config.join_messages,
            bytes: config.join_bytes,
        };
        let actor = Actor::new(index, context, config.slice, limits);
        tokio::spawn(actor.run(inboxes));
        bucket
    }

    /// Some connections, from a place in the bucket on; none if the bucket has ended.
    pub async fn list(&self, from: usize, count: usize) -> Listed {
        let (answer, listed) = oneshot::channel();
        let asked = self.control.send(Control::List(from, count, answer));
        if asked.await.is_err() {
            return Listed::default();
        }
        listed.await.unwrap_or_default()
    }

    /// The inboxes, with room for so many of control and of each kind of push.
    fn new(control: usize, pushes: usize) -> (Self, Inboxes) {
        let (control, control_inbox) = mpsc::channel(control);
        let (singles, singles_inbox) = mpsc::channel(pushes);
        let (fanouts, fanouts_inbox) = mpsc::channel(pushes);
        let bucket = Self {
            control,
            singles,
            fanouts,
        };
        let inboxes = Inboxes {
            control: control_inbox,
            singles: singles_inbox,
            fanouts: fanouts_inbox,
        };
        (bucket, inboxes)
    }
}
