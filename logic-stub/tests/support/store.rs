//! A store in this process whose registrations wait where a test has them wait, and that fails and forgets when it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use logic_stub::{
    Config, LogicStub,
    clock::Clock,
    sessions::{
        Answer, Holder, LeaseRenewal, Leases, MemorySessions, Registration, Renewal, RoomCounts,
        Session, Sessions, StoreError, memory,
    },
};
use parking_lot::Mutex;
use protocol::grpc::goim::logic::CometInfo;
use tokio::sync::Semaphore;

use super::{Running, start_with, until};

/// The store. All but registrations is done at once.
pub struct Gated {
    pub store: MemorySessions,
    gate: Gate,
    generation: AtomicU64,
    asked: AtomicUsize,
    /// What it answers who asks for keys.
    refusal: Mutex<Option<StoreError>>,
}

/// Where registrations wait, in the order in which they come.
struct Gate {
    came: AtomicUsize,
    passes: Semaphore,
}

impl Gated {
    /// Its registrations wait before they change anything, until they are [let in](Self::let_in).
    pub fn closed() -> Arc<Self> {
        let limits = memory::Limits {
            expire: Duration::from_mins(30),
            lease: Duration::from_mins(30),
            max_sessions: 10,
            max_comets: 10,
        };
        let gate = Gate {
            came: AtomicUsize::new(0),
            passes: Semaphore::new(0),
        };
        Arc::new(Self {
            store: MemorySessions::new(limits, Clock::system()),
            gate,
            generation: AtomicU64::new(1),
            asked: AtomicUsize::new(0),
            refusal: Mutex::default(),
        })
    }

    /// Nothing waits.
    pub fn open() -> Arc<Self> {
        let gated = Self::closed();
        gated.gate.passes.add_permits(1_000);
        gated
    }

    /// From now on, who asks for keys is told this.
    pub fn refuse(&self, why: Option<StoreError>) {
        *self.refusal.lock() = why;
    }

    /// How often somebody asked for keys.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// It has started anew, without this session.
    pub async fn forget(&self, session: &Session) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        assert!(self.store.remove(session).await.unwrap());
    }

    /// A logic-stub whose sessions are here.
    pub fn start(self: &Arc<Self>, config: Config) -> Running {
        let sessions = Arc::clone(self) as Arc<dyn Sessions>;
        start_with(LogicStub::builder(config).sessions(sessions))
    }

    /// Waits until so many registrations have come, those that were let in among them.
    pub async fn until_come(&self, count: usize) {
        until(|| self.gate.came.load(Ordering::Relaxed) == count).await;
    }

    /// Lets one more registration in.
    pub fn let_in(&self) {
        self.gate.passes.add_permits(1);
    }
}

impl Gate {
    async fn pass(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
        self.passes.acquire().await.unwrap().forget();
    }
}

impl Sessions for Gated {
    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn generation(&self) -> Answer<'_, u64> {
        Box::pin(async { Ok(self.generation.load(Ordering::Relaxed)) })
    }

    fn register<'a>(&'a self, session: &'a Session) -> Answer<'a, Registration> {
        Box::pin(async move {
            self.gate.pass().await;
            self.store.register(session).await
        })
    }

    fn renew<'a>(&'a self, session: &'a Session) -> Answer<'a, Renewal> {
        self.store.renew(session)
    }

    fn remove<'a>(&'a self, session: &'a Session) -> Answer<'a, bool> {
        self.store.remove(session)
    }

    fn holders<'a>(&'a self, keys: &'a [String]) -> Answer<'a, Vec<Option<Holder>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.refusal.lock().clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.store.holders(keys),
        }
    }

    fn of_mids<'a>(&'a self, mids: &'a [i64]) -> Answer<'a, Vec<Session>> {
        self.store.of_mids(mids)
    }

    fn report_rooms<'a>(
        &'a self,
        server: &'a str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Answer<'a, ()> {
        self.store.report_rooms(server, epoch, counts)
    }

    fn room_counts(&self) -> Answer<'_, Arc<RoomCounts>> {
        self.store.room_counts()
    }

    fn renew_lease<'a>(&'a self, server: &'a str, info: CometInfo) -> Answer<'a, LeaseRenewal> {
        self.store.renew_lease(server, info)
    }

    fn leases(&self) -> Answer<'_, Leases> {
        self.store.leases()
    }
}
