//! Broadcasts that take their time: goim's `speed`.

use std::{sync::Arc, time::Duration};

use protocol::Frame;
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

use crate::{
    bucket::{PacedSlice, Single, tally::Counts},
    gateway::Gateway,
};

/// Slices a second, unless the speed is below.
const SLICES: u32 = 50;

/// Serves about `speed` connections a second, bucket after bucket, until all are served.
pub(super) async fn broadcast(gateway: Arc<Gateway>, op: i32, frame: Frame, speed: u32) {
    let slices = speed.clamp(1, SLICES);
    let count = speed.div_ceil(slices) as usize;
    let mut ticks = interval(Duration::from_secs(1) / slices);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut all = Counts::default();
    for bucket in gateway.buckets.all() {
        let mut from = Some(0);
        while let Some(at) = from {
            ticks.tick().await;
            let (next, answer) = oneshot::channel();
            let slice = PacedSlice {
                op,
                frame: frame.clone(),
                from: at,
                count,
            };
            if bucket
                .singles
                .send(Single::Some { slice, next })
                .await
                .is_err()
            {
                return;
            }
            let (counts, next) = answer.await.unwrap_or_default();
            all.add(&counts);
            from = next;
        }
    }
    if all == Counts::default() {
        gateway.metrics.nobody.inc_by(frame.messages() as u64);
    }
}
