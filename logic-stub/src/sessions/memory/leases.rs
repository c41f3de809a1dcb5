//! Which comets live, and what is visible because of it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::grpc::goim::logic::CometInfo;

use super::Limits;
use crate::sessions::{self, Connection, Ended, Holder, Lease, LeaseRenewal, StoreError};

/// All leases, also dead ones that may come back.
#[derive(Debug, Default)]
pub(super) struct Leases(HashMap<Arc<str>, Record>);

#[derive(Debug)]
struct Record {
    info: Arc<CometInfo>,
    renewed: Instant,
    dies: Instant,
}

impl Leases {
    pub(super) fn renew(
        &mut self,
        server: &str,
        info: CometInfo,
        limits: &Limits,
        now: Instant,
    ) -> Result<LeaseRenewal, StoreError> {
        let Self(leases) = self;
        let outcome = match leases.get(server) {
            Some(lease) if lease.info.epoch > info.epoch => return Ok(LeaseRenewal::Superseded),
            Some(lease) if lease.info.epoch == info.epoch => LeaseRenewal::Known,
            None if leases.len() >= limits.max_comets => return Err(limits.too_many_comets()),
            Some(_) | None => LeaseRenewal::New,
        };
        let life = if info.leaving {
            Duration::ZERO
        } else {
            limits.lease
        };
        let record = Record {
            info: Arc::new(info),
            renewed: now,
            dies: now + life,
        };
        leases.insert(server.into(), record);
        Ok(outcome)
    }

    /// Forgets leases that have been dead for `expire`: as long as sessions of their epoch can be, so that a comet that was
    /// cut off finds its sessions again.
    pub(super) fn sweep(&mut self, expire: Duration, now: Instant) {
        self.0.retain(|_, lease| lease.dies + expire > now);
    }

    /// Which of them live at `now`, and which have ended.
    pub(super) fn all(&self, now: Instant) -> sessions::Leases {
        let mut all = sessions::Leases::default();
        for (server, record) in &self.0 {
            let server = Arc::clone(server);
            if record.dies > now {
                all.alive.push(Lease {
                    server,
                    info: Arc::clone(&record.info),
                    renewed: record.renewed,
                });
            } else if !record.info.leaving {
                let since = now - record.dies;
                all.ended.push(Ended { server, since });
            }
        }
        all
    }

    /// Until when the lease of this epoch lives, if nothing renews it.
    pub(super) fn lives_until(&self, server: &str, epoch: u64) -> Option<Instant> {
        let lease = self.0.get(server)?;
        (lease.info.epoch == epoch).then_some(lease.dies)
    }

    /// Whether what the holder has is visible.
    pub(super) fn shows(&self, holder: &Holder, now: Instant) -> bool {
        holder.connection.is_none_or(|Connection { epoch, .. }| {
            self.lives_until(&holder.server, epoch)
                .is_some_and(|dies| dies > now)
        })
    }

    /// Whether the holder is of an epoch that is over for good.
    pub(super) fn buried(&self, holder: &Holder) -> bool {
        let lease = self.0.get(&holder.server);
        holder
            .connection
            .zip(lease)
            .is_some_and(|(connection, lease)| lease.info.epoch > connection.epoch)
    }
}
