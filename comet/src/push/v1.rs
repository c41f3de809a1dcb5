//! `comet.v1`: lanes of messages with receipts, kick, and the whitelist.

use std::{pin::Pin, sync::Arc};

use common::metrics::Present;
use futures_util::{Stream, StreamExt as _};
use protocol::{
    Header, MessageId, Meta, Position,
    grpc::comet::v1::{
        DrainReply, DrainRequest, Everyone, Keys, KickReply, KickRequest, Message, PushBatch,
        Receipt, Receipts, Refusal, WhitelistReply, WhitelistRequest, comet_server::Comet,
        message::Target,
    },
    op,
};
use tokio::sync::{mpsc, oneshot::error::TryRecvError};
use tonic::{Request, Response, Status, Streaming};

use super::{Pending, PushError, Pusher, new_id, positions::Positions};
use crate::bucket::tally::Outcome;

/// Receipts, and absent keys in them before the last, that go together: with keys of 256 bytes, 2.5 MiB, below any limit of a
/// gRPC message that is in use.
const MAX_RECEIPTS: usize = 256;
const MAX_NAMED: usize = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub struct CometV1 {
    pusher: Arc<Pusher>,
    positions: Arc<Positions>,
}

/// Where receipts go. None: a message waits for room.
type Lane = mpsc::Sender<Option<Sent>>;

/// A message whose receipt is to be sent.
struct Sent {
    id: Vec<u8>,
    result: Result<Taken, (Refusal, String)>,
}

/// A message that is taken.
struct Taken {
    pending: Pending,
    /// Keys that had it before.
    repeated: u64,
}

impl CometV1 {
    /// The service over a pusher.
    pub fn new(pusher: Arc<Pusher>) -> Self {
        let config = &pusher.config;
        let positions = Arc::new(Positions::new(config.streams, config.remembered));
        Self { pusher, positions }
    }

