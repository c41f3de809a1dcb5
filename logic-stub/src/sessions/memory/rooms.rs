//! What comets report of their rooms, and the sum of it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Limits, REPORT_MAX_AGE};
use crate::sessions::{RoomCounts, StoreError};

/// Counts that are added up at once, however often: that takes less than a millisecond.
const FEW: usize = 1_000;

/// How long a sum of more than [`FEW`] stands for each count in it, whatever is reported meanwhile. To add one up takes 0.12
/// to 0.14 us, so sums take less than a tenth of a core: a million counts, of 100 comets, are added up every 2 s.
const STANDS: Duration = Duration::from_micros(2);

/// The last report of each comet.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    reports: HashMap<Arc<str>, Report>,
    sum: Option<Sum>,
}

#[derive(Debug)]
struct Sum {
    counts: Arc<RoomCounts>,
    /// Until when it holds if nothing is reported or leased.
    until: Instant,
    /// Until when it stands all the same.
    stands: Instant,
    is_stale: bool,
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
        self.leases_changed();
        Ok(())
    }

    /// To be called when leases have changed.
    pub(super) fn leases_changed(&mut self) {
        if let Some(sum) = &mut self.sum {
            sum.is_stale = true;
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.reports.retain(|_, report| report.lapses > now);
    }

    pub(super) fn sum(
        &mut self,
        now: Instant,
        until_when: impl Fn(&str, u64) -> Option<Instant>,
    ) -> Arc<RoomCounts> {
        if let Some(sum) = &self.sum
            && (sum.stands > now || (sum.until > now && !sum.is_stale))
        {
            return Arc::clone(&sum.counts);
        }
        let mut sum = RoomCounts::new();
        let mut added = 0;
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
            added += report.counts.len();
            for (room, count) in &report.counts {
                // Most rooms are known after the first report: look before making a name.
                if let Some(total) = sum.get_mut(room) {
                    *total = total.saturating_add(*count);
                } else {
                    sum.insert(room.clone(), *count);
                }
            }
        }
        let counts = Arc::new(sum);
        let stands = match u32::try_from(added).unwrap_or(u32::MAX) {
            added if added as usize > FEW => now + STANDS * added,
            _ => now,
        };
        self.sum = Some(Sum {
            counts: Arc::clone(&counts),
            until,
            stands,
            is_stale: false,
        });
        counts
    }
}
