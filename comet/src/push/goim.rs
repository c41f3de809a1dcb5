//! goim's `Comet` service: what goim's job and logic call.

use std::sync::Arc;

use protocol::grpc::goim::{
    comet::{
        BroadcastReply, BroadcastReq, BroadcastRoomReply, BroadcastRoomReq, PushMsgReply,
        PushMsgReq, RoomsReply, RoomsReq, comet_server::Comet,
    },
    protocol::Proto,
};
use tonic::{Request, Response, Status};

use super::Pusher;

/// The service. Calls return when the buckets have the push in their inboxes: what becomes of it is counted.
#[derive(Debug, Clone)]
pub struct GoimComet(Arc<Pusher>);

impl GoimComet {
    /// The service over a pusher.
    pub fn new(pusher: Arc<Pusher>) -> Self {
        Self(pusher)
    }

    fn invalid(&self, text: &str) -> Status {
        self.0
            .refused(super::PushError::Invalid(text.to_owned()))
            .into()
    }

    fn proto(&self, proto: Option<Proto>) -> Result<Proto, Status> {
        proto.ok_or_else(|| self.invalid("proto: missing"))
    }
}

#[tonic::async_trait]
impl Comet for GoimComet {
    async fn push_msg(
        &self,
        request: Request<PushMsgReq>,
    ) -> Result<Response<PushMsgReply>, Status> {
        let PushMsgReq {
            keys,
            proto,
            proto_op,
        } = request.into_inner();
        let proto = self.proto(proto)?;
        if keys.is_empty() {
            return Err(self.invalid("keys: none"));
        }
        self.0
            .to_keys(keys, proto_op, self.0.encode(&proto)?)
            .await?;
        Ok(Response::new(PushMsgReply {}))
    }

    async fn broadcast(
        &self,
        request: Request<BroadcastReq>,
    ) -> Result<Response<BroadcastReply>, Status> {
        let BroadcastReq {
            proto_op,
            proto,
            speed,
        } = request.into_inner();
        let proto = self.proto(proto)?;
        let speed = u32::try_from(speed).unwrap_or(0);
        self.0
            .to_all(proto_op, self.0.encode(&proto)?, speed)
            .await?;
        Ok(Response::new(BroadcastReply {}))
    }

    async fn broadcast_room(
        &self,
        request: Request<BroadcastRoomReq>,
    ) -> Result<Response<BroadcastRoomReply>, Status> {
        let BroadcastRoomReq { room_id, proto } = request.into_inner();
        let proto = self.proto(proto)?;
        if room_id.is_empty() {
            return Err(self.invalid("roomID: empty"));
        }
        self.0.to_room(&room_id, self.0.encode(&proto)?).await?;
        Ok(Response::new(BroadcastRoomReply {}))
    }

    async fn rooms(&self, _: Request<RoomsReq>) -> Result<Response<RoomsReply>, Status> {
        let rooms = self
            .0
            .gateway
            .rooms
            .counts()
            .into_keys()
            .map(|room| (room, true))
            .collect();
        Ok(Response::new(RoomsReply { rooms }))
    }
}
