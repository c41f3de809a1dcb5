//! A comet on real sockets, and a logic that does what the test says.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use comet::{Comet, Config};
use common::config::Human;
use prometheus_client::registry::Registry;
use protocol::grpc::goim::logic::{
    ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
    NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq,
    logic_server::{Logic, LogicServer},
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    transport::{Channel, Endpoint, Server},
};

pub use crate::client::{Client, DOORS, Door, Got, handshake, token};

/// What [`Client::log_in`] asks to accept.
pub const OP: i32 = 1000;

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("nothing came")
}

/// Waits until this is so.
pub async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A comet that ends with the test.
pub struct Gateway {
    pub comet: Comet,
    stop: DropGuard,
}

/// The default configuration on ports of its own, with two buckets and a logic that is asked often.
pub fn config(logic: &[SocketAddr]) -> Config {
    let mut config = Config::default();
    config.env.host = "comet-test".into();
    config.tcp.bind = vec!["127.0.0.1:0".to_owned()];
    config.websocket.bind = vec!["127.0.0.1:0".to_owned()];
    config.tcp.tls_bind = vec!["127.0.0.1:0".to_owned()];
    config.websocket.tls_open = true;
    config.websocket.tls_bind = vec!["127.0.0.1:0".to_owned()];
    config.tls.development_certificate = true;
    config.rpc_server.addr = "127.0.0.1:0".into();
    config.monitor.addrs = vec!["127.0.0.1:0".to_owned()];
    config.logic.addresses = logic.iter().map(SocketAddr::to_string).collect();
    config.logic.renew = Human::millis(50);
    // Limits that a busy machine keeps, where a test is not about them.
    config.rpc_client.dial = Human::secs(20);
    config.rpc_client.timeout = Human::secs(20);
    config.bucket.size = 2;
    config.protocol.svr_proto = 100_000;
    config.protocol.svr_bytes = 64 << 20;
    config
}

impl Gateway {
    pub async fn start(config: &Config) -> Self {
        let stop = CancellationToken::new();
        let registry = Registry::default();
        let comet = Comet::start(config, axum::Router::new(), registry, stop.clone());
        Self {
            comet: comet.await.unwrap(),
            stop: stop.drop_guard(),
        }
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        let Self { comet, stop } = self;
        drop(stop);
        comet.join().await;
    }

    /// A channel to its gRPC.
    pub fn rpc(&self) -> Channel {
        let address = format!("http://{}", self.comet.grpc_addr());
        Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    pub async fn client(&self, door: Door) -> Client {
        let handshakes = self.comet.metrics().tls_handshakes("ok");
        let before = handshakes.get();
        let mut client = Client::to(door, self.addr(door)).await;
        if door.is_tls() {
            // TLS 1.3 is over for a client before its server knows that.
            until(|| handshakes.get() > before).await;
        }
        if door.is_websocket() {
            client.upgrade().await;
        }
        client
    }

    /// Where a door is.
    pub fn addr(&self, door: Door) -> SocketAddr {
        let addrs = match door {
            Door::Tcp => self.comet.tcp_addrs(),
            Door::WebSocket => self.comet.http_addrs(),
            Door::TcpTls => self.comet.tcp_tls_addrs(),
            Door::Wss => self.comet.https_addrs(),
        };
        addrs[0]
    }

    /// A client that has logged in.
    pub async fn online(&self, door: Door, key: &str, room: &str) -> Client {
        let mut client = self.client(door).await;
        client.log_in(key, room).await;
        client
    }
}

/// What logic was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Connect(ConnectReq),
    Disconnect(DisconnectReq),
    Heartbeat(HeartbeatReq),
    Receive(ReceiveReq),
}

/// goim's logic service: who shows `{"mid":..,"key":..,"room_id":..,"accepts":..}` is that.
pub struct FakeLogic {
    pub addr: SocketAddr,
    /// Receive calls that may be answered.
    pub receives: Arc<Semaphore>,
    /// Connect calls that may be answered.
    pub connects: Arc<Semaphore>,
    /// Until when a client may be silent.
    heartbeat: Duration,
    /// Of its store; 0: it says none, as goim's logic.
    pub generation: Arc<AtomicU64>,
    /// Milliseconds after which a comet is known.
    pub known_after: Arc<AtomicU32>,
    /// Whether RenewOnline came since it was last asked.
    renewed: Arc<AtomicBool>,
    told: mpsc::UnboundedReceiver<Told>,
    /// Of its own, so that it can be killed like a process.
    runtime: Option<Runtime>,
}

struct Service {
    receives: Arc<Semaphore>,
    connects: Arc<Semaphore>,
    heartbeat: Duration,
    generation: Arc<AtomicU64>,
    known_after: Arc<AtomicU32>,
    renewed: Arc<AtomicBool>,
    tell: mpsc::UnboundedSender<Told>,
}

/// A number of permits that is never used up.
pub const OPEN: usize = 1 << 20;

impl FakeLogic {
    pub fn start() -> Self {
        Self::with(Duration::from_mins(10))
    }

