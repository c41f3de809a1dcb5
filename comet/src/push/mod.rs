//! Pushes into comet: to keys, to a room, to all. Two gRPC services stand before it: goim's `Comet` and `comet.v1`.
//!
//! # Layout
//!
//! - [`Pusher`]: hands a push to the buckets concerned, whole or not at all
//! - `goim`: goim's service
//! - `v1`: lanes with receipts; `kick`: closing connections; `whitelist`: whose steps are noted
//! - `paced`: broadcasts that take their time
//! - `positions`: what was taken of streams that may repeat themselves

mod goim;
mod kick;
mod paced;
mod positions;
#[cfg(test)]
mod tests;
mod v1;
pub(crate) mod whitelist;

use std::{sync::Arc, time::Duration};

use protocol::{Frame, Header, MessageId, Meta, grpc::goim::protocol::Proto, op};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{Permit, Sender, error::TrySendError},
        oneshot,
    },
    time::{Instant, timeout_at},
};

pub use self::{goim::GoimComet, v1::CometV1};
use crate::{
    bucket::{
        Bucket, Fanout, Single, Target,
        tally::{self, Outcome},
    },
    config,
    gateway::Gateway,
    room::Room,
};

/// What becomes of a push: known when all buckets concerned have served it.
pub type Pending = oneshot::Receiver<Outcome>;

/// Why nothing of a push was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The pusher is at fault; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// The inboxes stayed full.
    #[error("no room in the inboxes within {0:?}")]
    Busy(Duration),
    /// As many paced broadcasts are under way as may be.
    #[error("{0} paced broadcasts are under way")]
    Paced(usize),
    /// This comet stops.
    #[error("this comet stops")]
    Stopping,
}

/// Hands pushes to the buckets.
#[derive(Debug)]
pub struct Pusher {
    gateway: Arc<Gateway>,
    config: config::Push,
    paced: Arc<Semaphore>,
}

impl Pusher {
    /// For the connections of `gateway`.
    pub fn new(gateway: Arc<Gateway>, config: config::Push) -> Self {
        let paced = Arc::new(Semaphore::new(config.paced));
        Self {
            gateway,
            config,
            paced,
        }
    }

    /// Pushes to each key that is here and accepts the operation.
    pub async fn to_keys(
        &self,
        keys: Vec<String>,
        op: i32,
        frame: Frame,
    ) -> Result<Pending, PushError> {
        if keys.len() > self.config.max_keys {
            let max = self.config.max_keys;
            return Err(self.refused(PushError::Invalid(format!("keys: more than {max}"))));
        }
        let mut by_bucket = vec![Vec::new(); self.gateway.buckets.all().len()];
        for key in keys {
            by_bucket[self.gateway.buckets.index_of(&key)].push(key);
        }
        let concerned: Vec<usize> = (0..by_bucket.len())
            .filter(|&index| !by_bucket[index].is_empty())
            .collect();
        let permits = self.reserve(&concerned, |bucket| &bucket.singles).await?;
        let (parts, pending) = tally::split(concerned.len(), self.config.max_absent);
        for ((permit, part), index) in permits.into_iter().zip(parts).zip(concerned) {
            let keys = std::mem::take(&mut by_bucket[index]);
            permit.send(Single::Keys {
                keys,
                op,
                frame: frame.clone(),
                part,
            });
        }
        self.gateway.metrics.pushes("keys").inc();
        Ok(pending)
    }

    /// Pushes to everyone in the room.
    pub async fn to_room(&self, room: &str, frame: Frame) -> Result<Pending, PushError> {
        let metrics = &self.gateway.metrics;
        let messages = frame.messages() as u64;
        let Some(room) = self.gateway.rooms.find(room) else {
            metrics.pushes("room").inc();
            metrics.nobody.inc_by(messages);
            return Ok(tally::split(0, 0).1);
        };
        let mut concerned: Vec<usize> = room.present().collect();
        let pending = loop {
            let permits = self.reserve(&concerned, |bucket| &bucket.fanouts).await?;
            match hand_out(&room, &concerned, permits, &frame) {
                Ok(pending) => break pending,
                Err(now) => concerned = now,
            }
        };
        metrics.pushes("room").inc();
        if concerned.is_empty() {
            metrics.nobody.inc_by(messages);
        }
        Ok(pending)
    }

