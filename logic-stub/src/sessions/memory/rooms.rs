//! What comets report of their rooms, and the sum of it.

use std::{collections::HashMap, sync::Arc, time::Instant};

use super::{Limits, REPORT_MAX_AGE};
use crate::sessions::{RoomCounts, StoreError};

/// The last report of each comet.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    reports: HashMap<Arc<str>, Report>,
    /// Until when the sum holds if nothing is reported or leased.
    sum: Option<(Arc<RoomCounts>, Instant)>,
}

#[derive(Debug)]
struct Report {
    epoch: Option<u64>,
    counts: RoomCounts,
    lapses: Instant,
}

impl Rooms {
    pub(super) fn report(
        &mut self,
        server: &str,
        epoch: Option<u64>,
        counts: RoomCounts,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), StoreError> {
        if self.reports.len() >= limits.max_comets && !self.reports.contains_key(server) {
            return Err(limits.too_many_comets());
        }
        let lapses = now + REPORT_MAX_AGE;
        let report = Report {
            epoch,
            counts,
            lapses,
        };
        self.reports.insert(server.into(), report);
        self.sum = None;
        Ok(())
    }

    /// To be called when leases have changed.
    pub(super) fn leases_changed(&mut self) {
        self.sum = None;
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.reports.retain(|_, report| report.lapses > now);
    }

    pub(super) fn sum(
        &mut self,
        now: Instant,
        until_when: impl Fn(&str, u64) -> Option<Instant>,
    ) -> Arc<RoomCounts> {
        if let Some((sum, until)) = &self.sum
            && *until > now
        {
            return Arc::clone(sum);
        }
        let mut sum = RoomCounts::new();
        let mut until = now + REPORT_MAX_AGE;
        for (server, report) in &self.reports {
            let leased_until = match report.epoch {
                Some(epoch) => until_when(server, epoch),
                None => Some(report.lapses),
            };
            let Some(counts_until) = leased_until.map(|until| until.min(report.lapses)) else {
                continue;
            };
            if counts_until <= now {
                continue;
            }
            until = until.min(counts_until);
            for (room, count) in &report.counts {
                // Most rooms are known after the first report: look before making a name.
                if let Some(total) = sum.get_mut(room) {
                    *total = total.saturating_add(*count);
                } else {
                    sum.insert(room.clone(), *count);
                }
            }
        }
        let sum = Arc::new(sum);
        self.sum = Some((Arc::clone(&sum), until));
        sum
    }
}