    /// With another limit for the silence of clients.
    pub fn with(heartbeat: Duration) -> Self {
        let (_, told) = mpsc::unbounded_channel();
        let mut logic = Self {
            addr: "127.0.0.1:0".parse().unwrap(),
            receives: Arc::new(Semaphore::new(OPEN)),
            connects: Arc::new(Semaphore::new(OPEN)),
            heartbeat,
            generation: Arc::default(),
            known_after: Arc::default(),
            renewed: Arc::default(),
            told,
            runtime: None,
        };
        logic.restart();
        logic
    }

    /// An address at which nobody answers.
    pub fn nowhere() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    /// Starts it at its address. What it was told before is forgotten.
    pub fn restart(&mut self) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        self.told = told;
        let service = LogicServer::new(Service {
            receives: Arc::clone(&self.receives),
            connects: Arc::clone(&self.connects),
            heartbeat: self.heartbeat,
            generation: Arc::clone(&self.generation),
            known_after: Arc::clone(&self.known_after),
            renewed: Arc::clone(&self.renewed),
            tell,
        });
        let service = service.accept_compressed(CompressionEncoding::Gzip);
        let listener = loop {
            // The one before may be about to let go of the address.
            match std::net::TcpListener::bind(self.addr) {
                Ok(listener) => break listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        listener.set_nonblocking(true).unwrap();
        self.addr = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let server = Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Ends it with all its connections.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub async fn told(&mut self) -> Told {
        within(self.told.recv()).await.unwrap()
    }

    pub async fn told_connect(&mut self) -> ConnectReq {
        loop {
            if let Told::Connect(request) = self.told().await {
                return request;
            }
        }
    }

    pub async fn told_disconnect(&mut self) -> DisconnectReq {
        loop {
            if let Told::Disconnect(request) = self.told().await {
                return request;
            }
        }
    }

    /// The sequence and body of the next message handed on.
    pub async fn told_receive(&mut self) -> (i32, Vec<u8>) {
        loop {
            if let Told::Receive(request) = self.told().await {
                let proto = request.proto.unwrap();
                return (proto.seq, proto.body.to_vec());
            }
        }
    }

    /// Waits for a RenewOnline that comes from now on.
    pub async fn renewed(&self) {
        self.renewed.store(false, Ordering::SeqCst);
        until(|| self.renewed.load(Ordering::SeqCst)).await;
    }
}

impl Drop for FakeLogic {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tonic::async_trait]
impl Logic for Service {
    async fn connect(
        &self,
        request: Request<ConnectReq>,
    ) -> Result<Response<ConnectReply>, Status> {
        let request = request.into_inner();
        let token = request.token.clone();
        drop(self.tell.send(Told::Connect(request)));
        self.connects.acquire().await.unwrap().forget();
        let token: serde_json::Value = serde_json::from_slice(&token)
            .map_err(|error| Status::unknown(format!("token: {error}")))?;
        if let Some(words) = token["denied"].as_str() {
            return Err(Status::permission_denied(words));
        }
        let accepts = token["accepts"].as_array().into_iter().flatten();
        Ok(Response::new(ConnectReply {
            mid: token["mid"].as_i64().unwrap_or(1),
            key: token["key"].as_str().unwrap_or_default().to_owned(),
            room_id: token["room_id"].as_str().unwrap_or_default().to_owned(),
            accepts: accepts
                .map(|op| i32::try_from(op.as_i64().unwrap()).unwrap())
                .collect(),
            heartbeat: i64::try_from(self.heartbeat.as_nanos()).unwrap(),
            platform: token["platform"].as_str().unwrap_or_default().to_owned(),
        }))
    }

    async fn disconnect(
        &self,
        request: Request<DisconnectReq>,
    ) -> Result<Response<DisconnectReply>, Status> {
        drop(self.tell.send(Told::Disconnect(request.into_inner())));
        Ok(Response::new(DisconnectReply { has: true }))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatReq>,
    ) -> Result<Response<HeartbeatReply>, Status> {
        drop(self.tell.send(Told::Heartbeat(request.into_inner())));
        Ok(Response::new(HeartbeatReply {}))
    }

    async fn renew_online(&self, _: Request<OnlineReq>) -> Result<Response<OnlineReply>, Status> {
        self.renewed.store(true, Ordering::SeqCst);
        Ok(Response::new(OnlineReply {
            store_generation: self.generation.load(Ordering::SeqCst),
            lease_known: true,
            known_after_ms: self.known_after.load(Ordering::SeqCst),
            ..OnlineReply::default()
        }))
    }

    async fn receive(
        &self,
        request: Request<ReceiveReq>,
    ) -> Result<Response<ReceiveReply>, Status> {
        drop(self.tell.send(Told::Receive(request.into_inner())));
        self.receives.acquire().await.unwrap().forget();
        Ok(Response::new(ReceiveReply {}))
    }

    async fn nodes(&self, _: Request<NodesReq>) -> Result<Response<NodesReply>, Status> {
        Err(Status::unimplemented("nobody knows where else to go"))
    }
}
