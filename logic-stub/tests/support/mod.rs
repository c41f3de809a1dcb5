//! A logic-stub on real sockets, comets that record what they are sent, and an HTTP client of a few lines.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part, and all of it is test code"
)]

pub mod jwt;
pub mod kick;
pub mod lane;
pub mod queue;
pub mod store;

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use logic_stub::{Builder, Config, LogicStub, metrics::Metrics};
use protocol::{
    Header,
    grpc::goim::{
        comet::{
            BroadcastReply, BroadcastReq, BroadcastRoomReply, BroadcastRoomReq, PushMsgReply,
            PushMsgReq, RoomsReply, RoomsReq,
            comet_server::{self, CometServer},
        },
        logic::{
            CometInfo, ConnectReply, ConnectReq, ConnectionRef, OnlineReply, OnlineReq,
            logic_client::LogicClient,
        },
        protocol::Proto,
    },
    op,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("nothing came")
}

/// Waits until something that tells nobody, such as a counter, is so.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A file that goes with the test.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("logic-stub-{name}-{}", std::process::id()));
        let file = Self(path);
        file.write(content);
        file
    }

    pub fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }

    pub fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// A logic-stub that ends with the test.
pub struct Running {
    pub stub: LogicStub,
    pub client: LogicClient<Channel>,
    pub shutdown: CancellationToken,
    _guard: DropGuard,
}

/// What a comet that started at `epoch` says of itself.
pub fn info(epoch: u64) -> CometInfo {
    CometInfo {
        epoch,
        grpc_address: "127.0.0.1:1".to_owned(),
        weight: 10,
        ..CometInfo::default()
    }
}

/// The default configuration on ports of its own.
pub fn config() -> Config {
    let mut config = Config::default();
    config.rpc_server.addr = "127.0.0.1:0".into();
    config.http_server.addr = "127.0.0.1:0".into();
    config.monitor.addrs = vec!["127.0.0.1:0".into()];
    config.rpc_client.timeout = Duration::from_secs(10).into();
    config
}

pub fn start(config: Config) -> Running {
    start_with(LogicStub::builder(config))
}

pub fn start_with(builder: Builder) -> Running {
    let shutdown = CancellationToken::new();
    let stub = builder.start(shutdown.clone()).unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", stub.grpc_addr())).unwrap();
    let client = LogicClient::new(endpoint.connect_lazy());
    Running {
        stub,
        client,
        _guard: shutdown.clone().drop_guard(),
        shutdown,
    }
}

impl Running {
    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.stub.logic().metrics
    }

    /// Logs in as goim's comet would on behalf of a client.
    pub async fn connect(&self, server: &str, token: &str) -> Result<ConnectReply, Status> {
        self.ask(server, token, None).await
    }

    /// Logs in as a comet of this project would.
    pub async fn connect_as(
        &self,
        server: &str,
        token: &str,
        connection: ConnectionRef,
    ) -> Result<ConnectReply, Status> {
        self.ask(server, token, Some(connection)).await
    }

    async fn ask(
        &self,
        server: &str,
        token: &str,
        connection: Option<ConnectionRef>,
    ) -> Result<ConnectReply, Status> {
        let request = ConnectReq {
            server: server.to_owned(),
            token: token.to_owned().into(),
            connection,
            ..ConnectReq::default()
        };
        let reply = self.client.clone().connect(request).await?;
        Ok(reply.into_inner())
    }

    pub async fn renew(
        &self,
        server: &str,
        comet: Option<CometInfo>,
        rooms: &[(&str, i32)],
    ) -> Result<OnlineReply, Status> {
        let room_count: HashMap<_, _> = rooms
            .iter()
            .map(|(room, count)| ((*room).to_owned(), *count))
            .collect();
        let request = OnlineReq {
            server: server.to_owned(),
            room_count,
            comet,
        };
        self.client
            .clone()
            .renew_online(request)
            .await
            .map(Response::into_inner)
    }

    /// The status and the JSON of an answer.
    pub async fn http(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        http(self.stub.http_addr(), method, path, body).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Value {
        let (status, answer) = self.http("POST", path, body.as_bytes()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The data of a successful answer.
    pub async fn get(&self, path: &str) -> Value {
        let (status, mut answer) = self.http("GET", path, b"").await;
        assert_eq!(
            (status, &answer["code"]),
            (200, &Value::from(0)),
            "{answer}"
        );
        answer["data"].take()
    }
}

pub async fn http(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
    )
}

/// The body as it travels: the client's frame inside of a Raw.
pub fn raw(operation: i32, body: &str) -> Proto {
    let mut frame = Vec::new();
    Header::push(operation).encode(body.as_bytes(), &mut frame);
    Proto {
        ver: 1,
        op: op::RAW,
        seq: 0,
        body: frame.into(),
    }
}

pub fn told_keys(keys: &[&str], operation: i32, body: &str) -> Told {
    let keys = keys.iter().map(|&key| key.to_owned()).collect();
    Told::Keys(PushMsgReq {
        keys,
        proto: Some(raw(operation, body)),
        proto_op: operation,
    })
}

pub fn connection(epoch: u64, id: u64) -> ConnectionRef {
    ConnectionRef {
        epoch,
        id,
        ..ConnectionRef::default()
    }
}

/// What a comet was told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Keys(PushMsgReq),
    Room(BroadcastRoomReq),
    Everyone(BroadcastReq),
}