    /// Pushes to everyone who accepts the operation; with a `speed` above 0, to about so many connections a second, of which
    /// the outcome is only counted.
    pub async fn to_all(&self, op: i32, frame: Frame, speed: u32) -> Result<Pending, PushError> {
        if speed > 0 {
            let under_way = Arc::clone(&self.paced).try_acquire_owned();
            let permit =
                under_way.map_err(|_| self.refused(PushError::Paced(self.config.paced)))?;
            let pacing = paced::broadcast(Arc::clone(&self.gateway), op, frame, speed);
            tokio::spawn(async move {
                pacing.await;
                drop(permit);
            });
            self.gateway.metrics.pushes("all").inc();
            return Ok(tally::split(0, 0).1);
        }
        let concerned: Vec<usize> = (0..self.gateway.buckets.all().len()).collect();
        let permits = self.reserve(&concerned, |bucket| &bucket.fanouts).await?;
        let (parts, pending) = tally::split(concerned.len(), 0);
        for (permit, part) in permits.into_iter().zip(parts) {
            permit.send(Fanout {
                target: Target::All { op },
                frame: frame.clone(),
                part,
            });
        }
        self.gateway.metrics.pushes("all").inc();
        Ok(pending)
    }

    /// Begins this comet's end; returns how many connections are logged in.
    pub fn drain(&self) -> u32 {
        tracing::info!("a caller of the push API has this comet drain");
        self.gateway.drain.begin();
        self.gateway.addresses.counts().0
    }

    /// The room of this name, if someone is in it.
    pub fn find_room(&self, room: &str) -> Option<Arc<Room>> {
        self.gateway.rooms.find(room)
    }

    /// Encodes a message once for all who get it. A Raw is checked and taken apart; anything else is one message.
    pub fn encode(&self, proto: &Proto) -> Result<Frame, PushError> {
        let max = self.config.max_body;
        let invalid = |text: String| self.refused(PushError::Invalid(text));
        if proto.op == op::RAW {
            return Frame::from_raw(&proto.body, max, self.config.max_raw, || new_id().into())
                .map_err(|error| invalid(format!("proto.body: {error}")));
        }
        self.message(proto.header(), &proto.body, new_id().into())
    }

    /// Encodes one message.
    pub fn message(&self, header: Header, body: &[u8], meta: Meta) -> Result<Frame, PushError> {
        let max = self.config.max_body;
        if body.len() > max {
            let text = format!("body: {} bytes are over the limit of {max}", body.len());
            return Err(self.refused(PushError::Invalid(text)));
        }
        Ok(Frame::message(header, body, meta))
    }

    /// Counts a refusal.
    fn refused(&self, error: PushError) -> PushError {
        self.gateway.metrics.refused_pushes(error.label()).inc();
        error
    }

    /// Reserves a place in the inbox of each bucket, before any gets a part. In the order of their indices, so that two pushes
    /// cannot wait for each other.
    async fn reserve<'a, T: 'a>(
        &'a self,
        buckets: &[usize],
        inbox: impl Fn(&'a Bucket) -> &'a Sender<T>,
    ) -> Result<Vec<Permit<'a, T>>, PushError> {
        let mut permits = Vec::with_capacity(buckets.len());
        let mut deadline = None;
        for &index in buckets {
            let inbox = inbox(&self.gateway.buckets.all()[index]);
            let permit = match inbox.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Closed(())) => return Err(self.refused(PushError::Stopping)),
                Err(TrySendError::Full(())) => {
                    let wait = self.config.wait.get();
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait);
                    match timeout_at(deadline, inbox.reserve()).await {
                        Ok(Ok(permit)) => permit,
                        Ok(Err(_)) => return Err(self.refused(PushError::Stopping)),
                        Err(_) => return Err(self.refused(PushError::Busy(wait))),
                    }
                }
            };
            permits.push(permit);
        }
        Ok(permits)
    }
}

/// Gives a room's push its place in the room's order and each bucket concerned its part, unless someone came into the room by
/// another bucket since the places were reserved: that one may see later pushes before this one is handed out, and must not
/// miss it then. Returns all buckets concerned in that case.
fn hand_out(
    room: &Arc<Room>,
    concerned: &[usize],
    permits: Vec<Permit<'_, Fanout>>,
    frame: &Frame,
) -> Result<Pending, Vec<usize>> {
    let _order = room.sequence();
    if room.present().any(|index| !concerned.contains(&index)) {
        return Err(room.present().collect());
    }
    let (parts, pending) = tally::split(concerned.len(), 0);
    for (permit, part) in permits.into_iter().zip(parts) {
        permit.send(Fanout {
            target: Target::Room(Arc::clone(room)),
            frame: frame.clone(),
            part,
        });
    }
    Ok(pending)
}

impl PushError {
    /// The reason in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Busy(_) => "busy",
            Self::Paced(_) => "paced",
            Self::Stopping => "stopping",
        }
    }
}

impl From<PushError> for tonic::Status {
    fn from(error: PushError) -> Self {
        let text = error.to_string();
        match error {
            PushError::Invalid(_) => Self::invalid_argument(text),
            PushError::Busy(_) | PushError::Paced(_) => Self::resource_exhausted(text),
            PushError::Stopping => Self::unavailable(text),
        }
    }
}

/// A name for a message that came without one; later ones are greater.
fn new_id() -> MessageId {
    MessageId(uuid::Uuid::now_v7().into_bytes())
}
