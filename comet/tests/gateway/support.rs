//! A comet on real sockets, a logic that does what the test says, and clients behind both doors.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use comet::{Comet, Config};
use common::config::Human;
use prometheus_client::registry::Registry;
use protocol::{
    Decoded, HEADER_LEN, Header, codec,
    grpc::goim::logic::{
        ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
        NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq,
        logic_server::{Logic, LogicServer},
    },
    op,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
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
    _stop: DropGuard,
}

/// The default configuration on ports of its own, with two buckets and a logic that is asked often.
pub fn config(logic: &[SocketAddr]) -> Config {
    let mut config = Config::default();
    config.env.host = "comet-test".into();
    config.tcp.bind = vec!["127.0.0.1:0".to_owned()];
    config.websocket.bind = vec!["127.0.0.1:0".to_owned()];
    config.rpc_server.addr = "127.0.0.1:0".into();
    config.logic.addresses = logic.iter().map(SocketAddr::to_string).collect();
    config.logic.renew = Human::millis(50);
    config.bucket.size = 2;
    config.protocol.svr_proto = 100_000;
    config.protocol.svr_bytes = 64 << 20;
    config
}

impl Gateway {
    pub async fn start(config: &Config) -> Self {
        let stop = CancellationToken::new();
        let mut registry = Registry::default();
        let comet = Comet::start(config, axum::Router::new(), &mut registry, stop.clone());
        Self {
            comet: comet.await.unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    /// A channel to its gRPC.
    pub fn rpc(&self) -> Channel {
        let address = format!("http://{}", self.comet.grpc_addr());
        Endpoint::from_shared(address).unwrap().connect_lazy()
    }

    pub async fn client(&self, door: Door) -> Client {
        let mut client = match door {
            Door::Tcp => Client::to(door, self.comet.tcp_addrs()[0]).await,
            Door::WebSocket => Client::to(door, self.comet.http_addrs()[0]).await,
        };
        if door == Door::WebSocket {
            client.upgrade().await;
        }
        client
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
        let accepts = token["accepts"].as_array().into_iter().flatten();
        Ok(Response::new(ConnectReply {
            mid: token["mid"].as_i64().unwrap_or(1),
            key: token["key"].as_str().unwrap_or_default().to_owned(),
            room_id: token["room_id"].as_str().unwrap_or_default().to_owned(),
            accepts: accepts
                .map(|op| i32::try_from(op.as_i64().unwrap()).unwrap())
                .collect(),
            heartbeat: i64::try_from(self.heartbeat.as_nanos()).unwrap(),
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
        Ok(Response::new(OnlineReply::default()))
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
        Err(Status::unimplemented("comet does not ask for nodes"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Tcp,
    WebSocket,
}

pub const DOORS: [Door; 2] = [Door::Tcp, Door::WebSocket];

/// A client with nothing but a socket.
pub struct Client {
    door: Door,
    pub socket: TcpStream,
    /// What came and is not parsed.
    bytes: Vec<u8>,
    /// Protos that came in one message.
    protos: Vec<u8>,
}

/// What a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Proto(Header, Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

/// How a connection ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Operation 6: the label of the reason and its text.
    pub reason: Option<(String, String)>,
    /// The WebSocket Close frame's code and text.
    pub close: Option<(u16, String)>,
}

impl Client {
    async fn to(door: Door, addr: SocketAddr) -> Self {
        Self {
            door,
            socket: TcpStream::connect(addr).await.unwrap(),
            bytes: Vec::new(),
            protos: Vec::new(),
        }
    }

    async fn upgrade(&mut self) {
        let request =
            b"GET /sub HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.socket.write_all(request).await.unwrap();
        let end = loop {
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            assert!(self.read().await, "no answer to the handshake");
        };
        assert!(self.bytes.starts_with(b"HTTP/1.1 101 "));
        self.bytes.drain(..end + 4);
    }

    /// What the door wraps around protos.
    pub fn wrap(&self, protos: &[u8]) -> Vec<u8> {
        match self.door {
            Door::Tcp => protos.to_vec(),
            Door::WebSocket => masked(0x82, protos),
        }
    }

    pub async fn send(&mut self, op: i32, seq: i32, body: &[u8]) {
        let mut proto = Vec::new();
        Header { ver: 1, op, seq }.encode(body, &mut proto);
        let bytes = self.wrap(&proto);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// A WebSocket ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        let bytes = masked(0x89, payload);
        self.socket.write_all(&bytes).await.unwrap();
    }

    pub async fn auth(&mut self, token: &str) {
        self.send(op::AUTH, 1, token.as_bytes()).await;
    }

    pub async fn log_in(&mut self, key: &str, room: &str) {
        self.auth(&token(key, room)).await;
        let (header, _) = self.proto().await;
        assert_eq!((header.op, header.seq), (op::AUTH_REPLY, 1));
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.parse() {
                return got;
            }
            if !self.read().await {
                assert!(self.bytes.is_empty(), "the stream ends within a frame");
                return Got::End;
            }
        }
    }

    /// The next proto; nothing else may come.
    pub async fn proto(&mut self) -> (Header, Vec<u8>) {
        match self.next().await {
            Got::Proto(header, body) => (header, body),
            other => panic!("{other:?}"),
        }
    }

    /// A pushed message: its operation and body as text.
    pub async fn message(&mut self) -> (i32, String) {
        let (header, body) = self.proto().await;
        (header.op, String::from_utf8(body).unwrap())
    }

    /// Everything up to the end, of which nothing but farewells may come.
    pub async fn end(&mut self) -> Ended {
        let mut ended = Ended::default();
        loop {
            match self.next().await {
                Got::End => return ended,
                Got::Close(code, text) => ended.close = Some((code, text)),
                Got::Proto(header, body) if header.op == op::DISCONNECT_REPLY => {
                    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let text = |name: &str| body[name].as_str().unwrap().to_owned();
                    ended.reason = Some((text("reason"), text("message")));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The end, which this door tells with this reason and code.
    pub async fn ends_with(&mut self, reason: &str, code: u16) -> String {
        let door = self.door;
        let ended = self.end().await;
        let (label, text) = ended.reason.expect("no operation 6");
        assert_eq!(label, reason);
        match door {
            Door::Tcp => assert_eq!(ended.close, None),
            Door::WebSocket => assert_eq!(ended.close, Some((code, text.clone()))),
        }
        text
    }

    /// A heartbeat, answered; returns the count of those online.
    pub async fn heartbeat(&mut self, seq: i32) -> i32 {
        self.send(op::HEARTBEAT, seq, b"").await;
        let (header, body) = self.proto().await;
        assert_eq!((header.op, header.seq), (op::HEARTBEAT_REPLY, seq));
        i32::from_be_bytes(body.try_into().unwrap())
    }

    async fn read(&mut self) -> bool {
        let reading = self.socket.read_buf(&mut self.bytes);
        within(reading).await.unwrap() > 0
    }

    fn parse(&mut self) -> Option<Got> {
        if self.door == Door::Tcp {
            self.protos.append(&mut self.bytes);
        }
        if let Some(proto) = take_proto(&mut self.protos) {
            return Some(proto);
        }
        if self.door == Door::Tcp {
            std::mem::swap(&mut self.protos, &mut self.bytes);
            return None;
        }
        assert!(self.protos.is_empty(), "a message ends within a frame");
        let (first, payload) = take_frame(&mut self.bytes)?;
        match first {
            0x82 => {
                self.protos = payload;
                // A Raw's own header is no message.
                if self.protos[8..12] == op::RAW.to_be_bytes() {
                    self.protos.drain(..HEADER_LEN);
                }
                take_proto(&mut self.protos)
            }
            0x88 => {
                let (code, text) = payload.split_at(2);
                let code = u16::from_be_bytes(code.try_into().unwrap());
                Some(Got::Close(code, String::from_utf8(text.to_vec()).unwrap()))
            }
            0x8a => Some(Got::Pong(payload)),
            first => panic!("an unexpected frame: {first:#x}"),
        }
    }
}

pub fn token(key: &str, room: &str) -> String {
    serde_json::json!({ "mid": 1, "key": key, "room_id": room, "accepts": [OP] }).to_string()
}

fn take_proto(bytes: &mut Vec<u8>) -> Option<Got> {
    match codec::decode(bytes, 1 << 24).unwrap() {
        Decoded::Incomplete { .. } => None,
        Decoded::Frame { header, body, len } => {
            let got = Got::Proto(header, body.to_vec());
            bytes.drain(..len);
            Some(got)
        }
    }
}

/// The first byte and payload of a server's frame.
fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (start, len) = match *bytes.get(1)? {
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()),
        ),
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(),
        ),
        len => (2, len.into()),
    };
    let end = start + usize::try_from(len).unwrap();
    let payload = bytes.get(start..end)?.to_vec();
    let first = bytes[0];
    bytes.drain(..end);
    Some((first, payload))
}

/// A client's frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::frame::put_websocket_header(&mut bytes, payload.len());
    bytes[0] = first;
    bytes[1] |= 0x80;
    // A mask of zeros leaves the payload as it is.
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}
