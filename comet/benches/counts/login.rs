//! A login over TCP: from the first read of a new connection until Auth is answered. Logic is in another thread, so its own
//! work is not counted, and that of its client in comet is.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use comet::{
    Config, connection, gateway::Gateway, logic::Logic, metrics::Metrics, whitelist::Whitelist,
};
use common::{bearer::Credential, mutual::Dialer};
use protocol::{
    HEADER_LEN, Header,
    grpc::goim::logic::{
        ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
        NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq,
        logic_server::{Logic as LogicService, LogicServer},
    },
    op,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

use crate::{
    sockets::{OP, runtime},
    support::{Bench, counted_section},
};

const LOGINS: usize = 64;

pub(crate) const BENCHES: &[Bench] = &[Bench {
    name: "login",
    operations: LOGINS,
    run: login,
}];

fn login() {
    let logic = start_logic();
    let runtime = runtime();
    let (gateway, listener) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (start_gateway(logic), listener)
    });
    // The first one makes the connection to logic.
    let mut online = vec![runtime.block_on(async {
        let (stream, mut client) = connect(&listener, 0).await;
        log_in(&gateway, stream, &mut client).await;
        client
    })];
    for at in 1..=LOGINS {
        let (stream, mut client) = runtime.block_on(connect(&listener, at));
        let mut stream = Some(stream);
        counted_section(&mut || {
            let stream = stream.take().unwrap();
            runtime.block_on(log_in(&gateway, stream, &mut client));
        });
        online.push(client);
    }
}

fn start_gateway(logic: SocketAddr) -> Arc<Gateway> {
    let mut config = Config::default();
    config.logic.addresses = vec![logic.to_string()];
    config.bucket.size = 1;
    let metrics = Arc::new(Metrics::default());
    let stop = CancellationToken::new();
    let name = "bench".to_owned();
    let logic = Logic::start(
        &config,
        name,
        1,
        Credential::default(),
        Dialer::default(),
        Arc::clone(&metrics),
        stop.clone(),
    );
    // Nothing renews here.
    logic.announced(Duration::ZERO);
    let whitelist = Whitelist::default();
    Arc::new(Gateway::start(&config, logic, metrics, whitelist, &stop))
}

/// A new connection on which Auth has come: both ends, the server's first.
async fn connect(listener: &TcpListener, at: usize) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let token = format!(
        r#"{{"mid":1,"key":"key-{at:04}","room_id":"live://1","platform":"web","accepts":[1000]}}"#
    );
    let mut auth = Vec::new();
    Header::push(op::AUTH).encode(token.as_bytes(), &mut auth);
    client.write_all(&auth).await.unwrap();
    stream.readable().await.unwrap();
    (stream, client)
}

async fn log_in(gateway: &Arc<Gateway>, stream: TcpStream, client: &mut TcpStream) {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    tokio::spawn(connection::serve_tcp(
        Arc::clone(gateway),
        None,
        stream,
        address,
    ));
    let mut reply = [0; HEADER_LEN];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[11], u8::try_from(op::AUTH_REPLY).unwrap());
}

fn start_logic() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        runtime().block_on(async {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let server = Server::builder().add_service(LogicServer::new(AnyoneIsWelcome));
            server.serve_with_incoming(incoming).await.unwrap();
        });
    });
    address
}

/// A logic that gives each client the key of its token.
struct AnyoneIsWelcome;

#[tonic::async_trait]
impl LogicService for AnyoneIsWelcome {
    async fn connect(
        &self,
        request: Request<ConnectReq>,
    ) -> Result<Response<ConnectReply>, Status> {
        let token: serde_json::Value = serde_json::from_slice(&request.into_inner().token).unwrap();
        Ok(Response::new(ConnectReply {
            mid: 1,
            key: token["key"].as_str().unwrap().to_owned(),
            room_id: "live://1".to_owned(),
            accepts: vec![OP],
            heartbeat: 600_000_000_000,
            platform: String::new(),
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

    async fn renew_online(&self, _: Request<OnlineReq>) -> Result<Response<OnlineReply>, Status> {
        Ok(Response::new(OnlineReply::default()))
    }

    async fn receive(&self, _: Request<ReceiveReq>) -> Result<Response<ReceiveReply>, Status> {
        Ok(Response::new(ReceiveReply {}))
    }

    async fn nodes(&self, _: Request<NodesReq>) -> Result<Response<NodesReply>, Status> {
        Ok(Response::new(NodesReply::default()))
    }
}
