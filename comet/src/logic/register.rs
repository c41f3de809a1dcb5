//! All sessions once more: after logic, or its store, has lost them. A Heartbeat registers a session that logic does not know, as
//! in goim.

use std::{sync::Arc, time::Duration};

use common::backoff::Backoff;
use futures_util::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{CallError, Session};
use crate::{channel::Channel, gateway::Gateway};

/// Parts of a second in which a share of the rate is registered: short enough that logic sees a steady flow.
const SHARES: u32 = 20;

/// Heartbeats under way at once.
const UNDER_WAY: usize = 64;

/// Registers every connection of this comet, about `rate` a second. Those that log in meanwhile may be registered once more,
/// which changes nothing.
pub(super) async fn all(gateway: &Gateway, rate: u32) {
    let share = rate.div_ceil(SHARES) as usize;
    let mut ticks = interval(Duration::from_secs(1) / SHARES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut registered = 0_usize;
    for bucket in gateway.buckets.all() {
        let mut from = Some(0);
        while let Some(at) = from {
            ticks.tick().await;
            let (some, next) = bucket.list(at, share).await;
            registered += some.len();
            let registering = futures_util::stream::iter(some).for_each_concurrent(
                UNDER_WAY,
                async |(session, channel)| {
                    one(gateway, session, &channel).await;
                },
            );
            registering.await;
            from = next;
        }
    }
    tracing::info!(registered, "all sessions are registered again");
}

/// Registers one session, as long as its connection is open.
async fn one(gateway: &Gateway, session: Arc<Session>, channel: &Channel) {
    let backoff = Backoff::short();
    for attempt in 0.. {
        if channel.closing().is_some() {
            return;
        }
        match gateway.logic.heartbeat(&session).await {
            Ok(()) => break,
            Err(CallError::Superseded) => return,
            Err(CallError::Refused(why) | CallError::Denied(why)) => {
                tracing::warn!(key = %session.key, why, "logic refuses to register a session again");
                return;
            }
            Err(CallError::Unavailable(_)) => {
                let delay = backoff.delay(attempt, &mut rand::rng());
                sleep(delay).await;
            }
        }
    }
    // Its own goodbye may have come to logic before this.
    if channel.closing().is_some() {
        gateway.goodbyes.say(session);
    }
}
