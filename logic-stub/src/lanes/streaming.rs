//! `comet.v1`: batches out, receipts in, in one order.

use std::{collections::VecDeque, pin::pin};

use protocol::grpc::comet::v1::{
    Everyone, Keys, Message, Position, PushBatch, Receipt, Refusal, comet_client::CometClient,
    message,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    queue::Item,
    report::{Counts, Loss, Outcome},
    task::{Failure, Held, Shared},
};
use crate::push::Target;

/// Sends what comes, until the call ends.
pub(super) async fn serve(
    lane: &Shared,
    channel: Channel,
    held: &mut Held,
    progress: &mut bool,
) -> Failure {
    let max = lane.setup.client.max_message;
    let limit = lane.setup.client.timeout.get();
    let mut client = CometClient::new(channel)
        .max_decoding_message_size(max)
        .max_encoding_message_size(max);
    let (mut stream, outgoing) = Stream::new(lane, held);
    // Before the answer to the call itself: the first messages go with it.
    stream.fill();
    let call = lane.setup.credential.request(ReceiverStream::new(outgoing));
    let mut receipts = match timeout(limit, client.push(call)).await {
        Ok(Ok(opened)) => opened.into_inner(),
        Ok(Err(status)) => return Failure::Status(status),
        Err(_) => return Failure::Silent(limit),
    };
    let mut silence = pin!(sleep(limit));
    loop {
        stream.fill();
        let has_room = stream.has_room();
        tokio::select! {
            biased;
            next = receipts.message() => match next {
                Ok(Some(next)) => {
                    if let Err(failure) = stream.settle(next.receipts, progress) {
                        return failure;
                    }
                }
                Ok(None) => return Failure::Ended,
                Err(status) => return Failure::Status(status),
            },
            () = lane.queue.arrival(), if has_room => {}
            () = &mut silence => {
                if stream.owed() && stream.heard.elapsed() >= limit {
                    return Failure::Silent(limit);
                }
                let from = if stream.owed() { stream.heard } else { Instant::now() };
                silence.as_mut().reset(from + limit);
            }
        }
    }
}

/// What goes over one call.
struct Stream<'a> {
    lane: &'a Shared,
    held: &'a mut Held,
    batches: mpsc::Sender<PushBatch>,
    /// Receipts that are owed for each batch, oldest first.
    open: VecDeque<usize>,
    /// When the comet last sent a receipt, or was last sent something while it owed none.
    heard: Instant,
}

impl<'a> Stream<'a> {
    fn new(lane: &'a Shared, held: &'a mut Held) -> (Self, mpsc::Receiver<PushBatch>) {
        // No more than these are open, so sending never waits.
        let (batches, outgoing) = mpsc::channel(lane.setup.config.window);
        let stream = Self {
            lane,
            held,
            batches,
            open: VecDeque::new(),
            heard: Instant::now(),
        };
        (stream, outgoing)
    }

    fn has_room(&self) -> bool {
        self.open.len() < self.lane.setup.config.window
    }

    fn owed(&self) -> bool {
        !self.open.is_empty()
    }

    /// Sends what waits, as far as the window allows.
    fn fill(&mut self) {
        while self.has_room() {
            let messages = self.next_batch();
            if messages.is_empty() {
                return;
            }
            if self.open.is_empty() {
                self.heard = Instant::now();
            }
            self.lane.setup.metrics.batch(messages.len());
            self.open.push_back(messages.len());
            // A call that has ended says so where receipts are read.
            let _ = self.batches.try_send(PushBatch { messages });
        }
    }

    /// The next messages in order, those first that an earlier call had not got a receipt for.
    fn next_batch(&mut self) -> Vec<Message> {
        let config = &self.lane.setup.config;
        let max_bytes = config.batch_bytes.min(self.lane.largest());
        let mut messages = Vec::new();
        let mut bytes = 0;
        while messages.len() < config.batch_messages {
            if self.held.sent == self.held.items.len() {
                self.lane.take(self.held);
            }
            let Some(item) = self.held.items.get(self.held.sent) else {
                break;
            };
            bytes += item.bytes;
            if !messages.is_empty() && bytes > max_bytes {
                break;
            }
            messages.push(self.lane.message(item));
            self.held.sent += 1;
        }
        messages
    }

    /// Ends the messages of these receipts, which come in order.
    fn settle(&mut self, receipts: Vec<Receipt>, progress: &mut bool) -> Result<(), Failure> {
        self.heard = Instant::now();
        for receipt in receipts {
            if self.held.sent == 0 {
                return Err(Failure::Receipt);
            }
            let named = |item: &mut Item| item.message.id.0[..] == receipt.id[..];
            let item = self
                .held
                .items
                .pop_front_if(named)
                .ok_or(Failure::Receipt)?;
            self.held.sent -= 1;
            if let Some(owed) = self.open.front_mut() {
                *owed -= 1;
                if *owed == 0 {
                    self.open.pop_front();
                }
            }
            *progress = true;
            let outcome = outcome(receipt, &self.lane.name);
            self.lane.settle(item, outcome);
        }
        Ok(())
    }
}

impl Shared {
    fn message(&self, item: &Item) -> Message {
        let target = match &item.target {
            Target::Keys(keys) => message::Target::Keys(Keys { keys: keys.clone() }),
            Target::Room(room) => message::Target::Room(room.as_str().to_owned()),
            Target::Everyone { speed } => message::Target::Everyone(Everyone {
                speed: u32::try_from(*speed).unwrap_or(0),
            }),
        };
        let position = match &item.message.position {
            // Of a queue, whose reader keeps the order and may change.
            Some(position) => Position {
                stream: position.stream.clone(),
                epoch: position.epoch,
                number: position.number.saturating_add(item.part),
                stored: true,
            },
            None => Position {
                stream: self.stream.clone(),
                epoch: self.generation,
                number: item.number,
                stored: false,
            },
        };
        Message {
            id: item.message.id.0.to_vec(),
            position: Some(position),
            target: Some(target),
            operation: item.message.operation,
            body: item.message.body(),
        }
    }
}

fn outcome(receipt: Receipt, comet: &str) -> Outcome {
    let refusal = receipt.refusal();
    if !matches!(refusal, Refusal::None | Refusal::Repeated) {
        tracing::debug!(
            comet,
            ?refusal,
            detail = receipt.detail,
            "a comet refuses a message"
        );
    }
    match refusal {
        Refusal::None => {
            let counts = Counts {
                taken: receipt.taken,
                absent: receipt.absent,
                filtered: receipt.filtered,
                dropped: receipt.dropped,
            };
            Outcome::Counted {
                counts,
                absent_keys: receipt.absent_keys,
                repeated: receipt.repeated,
            }
        }
        // It was taken over an earlier connection, which broke before its receipt.
        Refusal::Repeated => Outcome::Uncounted,
        Refusal::Busy => Outcome::Lost(Loss::Busy),
        Refusal::Invalid => Outcome::Lost(Loss::Refused),
        Refusal::StaleEpoch => Outcome::Lost(Loss::Superseded),
    }
}
