//! Pushes over gRPC: goim's `Comet` and `comet.v1`.

use std::{collections::VecDeque, net::SocketAddr};

use protocol::{
    Header,
    grpc::{
        comet::v1::{
            Everyone, Keys, KickRequest, Message, PushBatch, Receipt, Receipts,
            comet_client::CometClient as CometV1Client, kick_request, message::Target,
        },
        goim::{comet::comet_client::CometClient, protocol::Proto},
    },
    op,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use super::{Server, within};

/// goim's client of a comet.
pub async fn goim(server: &Server) -> CometClient<Channel> {
    CometClient::new(channel(server.grpc()).await)
}

/// A client of `comet.v1`.
pub async fn comet_v1(server: &Server) -> CometV1Client<Channel> {
    CometV1Client::new(channel(server.grpc()).await)
}

/// Kicks and returns how many connections were told to close.
pub async fn kick(server: &Server, target: kick_request::Target, reason: &str) -> u32 {
    let request = KickRequest {
        target: Some(target),
        reason: reason.to_owned(),
        ..KickRequest::default()
    };
    let mut client = comet_v1(server).await;
    let reply = within("a kick", client.kick(request)).await.unwrap();
    reply.into_inner().kicked
}

/// These keys, to be kicked.
pub fn kick_keys(keys: &[&str]) -> kick_request::Target {
    kick_request::Target::Keys(list(keys))
}

/// A stream of pushes and of their receipts.
pub struct Lane {
    batches: mpsc::Sender<PushBatch>,
    receipts: Streaming<Receipts>,
    ready: VecDeque<Receipt>,
}

impl Lane {
    /// A lane to the server.
    pub async fn open(server: &Server) -> Self {
        Self::open_at(server.grpc()).await
    }

    /// A lane to an address.
    pub async fn open_at(addr: SocketAddr) -> Self {
        let mut client = CometV1Client::new(channel(addr).await);
        let (batches, outgoing) = mpsc::channel(1);
        let receipts = client.push(ReceiverStream::new(outgoing));
        Self {
            batches,
            receipts: within("a lane", receipts).await.unwrap().into_inner(),
            ready: VecDeque::new(),
        }
    }

    /// Sends messages without waiting for their receipts.
    pub async fn send(&mut self, messages: Vec<Message>) {
        let batch = PushBatch { messages };
        within("sending", self.batches.send(batch)).await.unwrap();
    }

    /// The next receipt, of a message that was not refused.
    pub async fn receipt(&mut self) -> Receipt {
        let receipt = self.any_receipt().await;
        assert_eq!((receipt.refusal, receipt.detail.as_str()), (0, ""));
        receipt
    }

    /// The next receipt, whatever it says.
    pub async fn any_receipt(&mut self) -> Receipt {
        loop {
            if let Some(receipt) = self.ready.pop_front() {
                return receipt;
            }
            let next = within("receipts", self.receipts.message()).await;
            let receipts = next.unwrap().expect("the lane is open");
            self.ready.extend(receipts.receipts);
        }
    }

    /// Sends one message and waits for its receipt.
    pub async fn push(&mut self, target: Target, op: i32, body: &str) -> Receipt {
        self.send(vec![message(target, op, body.as_bytes())]).await;
        self.receipt().await
    }

    /// Sends messages at full speed, with at most `window` of them without a receipt, and adds their receipts up.
    pub async fn push_all(
        &mut self,
        messages: impl IntoIterator<Item = Message>,
        window: usize,
    ) -> Receipt {
        let mut messages = messages.into_iter();
        let mut sum = Receipt::default();
        let mut open = 0;
        loop {
            let batch: Vec<Message> = messages.by_ref().take(window - open).collect();
            open += batch.len();
            if !batch.is_empty() {
                self.send(batch).await;
            }
            if open == 0 {
                return sum;
            }
            // All that are there, so that the next batch is not of one.
            loop {
                add(&mut sum, &self.receipt().await);
                open -= 1;
                if self.ready.is_empty() {
                    break;
                }
            }
        }
    }
}

/// A message of one lane.
pub fn message(target: Target, operation: i32, body: &[u8]) -> Message {
    Message {
        target: Some(target),
        operation,
        body: body.to_vec().into(),
        ..Message::default()
    }
}

/// These keys.
pub fn keys(keys: &[&str]) -> Target {
    Target::Keys(list(keys))
}

/// A room, by its whole id.
pub fn room(id: &str) -> Target {
    Target::Room(id.to_owned())
}

/// Everyone, as fast as it goes.
pub fn everyone() -> Target {
    Target::Everyone(Everyone { speed: 0 })
}

/// A proto as pushers other than goim's job make it.
pub fn plain(op: i32, body: &str) -> Proto {
    Proto {
        ver: 1,
        op,
        seq: 0,
        body: body.as_bytes().to_vec().into(),
    }
}

/// A Raw of goim's job: whole frames in one body.
pub fn raw(messages: &[(i32, &str)]) -> Proto {
    let mut body = Vec::new();
    for (op, text) in messages {
        Header::push(*op).encode(text.as_bytes(), &mut body);
    }
    Proto {
        ver: 1,
        op: op::RAW,
        seq: 0,
        body: body.into(),
    }
}

async fn channel(addr: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    within("a gRPC connection", endpoint.connect())
        .await
        .unwrap()
}

fn list(keys: &[&str]) -> Keys {
    let keys = keys.iter().map(|&key| key.to_owned()).collect();
    Keys { keys }
}

fn add(sum: &mut Receipt, receipt: &Receipt) {
    sum.taken += receipt.taken;
    sum.absent += receipt.absent;
    sum.filtered += receipt.filtered;
    sum.dropped += receipt.dropped;
}
