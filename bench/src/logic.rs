//! A minimal goim logic: it believes open tokens and remembers nothing, so that a server's own cost of a login can be measured.

use std::net::SocketAddr;

use protocol::{
    Token,
    grpc::goim::logic::{
        ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
        NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq,
        logic_server::{Logic, LogicServer},
    },
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Server};

/// After how much silence clients are closed, in nanoseconds: longer than any measurement.
const HEARTBEAT: i64 = 3_600_000_000_000;

/// Serves until the process ends.
pub async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    println!("logic listens on {}", listener.local_addr()?);
    let service = LogicServer::new(Minimal).accept_compressed(CompressionEncoding::Gzip);
    Server::builder()
        .tcp_nodelay(true)
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

#[derive(Debug)]
struct Minimal;

#[tonic::async_trait]
impl Logic for Minimal {
    async fn connect(
        &self,
        request: Request<ConnectReq>,
    ) -> Result<Response<ConnectReply>, Status> {
        let token = Token::from_json(&request.get_ref().token)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        Ok(Response::new(ConnectReply {
            mid: token.mid,
            key: token.key,
            room_id: token.room_id,
            accepts: token.accepts,
            heartbeat: HEARTBEAT,
            ..ConnectReply::default()
        }))
    }

    async fn disconnect(
        &self,
        _: Request<DisconnectReq>,
    ) -> Result<Response<DisconnectReply>, Status> {
        Ok(Response::new(DisconnectReply { has: true }))
    }

    async fn heartbeat(
        &self,
        _: Request<HeartbeatReq>,
    ) -> Result<Response<HeartbeatReply>, Status> {
        Ok(Response::new(HeartbeatReply {}))
    }

    async fn renew_online(
        &self,
        request: Request<OnlineReq>,
    ) -> Result<Response<OnlineReply>, Status> {
        Ok(Response::new(OnlineReply {
            all_room_count: request.into_inner().room_count,
            lease_known: true,
            store_generation: 1,
            known_after_ms: 0,
        }))
    }

    async fn receive(&self, _: Request<ReceiveReq>) -> Result<Response<ReceiveReply>, Status> {
        Ok(Response::new(ReceiveReply {}))
    }

    async fn nodes(&self, _: Request<NodesReq>) -> Result<Response<NodesReply>, Status> {
        Err(Status::unimplemented("this logic knows no nodes"))
    }
}
