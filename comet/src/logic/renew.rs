//! RenewOnline: this comet lives, and so many are in its rooms. The answer has the counts over all comets.

use std::{sync::Arc, time::Duration};

use common::{backoff::Backoff, readiness::Latch};
use protocol::grpc::goim::logic::{CometInfo, OnlineReply, OnlineReq};
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{CallError, register};
use crate::gateway::Gateway;

/// Why a comet that has just started is not ready.
const SETTLING: &str = "not every logic knows this comet yet";

/// What a renewal tells, and where its answer goes.
#[derive(Debug)]
pub struct Renewal {
    /// Whose rooms and connections.
    pub gateway: Arc<Gateway>,
    /// What does not change about this comet.
    pub info: CometInfo,
    /// Ready while logic answers.
    pub latch: Latch,
    /// Cancelled when logic is to be told that this comet leaves.
    pub leaving: CancellationToken,
}

/// What is known of logic's store.
#[derive(Debug, Default)]
struct Store {
    /// The last generation that a reply named; 0: none did, as goim's logic.
    generation: u64,
}

impl Renewal {
    /// Renews every `period`, until this comet leaves, which logic is told; at once when the end begins, since no new clients are
    /// to come then; sooner, with growing delays, while logic is away: until it has heard of this comet, its new sessions are not
    /// found. The first renewal is followed by one as soon as all who route pushes know this comet. When logic has lost the
    /// sessions, they are registered again.
    pub async fn run(self, period: Duration) {
        let backoff = Backoff::short();
        let longest = self.gateway.logic_config.settle.get();
        let mut failures = 0;
        let mut store = Store::default();
        let mut registering = None;
        // A name that is yet to be looked up is no logic that is away.
        drop(tokio::time::timeout(period, self.gateway.logic.looked_up()).await);
        loop {
            let is_ending = self.gateway.drain.has_begun();
            let result = self.gateway.logic.renew_online(self.request()).await;
            let mut wait = match &result {
                Ok(_) => period,
                Err(_) => backoff.delay(failures, &mut rand::rng()).min(period),
            };
            match result {
                Ok(reply) => {
                    if store.has_lost_sessions(&reply) {
                        // One that is under way began before the loss.
                        registering = Some(self.register_again());
                    }
                    self.gateway.rooms.set_everywhere(&reply.all_room_count);
                    if is_ending {
                        self.gateway.drain.announced();
                    }
                    let known_after = Duration::from_millis(reply.known_after_ms.into());
                    let left = self.gateway.logic.announced(known_after.min(longest));
                    if left.is_zero() {
                        self.latch.ready();
                    } else {
                        self.latch.not_ready(SETTLING);
                        wait = left.min(period);
                    }
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!("logic is back");
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "RenewOnline fails; connections stay, and it is tried again");
                    }
                    match &error {
                        CallError::Unavailable(_) => self.gateway.logic.unannounced(),
                        // It answers, and has no more to say of that: it may know no comets.
                        CallError::Superseded | CallError::Denied(_) | CallError::Refused(_) => {
                            self.gateway.logic.announced(Duration::ZERO);
                        }
                    }
                    self.latch.not_ready(error.to_string());
                    failures = failures.saturating_add(1);
                }
            }
            tokio::select! {
                biased;
                () = self.leaving.cancelled() => break,
                () = self.gateway.drain.begun(), if !is_ending => {}
                () = sleep(wait) => {}
            }
            registering = registering.filter(|task: &AbortOnDropHandle<()>| !task.is_finished());
        }
        drop(registering);
        self.leave().await;
    }

    /// Tells logic that nothing is to be routed here any more. Not in the middle of a renewal, which might come to logic after it.
    async fn leave(&self) {
        let mut request = self.request();
        if let Some(comet) = &mut request.comet {
            comet.leaving = true;
        }
        if let Err(error) = self.gateway.logic.renew_online(request).await {
            tracing::warn!(%error, "logic was not told that this comet leaves: its lease has to run out");
        }
    }

    fn register_again(&self) -> AbortOnDropHandle<()> {
        tracing::warn!("logic has lost this comet's sessions; they are registered again");
        let gateway = Arc::clone(&self.gateway);
        let rate = gateway.logic_config.register_rate;
        AbortOnDropHandle::new(tokio::spawn(
            async move { register::all(&gateway, rate).await },
        ))
    }

    fn request(&self) -> OnlineReq {
        let (connections, client_addresses) = self.gateway.addresses.counts();
        OnlineReq {
            server: self.gateway.logic.server().to_owned(),
            room_count: self.gateway.rooms.counts(),
            comet: Some(CometInfo {
                connections,
                client_addresses,
                offline: self.info.offline || self.gateway.drain.has_begun(),
                ..self.info.clone()
            }),
        }
    }
}

impl Store {
    /// Whether logic's store has begun anew, or has forgotten this comet, since the last reply.
    fn has_lost_sessions(&mut self, reply: &OnlineReply) -> bool {
        if reply.store_generation == 0 {
            return false;
        }
        let known = std::mem::replace(&mut self.generation, reply.store_generation);
        known != 0 && (known != reply.store_generation || !reply.lease_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_generation_or_a_lost_lease_means_lost_sessions() {
        let reply = |store_generation, lease_known| OnlineReply {
            store_generation,
            lease_known,
            ..OnlineReply::default()
        };
        let mut store = Store::default();
        let mut has_lost = |reply| store.has_lost_sessions(&reply);
        // goim's logic, then ours for the first time, which does not know a new comet.
        assert!(!has_lost(reply(0, false)));
        assert!(!has_lost(reply(7, false)));
        assert!(!has_lost(reply(7, true)));
        assert!(has_lost(reply(8, true)));
        assert!(!has_lost(reply(8, true)));
        assert!(has_lost(reply(8, false)));
        // goim's logic, for once, and ours after it.
        assert!(!has_lost(reply(0, false)));
        assert!(has_lost(reply(9, true)));
    }
}
