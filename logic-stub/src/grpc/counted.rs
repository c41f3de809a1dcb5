//! goim's service with each call counted and timed.

use std::time::Instant;

use protocol::grpc::goim::logic::{
    ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
    NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq, logic_server::Logic,
};
use tonic::{Code, Request};

use super::{Answer, Service};

/// A service whose calls are counted.
#[derive(Debug)]
pub(super) struct Counted(pub(super) Service);

impl Counted {
    async fn count<T>(
        &self,
        call: &'static str,
        answering: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        let begun = Instant::now();
        let answer = answering.await;
        let result = answer
            .as_ref()
            .map_or_else(|status| label(status.code()), |_| "ok");
        let metrics = &self.0.0.metrics;
        metrics.called(call, result, begun.elapsed());
        answer
    }
}

/// What a comet is told, for metrics. A call whose caller has gone, or that took too long, is in none of them.
fn label(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "invalid",
        Code::Unauthenticated | Code::PermissionDenied => "refused",
        Code::Aborted | Code::FailedPrecondition => "superseded",
        Code::Unavailable | Code::ResourceExhausted => "unavailable",
        _ => "error",
    }
}

#[tonic::async_trait]
impl Logic for Counted {
    async fn connect(&self, request: Request<ConnectReq>) -> Answer<ConnectReply> {
        self.count("connect", self.0.connect(request)).await
    }

    async fn disconnect(&self, request: Request<DisconnectReq>) -> Answer<DisconnectReply> {
        self.count("disconnect", self.0.disconnect(request)).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatReq>) -> Answer<HeartbeatReply> {
        self.count("heartbeat", self.0.heartbeat(request)).await
    }

    async fn renew_online(&self, request: Request<OnlineReq>) -> Answer<OnlineReply> {
        self.count("renew_online", self.0.renew_online(request))
            .await
    }

    async fn receive(&self, request: Request<ReceiveReq>) -> Answer<ReceiveReply> {
        self.count("receive", self.0.receive(request)).await
    }

    async fn nodes(&self, request: Request<NodesReq>) -> Answer<NodesReply> {
        self.count("nodes", self.0.nodes(request)).await
    }
}
