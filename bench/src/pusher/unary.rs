//! goim's calls.

use std::{cell::RefCell, rc::Rc};

use protocol::grpc::goim::comet::{
    BroadcastReq, BroadcastRoomReq, PushMsgReq, comet_client::CometClient,
};
use tonic::{Status, transport::Channel};

use super::{Messages, Pushed, To, gate::Gate};
use crate::{DATA, clients};

/// Bytes of one call.
const MAX_MESSAGE: usize = 16 << 20;

/// Pushes, one call after the other, until the gate is closed.
pub(super) async fn run(
    channel: Channel,
    messages: Rc<Messages>,
    gate: Rc<Gate>,
    pushed: Rc<RefCell<Pushed>>,
) {
    let mut comet = CometClient::new(channel).max_encoding_message_size(MAX_MESSAGE);
    while let Some(pass) = gate.pass().await {
        let called = call(&mut comet, &messages, pass.push, pass.sent).await;
        if let Err(status) = called {
            let mut pushed = pushed.borrow_mut();
            pushed.refused += 1;
            pushed.last_error = Some(status.to_string());
        }
    }
}

async fn call(
    comet: &mut CometClient<Channel>,
    messages: &Messages,
    push: u64,
    sent: u64,
) -> Result<(), Status> {
    let group = messages.group(push);
    let proto = Some(messages.proto(push, sent));
    match messages.plan.to {
        To::Room => {
            let room_id = clients::room(group);
            comet
                .broadcast_room(BroadcastRoomReq { room_id, proto })
                .await?;
        }
        To::Everyone => {
            let request = BroadcastReq {
                proto_op: DATA,
                proto,
                speed: 0,
            };
            comet.broadcast(request).await?;
        }
        To::Keys => {
            let keys = messages.keys(group);
            comet
                .push_msg(PushMsgReq {
                    keys,
                    proto,
                    proto_op: DATA,
                })
                .await?;
        }
    }
    Ok(())
}
