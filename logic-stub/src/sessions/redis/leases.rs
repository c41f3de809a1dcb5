//! Which comets live, and what is visible because of it. That a lease is alive is what Redis says, by its own clock; this
//! process remembers it for a moment, so that pushes need not ask each time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use protocol::grpc::goim::logic::CometInfo;

use super::{
    RedisSessions, millis, names, record,
    scripts::{ENLIST, READ_LEASE, RENEW_LEASE},
    wire::{Call, read},
};
use crate::sessions::{Connection, Holder, Lease, LeaseRenewal, StoreError};

/// How long it is believed that a lease lives and has its epoch. So long pushes may still go to a comet whose successor has
/// registered elsewhere; they find nobody there.
const BELIEVED: Duration = Duration::from_secs(1);

/// What this process remembers of leases.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<Arc<str>, Memory>>);

#[derive(Debug, Clone, Copy)]
struct Memory {
    epoch: u64,
    until: Instant,
}

/// The epochs of some comets that live.
#[derive(Debug, Default)]
pub(super) struct Alive(HashMap<Arc<str>, u64>);

impl Alive {
    /// Whether what the holder has is visible.
    pub(super) fn shows(&self, holder: &Holder) -> bool {
        holder
            .connection
            .is_none_or(|Connection { epoch, .. }| self.0.get(&holder.server) == Some(&epoch))
    }
}

/// A lease that lives.
struct Found {
    info: CometInfo,
    left: Duration,
}

impl Remembered {
    fn put(&self, server: &Arc<str>, epoch: u64, until: Instant) {
        let memory = Memory { epoch, until };
        self.0.lock().insert(Arc::clone(server), memory);
    }

    /// What is known of the comets of `holders`, and the names of those who have to be asked for.
    fn of<'a>(
        &self,
        holders: impl Iterator<Item = &'a Holder>,
        now: Instant,
    ) -> (Alive, BTreeSet<Arc<str>>) {
        let mut alive = Alive::default();
        let mut unknown = BTreeSet::new();
        let memories = self.0.lock();
        for holder in holders {
            let Some(Connection { epoch, .. }) = holder.connection else {
                continue;
            };
            match memories.get(&holder.server) {
                // A later epoch than the holder's is as good an answer: epochs do not go back.
                Some(memory) if memory.until > now && memory.epoch >= epoch => {
                    alive.0.insert(Arc::clone(&holder.server), memory.epoch);
                }
                Some(_) | None => {
                    unknown.insert(Arc::clone(&holder.server));
                }
            }
        }
        (alive, unknown)
    }
}

impl RedisSessions {
    /// Who among the comets of `holders` lives.
    pub(super) async fn alive<'a>(
        &self,
        holders: impl Iterator<Item = &'a Holder>,
    ) -> Result<Alive, StoreError> {
        let (mut alive, unknown) = self.remembered.of(holders, self.clock.now());
        if !unknown.is_empty() {
            let unknown: Vec<Arc<str>> = unknown.into_iter().collect();
            let found = self.read_leases(&unknown).await?;
            for (server, found) in unknown.into_iter().zip(found) {
                match found {
                    Some(found) => alive.0.insert(server, found.info.epoch),
                    None => alive.0.remove(&server),
                };
            }
        }
        Ok(alive)
    }

    pub(super) async fn renew_lease_now(
        &self,
        server: &str,
        info: CometInfo,
    ) -> Result<LeaseRenewal, StoreError> {
        self.enlist(server).await?;
        let now = self.clock.now();
        let call = Call::script(
            &RENEW_LEASE,
            [names::lease(server), names::alive(server)],
            [
                record::epoch(info.epoch).as_bytes(),
                &info.encode_to_vec(),
                millis(self.limits.lease).as_bytes(),
                millis(self.limits.lease + self.limits.expire).as_bytes(),
            ],
        );
        let outcome = match self.wire.ask::<i64>(call).await? {
            0 => LeaseRenewal::New,
            1 => LeaseRenewal::Known,
            _ => return Ok(LeaseRenewal::Superseded),
        };
        let believed = BELIEVED.min(self.limits.lease);
        self.remembered
            .put(&server.into(), info.epoch, now + believed);
        Ok(outcome)
    }

    /// Puts a comet's name on the list.
    pub(super) async fn enlist(&self, server: &str) -> Result<(), StoreError> {
        let call = Call::script(
            &ENLIST,
            [names::COMETS.to_owned()],
            [
                server.as_bytes(),
                millis(self.limits.lease + self.limits.expire).as_bytes(),
                self.limits.max_comets.to_string().as_bytes(),
            ],
        );
        match self.wire.ask::<i64>(call).await? {
            1 => Ok(()),
            _ => Err(self.limits.too_many_comets()),
        }
    }

    /// The names on the list: comets that were heard of not too long ago.
    pub(super) async fn listed(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(names::COMETS).arg(0).arg(-1);
        let listed: Vec<String> = self.wire.ask(Call::Plain(command)).await?;
        Ok(listed.into_iter().map(Into::into).collect())
    }

    pub(super) async fn leases_now(&self) -> Result<Vec<Lease>, StoreError> {
        let listed = self.listed().await?;
        let now = self.clock.now();
        let found = self.read_leases(&listed).await?;
        let lease = |(server, found): (Arc<str>, Option<Found>)| {
            let found = found?;
            let age = self.limits.lease.saturating_sub(found.left);
            Some(Lease {
                server,
                info: Arc::new(found.info),
                renewed: now.checked_sub(age).unwrap_or(now),
            })
        };
        Ok(listed.into_iter().zip(found).filter_map(lease).collect())
    }

    fn read_leases<'a>(
        &'a self,
        servers: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<Vec<Option<Found>>, StoreError>> {
        Box::pin(async move {
            let now = self.clock.now();
            let call = |server: &Arc<str>| {
                let keys = [names::lease(server), names::alive(server)];
                Call::script(&READ_LEASE, keys, [])
            };
            let answers = self
                .wire
                .ask_all(servers.iter().map(call).collect())
                .await?;
            let mut leases = Vec::with_capacity(answers.len());
            for (server, answer) in servers.iter().zip(answers) {
                let found = found(server, read(answer)?);
                if let Some(Found { info, left }) = &found {
                    let believed = BELIEVED.min(*left);
                    self.remembered.put(server, info.epoch, now + believed);
                } else {
                    self.remembered.0.lock().remove(server);
                }
                leases.push(found);
            }
            Ok(leases)
        })
    }
}

fn found(server: &str, (info, left): (Option<Vec<u8>>, i64)) -> Option<Found> {
    let left = Duration::from_millis(u64::try_from(left).ok()?);
    match CometInfo::decode(info?.as_slice()) {
        Ok(info) => Some(Found { info, left }),
        Err(error) => {
            tracing::warn!(server, %error, "what a comet said of itself is not readable");
            None
        }
    }
}