/// goim's comet service, which records.
pub struct FakeComet {
    pub addr: SocketAddr,
    told: mpsc::UnboundedReceiver<Told>,
    gate: Arc<Semaphore>,
    _stop: DropGuard,
}

impl FakeComet {
    pub async fn start() -> Self {
        Self::answering(Ok(())).await
    }

    /// A comet that records and answers every push like this.
    pub async fn answering(answer: Result<(), Status>) -> Self {
        Self::gated(answer, Semaphore::MAX_PERMITS).await
    }

    /// The same, for the first pushes; the others wait until they are let through.
    pub async fn gated(answer: Result<(), Status>, open_for: usize) -> Self {
        let gate = Arc::new(Semaphore::new(open_for));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (record, told) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let service = CometServer::new(Recorder {
            record,
            answer,
            gate: Arc::clone(&gate),
        })
        .max_decoding_message_size(16 << 20);
        let serving = Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        Self {
            addr,
            told,
            gate,
            _stop: stop.drop_guard(),
        }
    }

    pub fn info(&self, epoch: u64) -> CometInfo {
        CometInfo {
            epoch,
            grpc_address: self.addr.to_string(),
            weight: 10,
            ..CometInfo::default()
        }
    }

    /// Lets so many more pushes through.
    pub fn let_through(&self, pushes: usize) {
        self.gate.add_permits(pushes);
    }

    pub async fn told(&mut self) -> Told {
        within(self.told.recv()).await.unwrap()
    }

    pub fn told_nothing_more(&mut self) {
        if let Ok(told) = self.told.try_recv() {
            panic!("told {told:?}");
        }
    }
}

struct Recorder {
    record: mpsc::UnboundedSender<Told>,
    answer: Result<(), Status>,
    gate: Arc<Semaphore>,
}

impl Recorder {
    async fn take<T: Default>(&self, told: Told) -> Result<Response<T>, Status> {
        drop(self.record.send(told));
        self.gate.acquire().await.unwrap().forget();
        self.answer.clone().map(|()| Response::new(T::default()))
    }
}

#[tonic::async_trait]
impl comet_server::Comet for Recorder {
    async fn push_msg(
        &self,
        request: Request<PushMsgReq>,
    ) -> Result<Response<PushMsgReply>, Status> {
        self.take(Told::Keys(request.into_inner())).await
    }

    async fn broadcast(
        &self,
        request: Request<BroadcastReq>,
    ) -> Result<Response<BroadcastReply>, Status> {
        self.take(Told::Everyone(request.into_inner())).await
    }

    async fn broadcast_room(
        &self,
        request: Request<BroadcastRoomReq>,
    ) -> Result<Response<BroadcastRoomReply>, Status> {
        self.take(Told::Room(request.into_inner())).await
    }

    async fn rooms(&self, _: Request<RoomsReq>) -> Result<Response<RoomsReply>, Status> {
        Ok(Response::new(RoomsReply::default()))
    }
}
