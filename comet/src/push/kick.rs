//! Kicks: connections are closed from outside, and their clients are told why.

use std::{sync::Arc, time::Duration};

use protocol::{
    grpc::comet::v1::{Cause, Comeback, Connection, KickReply, KickRequest, kick_request::Target},
    op::MAX_KICK_REASON,
};
use tokio::sync::oneshot;
use tonic::Status;

use super::Pusher;
use crate::{
    bucket::{Bucket, Control, Kicked, Whom},
    close::{Advice, CloseReason, Farewell},
    networks::{self, Networks},
};

/// The longest time over which clients can be told to come back.
const MAX_WITHIN: Duration = Duration::from_hours(24);

impl Pusher {
    /// Closes those whom the request means. An error is the caller's fault, and then nobody is closed.
    pub async fn kick(&self, request: KickRequest) -> Result<KickReply, Status> {
        let farewell = farewell(&request)?;
        let target = request.target;
        let target = target.ok_or_else(|| Status::invalid_argument("target: missing"))?;
        let mut reply = KickReply::default();
        let parts = match target {
            Target::Keys(keys) => self.by_key(keys.keys)?,
            Target::Connections(named) => {
                self.by_connection(named.connections, &mut reply.absent_keys)?
            }
            Target::Room(room) => self.by_room(&room),
            Target::Addresses(addresses) => self.by_address(&addresses.networks)?,
        };
        for (bucket, whom) in parts {
            let Kicked { count, absent } = kick_in(bucket, whom, farewell.clone()).await;
            reply.kicked += count;
            reply.absent_keys.extend(absent);
        }
        Ok(reply)
    }

    fn by_key(&self, keys: Vec<String>) -> Result<Vec<(&Bucket, Whom)>, Status> {
        self.check_count("keys", keys.len())?;
        let buckets = &self.gateway.buckets;
        let mut parts = vec![Vec::new(); buckets.all().len()];
        for key in keys {
            parts[buckets.index_of(&key)].push(key);
        }
        Ok(self.concerned(parts, Whom::Keys))
    }

    fn by_connection(
        &self,
        connections: Vec<Connection>,
        absent: &mut Vec<String>,
    ) -> Result<Vec<(&Bucket, Whom)>, Status> {
        self.check_count("connections", connections.len())?;
        let buckets = &self.gateway.buckets;
        let mut parts = vec![Vec::new(); buckets.all().len()];
        for Connection { key, epoch, id } in connections {
            // Those of a comet of this name that was here before have gone with it.
            if epoch == self.gateway.logic.epoch() {
                parts[buckets.index_of(&key)].push((key, id));
            } else {
                absent.push(key);
            }
        }
        Ok(self.concerned(parts, Whom::Connections))
    }

    fn by_room(&self, room: &str) -> Vec<(&Bucket, Whom)> {
        let buckets = self.gateway.buckets.all();
        let Some(room) = self.find_room(room) else {
            return Vec::new();
        };
        let parts = room
            .present()
            .map(|index| (&buckets[index], Whom::Room(Arc::clone(&room))));
        parts.collect()
    }

    fn by_address(&self, networks: &[String]) -> Result<Vec<(&Bucket, Whom)>, Status> {
        self.check_count("addresses", networks.len())?;
        let network = |text: &String| {
            networks::network(text)
                .ok_or_else(|| Status::invalid_argument(format!("addresses: {text:?} is none")))
        };
        let networks: Networks = networks.iter().map(network).collect::<Result<_, _>>()?;
        let networks = Arc::new(networks);
        let buckets = self.gateway.buckets.all().iter();
        let parts = buckets.map(|bucket| (bucket, Whom::Networks(Arc::clone(&networks))));
        Ok(parts.collect())
    }

    fn concerned<T>(
        &self,
        parts: Vec<Vec<T>>,
        whom: impl Fn(Vec<T>) -> Whom,
    ) -> Vec<(&Bucket, Whom)> {
        let parts = self.gateway.buckets.all().iter().zip(parts);
        let concerned = parts.filter(|(_, part)| !part.is_empty());
        concerned
            .map(|(bucket, part)| (bucket, whom(part)))
            .collect()
    }

    fn check_count(&self, field: &str, count: usize) -> Result<(), Status> {
        let max = self.config.max_keys;
        if count > max {
            return Err(Status::invalid_argument(format!(
                "{field}: more than {max}"
            )));
        }
        Ok(())
    }
}

fn farewell(request: &KickRequest) -> Result<Farewell, Status> {
    if request.reason.len() > MAX_KICK_REASON {
        return Err(Status::invalid_argument(format!(
            "reason: over {MAX_KICK_REASON} bytes"
        )));
    }
    let cause =
        Cause::try_from(request.cause).map_err(|_| Status::invalid_argument("cause: not known"))?;
    let reason = match cause {
        Cause::Kicked => CloseReason::Kicked,
        // At another comet, so logic is told of the end like of any other: that takes nothing from the successor, and what is
        // left of this connection goes if logic was wrong.
        Cause::Replaced => CloseReason::Replaced { same_mid: false },
    };
    let advice = request.comeback.map(advice).transpose()?;
    Ok(Farewell {
        advice,
        ..Farewell::with_detail(reason, &request.reason)
    })
}

fn advice(comeback: Comeback) -> Result<Advice, Status> {
    let within = Duration::from_millis(comeback.within_ms.into());
    if within > MAX_WITHIN {
        return Err(Status::invalid_argument("comeback: over a day"));
    }
    Ok(Advice {
        reconnect: comeback.allowed,
        within,
        nodes: Arc::default(),
    })
}

/// Has one bucket kick; nobody if it has ended.
async fn kick_in(bucket: &Bucket, whom: Whom, farewell: Farewell) -> Kicked {
    let (answer, kicked) = oneshot::channel();
    let asked = bucket.control.send(Control::Kick(whom, farewell, answer));
    if asked.await.is_err() {
        return Kicked::default();
    }
    kicked.await.unwrap_or_default()
}
