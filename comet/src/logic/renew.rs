//! RenewOnline: this comet lives, and so many are in its rooms. The answer has the counts over all comets.

use std::{sync::Arc, time::Duration};

use common::readiness::Latch;
use protocol::grpc::goim::logic::{CometInfo, OnlineReq};
use tokio::time::{MissedTickBehavior, interval};

use super::Logic;
use crate::{addresses::Addresses, room::Rooms};

/// Renews for ever, every `period`. `info` is what does not change about this comet.
pub async fn run(
    logic: Logic,
    rooms: Arc<Rooms>,
    addresses: Arc<Addresses>,
    info: CometInfo,
    period: Duration,
    latch: Latch,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        ticks.tick().await;
        let (connections, client_addresses) = addresses.counts();
        let request = OnlineReq {
            server: logic.server().to_owned(),
            room_count: rooms.counts(),
            comet: Some(CometInfo {
                connections,
                client_addresses,
                ..info.clone()
            }),
        };
        match logic.renew_online(request).await {
            Ok(reply) => {
                rooms.set_everywhere(&reply.all_room_count);
                latch.ready();
                if std::mem::take(&mut is_away) {
                    tracing::info!("logic is back");
                }
            }
            Err(error) => {
                latch.not_ready(error.to_string());
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(%error, "RenewOnline fails; connections stay, and it is tried again");
                }
            }
        }
    }
}
