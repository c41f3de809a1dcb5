//! `comet.v1`'s stream of pushes: what waits goes as one batch, and each message has its receipt.

use std::{cell::RefCell, rc::Rc};

use protocol::grpc::comet::v1::{
    Everyone, Keys, Message, PushBatch, Receipt, comet_client::CometClient, message::Target,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{
    Messages, Pushed, To,
    gate::{Gate, Pass},
};
use crate::{DATA, clients};

/// Messages in a batch.
const BATCH: usize = 64;

/// Batches that wait for the connection.
const BATCHES: usize = 16;

/// Pushes until the gate is closed, and then waits for the receipts of all.
pub(super) async fn run(
    channel: Channel,
    messages: Rc<Messages>,
    gate: Rc<Gate>,
    pushed: Rc<RefCell<Pushed>>,
) {
    if let Err(status) = stream(channel, &messages, &gate, &pushed).await {
        pushed.borrow_mut().last_error = Some(status.to_string());
        gate.close();
    }
}

async fn stream(
    channel: Channel,
    messages: &Messages,
    gate: &Gate,
    pushed: &RefCell<Pushed>,
) -> Result<(), Status> {
    let (batches, outgoing) = mpsc::channel(BATCHES);
    let mut comet = CometClient::new(channel);
    let receipts = comet
        .push(ReceiverStream::new(outgoing))
        .await?
        .into_inner();
    let (sent, received) = tokio::join!(
        send(batches, messages, gate),
        take_receipts(receipts, pushed, messages.plan.joined),
    );
    sent.and(received)
}

async fn send(
    batches: mpsc::Sender<PushBatch>,
    messages: &Messages,
    gate: &Gate,
) -> Result<(), Status> {
    while let Some(first) = gate.pass().await {
        let more = std::iter::from_fn(|| gate.try_pass()).take(BATCH - 1);
        let messages = std::iter::once(first)
            .chain(more)
            .flat_map(|pass| push(messages, pass))
            .collect();
        let gone = |_| Status::unavailable("the stream of pushes has ended");
        batches.send(PushBatch { messages }).await.map_err(gone)?;
    }
    Ok(())
}

/// The messages of a push: `comet.v1` has lists of them where goim joins them into a Raw.
fn push(messages: &Messages, pass: Pass) -> impl Iterator<Item = Message> {
    let group = messages.group(pass.push);
    (0..messages.plan.joined.max(1)).map(move |nth| Message {
        target: Some(match messages.plan.to {
            To::Room => Target::Room(clients::room(group)),
            To::Everyone => Target::Everyone(Everyone { speed: 0 }),
            To::Keys => Target::Keys(Keys {
                keys: messages.keys(group),
            }),
        }),
        operation: DATA,
        body: messages.body(pass.push, nth, pass.sent).freeze(),
        ..Message::default()
    })
}

/// Adds receipts up. A push counts as refused when any of its messages is.
async fn take_receipts(
    mut receipts: Streaming<protocol::grpc::comet::v1::Receipts>,
    pushed: &RefCell<Pushed>,
    joined: u32,
) -> Result<(), Status> {
    let mut refused = 0_u64;
    while let Some(batch) = receipts.message().await? {
        let mut pushed = pushed.borrow_mut();
        for receipt in batch.receipts {
            let Receipt {
                taken,
                absent,
                filtered,
                dropped,
                refusal,
                detail,
                ..
            } = receipt;
            pushed.taken += taken;
            pushed.dropped += dropped;
            pushed.absent += absent + filtered;
            if refusal != 0 {
                refused += 1;
                pushed.refused = refused.div_ceil(u64::from(joined.max(1)));
                pushed.last_error = Some(format!("refusal {refusal}: {detail}"));
            }
        }
    }
    Ok(())
}