    /// Takes the batches of one lane, message after message.
    async fn take(self, mut batches: Streaming<PushBatch>, receipts: Lane) {
        while let Some(Ok(batch)) = batches.next().await {
            for message in batch.messages {
                let sent = self.push(message, &receipts).await;
                if receipts.send(Some(sent)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn push(&self, message: Message, lane: &Lane) -> Sent {
        let id = if message.id.is_empty() {
            Ok(new_id())
        } else {
            message.id.as_slice().try_into()
        };
        let Ok(id) = id else {
            let text = "id: not 16 bytes".to_owned();
            let error = self.pusher.refused(PushError::Invalid(text));
            return Sent {
                id: message.id,
                result: Err(refusal(&error)),
            };
        };
        let result = self.push_identified(id, message, lane).await;
        Sent {
            id: id.0.into(),
            result,
        }
    }

    async fn push_identified(
        &self,
        id: MessageId,
        mut message: Message,
        lane: &Lane,
    ) -> Result<Taken, (Refusal, String)> {
        let Some(position) = message.position.take() else {
            let pending = self.to_target(message, Meta::from(id)).await;
            let pending = pending.map_err(|error| refusal(&error))?;
            return Ok(Taken {
                pending,
                repeated: 0,
            });
        };
        let is_stored = position.stored;
        let position = Position {
            stream: position.stream,
            epoch: position.epoch,
            number: position.number,
        };
        let (turn, repeated) = match &mut message.target {
            Some(Target::Keys(Keys { keys })) if is_stored => {
                let count = keys.len();
                let turn = self.positions.turn_for(&position, id, keys).await;
                (turn, count - keys.len())
            }
            Some(Target::Everyone(Everyone { speed: 1.. })) if is_stored => {
                let everyone = &mut vec![String::new()];
                (self.positions.turn_for(&position, id, everyone).await, 0)
            }
            _ => (self.positions.turn(&position).await, 0),
        };
        let turn = turn.map_err(|refusal| self.out_of_turn(refusal))?;
        let meta = Meta {
            id,
            position: Some(Arc::new(position)),
        };
        let pending = if is_stored {
            self.to_target_in_time(message, meta, lane).await
        } else {
            self.to_target(message, meta).await
        };
        let pending = pending.map_err(|error| refusal(&error))?;
        turn.take();
        Ok(Taken {
            pending,
            repeated: repeated as u64,
        })
    }

    /// Waits for room for as long as the lane is there, and tells it so: who keeps a store waits rather than skip a message.
    async fn to_target_in_time(
        &self,
        message: Message,
        meta: Meta,
        lane: &Lane,
    ) -> Result<Pending, PushError> {
        loop {
            match self.to_target(message.clone(), meta.clone()).await {
                Err(PushError::Busy(_)) if !lane.is_closed() => {
                    // One that is full has enough to tell.
                    let _ = lane.try_send(None);
                }
                outcome => return outcome,
            }
        }
    }

    /// Counts the refusal of a position.
    fn out_of_turn(&self, refusal: Refusal) -> (Refusal, String) {
        let reason = match refusal {
            Refusal::StaleEpoch => "stale_epoch",
            _ => "repeated",
        };
        self.pusher.gateway.metrics.refused_pushes(reason).inc();
        (refusal, "position".to_owned())
    }

    async fn to_target(&self, message: Message, meta: Meta) -> Result<Pending, PushError> {
        let Message {
            target,
            operation,
            body,
            ..
        } = message;
        let pusher = &self.pusher;
        if operation == op::RAW {
            let text = format!("operation: {operation} is that of several messages");
            return Err(pusher.refused(PushError::Invalid(text)));
        }
        let frame = pusher.message(Header::push(operation), &body, meta)?;
        match target {
            Some(Target::Keys(keys)) => pusher.to_keys(keys.keys, operation, frame).await,
            Some(Target::Room(room)) => pusher.to_room(&room, frame).await,
            Some(Target::Everyone(everyone)) => {
                pusher.to_all(operation, frame, everyone.speed).await
            }
            None => Err(pusher.refused(PushError::Invalid("target: missing".to_owned()))),
        }
    }
}

#[tonic::async_trait]
impl Comet for CometV1 {
    type PushStream = Pin<Box<dyn Stream<Item = Result<Receipts, Status>> + Send>>;

    async fn push(
        &self,
        request: Request<Streaming<PushBatch>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (receipts, sent) = mpsc::channel(self.pusher.config.lane);
        let open = Present::enter(&self.pusher.gateway.metrics.lanes);
        let taking = self.clone().take(request.into_inner(), receipts);
        tokio::spawn(async move {
            taking.await;
            drop(open);
        });
        let owed = Owed { sent, next: None };
        let stream = futures_util::stream::unfold(owed, async |mut owed: Owed| {
            let receipts = owed.receipts().await?;
            Some((Ok(receipts), owed))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn kick(&self, request: Request<KickRequest>) -> Result<Response<KickReply>, Status> {
        let reply = self.pusher.kick(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn whitelist(
        &self,
        request: Request<WhitelistRequest>,
    ) -> Result<Response<WhitelistReply>, Status> {
        let reply = self.pusher.whitelist(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let connections = self.pusher.drain();
        Ok(Response::new(DrainReply { connections }))
    }
}

/// The messages of one lane whose receipts are owed, in order.
struct Owed {
    sent: mpsc::Receiver<Option<Sent>>,
    /// The first of them, when it was looked at and was not ready.
    next: Option<Sent>,
}

impl Owed {
    /// Waits for the next receipt, and takes those behind it that are ready too.
    async fn receipts(&mut self) -> Option<Receipts> {
        let first = match self.next.take() {
            Some(next) => next,
            None => match self.sent.recv().await? {
                Some(next) => next,
                None => return Some(Receipts::default()),
            },
        };
        let mut receipts = vec![first.receipt().await];
        let mut named = receipts[0].absent_keys.len();
        while receipts.len() < MAX_RECEIPTS && named < MAX_NAMED {
            let Ok(next) = self.sent.try_recv() else {
                break;
            };
            let Some(mut next) = next else { continue };
            let Some(ready) = next.ready() else {
                self.next = Some(next);
                break;
            };
            named += ready.absent_keys.len();
            receipts.push(ready);
        }
        Some(Receipts { receipts })
    }
}

impl Sent {
    async fn receipt(self) -> Receipt {
        let outcome = match self.result {
            Ok(Taken { pending, repeated }) => match pending.await {
                Ok(outcome) => Ok((outcome, repeated)),
                Err(_) => Err(refusal(&PushError::Stopping)),
            },
            Err(refusal) => Err(refusal),
        };
        receipt(self.id, outcome)
    }

    /// The receipt, if the outcome is there.
    fn ready(&mut self) -> Option<Receipt> {
        let outcome = match &mut self.result {
            Ok(Taken { pending, repeated }) => match pending.try_recv() {
                Ok(outcome) => Ok((outcome, *repeated)),
                Err(TryRecvError::Closed) => Err(refusal(&PushError::Stopping)),
                Err(TryRecvError::Empty) => return None,
            },
            Err(refusal) => Err(std::mem::take(refusal)),
        };
        Some(receipt(std::mem::take(&mut self.id), outcome))
    }
}

fn receipt(id: Vec<u8>, outcome: Result<(Outcome, u64), (Refusal, String)>) -> Receipt {
    match outcome {
        Ok((
            Outcome {
                counts,
                absent_keys,
            },
            repeated,
        )) => Receipt {
            id,
            repeated,
            taken: counts.taken,
            absent: counts.absent,
            filtered: counts.filtered,
            dropped: counts.full + counts.closing,
            absent_keys,
            ..Receipt::default()
        },
        Err((refusal, detail)) => Receipt {
            id,
            refusal: refusal.into(),
            detail,
            ..Receipt::default()
        },
    }
}

fn refusal(error: &PushError) -> (Refusal, String) {
    let refusal = match error {
        PushError::Invalid(_) => Refusal::Invalid,
        PushError::Busy(_) | PushError::Paced(_) | PushError::Stopping => Refusal::Busy,
    };
    (refusal, error.to_string())
}
