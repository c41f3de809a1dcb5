//! RenewOnline: this comet lives, and so many are in its rooms. The answer has the counts over all comets.

use std::{sync::Arc, time::Duration};

use common::{backoff::Backoff, readiness::Latch};
use protocol::grpc::goim::logic::{CometInfo, OnlineReq};
use tokio::time::sleep;

use super::Logic;
use crate::{addresses::Addresses, room::Rooms};

/// What a renewal tells, and where its answer goes.
#[derive(Debug)]
pub struct Renewal {
    /// The calls.
    pub logic: Logic,
    /// The rooms with their counts.
    pub rooms: Arc<Rooms>,
    /// The counts of connections.
    pub addresses: Arc<Addresses>,
    /// What does not change about this comet.
    pub info: CometInfo,
    /// Ready while logic answers.
    pub latch: Latch,
}

impl Renewal {
    /// Renews for ever, every `period`; sooner, with growing delays, while logic is away: until it has heard of this comet, its
    /// new sessions are not found.
    pub async fn run(self, period: Duration) {
        let backoff = Backoff::short();
        let mut failures = 0;
        loop {
            let result = self.logic.renew_online(self.request()).await;
            let wait = match &result {
                Ok(_) => period,
                Err(_) => backoff.delay(failures, &mut rand::rng()).min(period),
            };
            match result {
                Ok(reply) => {
                    self.rooms.set_everywhere(&reply.all_room_count);
                    self.latch.ready();
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!("logic is back");
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "RenewOnline fails; connections stay, and it is tried again");
                    }
                    self.latch.not_ready(error.to_string());
                    failures = failures.saturating_add(1);
                }
            }
            sleep(wait).await;
        }
    }

    fn request(&self) -> OnlineReq {
        let (connections, client_addresses) = self.addresses.counts();
        OnlineReq {
            server: self.logic.server().to_owned(),
            room_count: self.rooms.counts(),
            comet: Some(CometInfo {
                connections,
                client_addresses,
                ..self.info.clone()
            }),
        }
    }
}
