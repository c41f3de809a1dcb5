//! A comet that speaks `comet.v1` and does what the test tells it, message by message; and pushes to it.

use std::{collections::VecDeque, net::SocketAddr, pin::Pin};

use common::config::Human;
use futures_util::Stream;
use logic_stub::Config;
use protocol::grpc::{
    comet::v1::{
        DrainReply, DrainRequest, KickReply, KickRequest, Message, PushBatch, Receipt, Receipts,
        Refusal, WhitelistReply, WhitelistRequest,
        comet_server::{Comet, CometServer},
        kick_request::Target,
    },
    goim::logic::{CometInfo, ConnectionRef},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{Running, config, http, start, within};

/// A push to a room, without and with a report.
pub const ROOM: &str = "/goim/push/room?operation=1000&type=live&room=1";
pub const REPORT: &str = "/goim/push/room?operation=1000&type=live&room=1&report=1";

/// The comet. Dropped, nobody listens at its address any more.
pub struct LaneComet {
    pub addr: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    kicks: mpsc::UnboundedReceiver<Kick>,
    _stop: DropGuard,
}

/// One kick. Dropped, it fails.
#[derive(Debug)]
pub struct Kick {
    pub request: KickRequest,
    answer: oneshot::Sender<Result<KickReply, Status>>,
}

/// One call of a lane. Dropped, it is at its end.
pub struct Call {
    batches: Streaming<PushBatch>,
    receipts: mpsc::Sender<Result<Receipts, Status>>,
    ready: VecDeque<Message>,
}

/// What a comet of this project does with positions.
#[derive(Default)]
pub struct Taken {
    last: u64,
    pub bodies: Vec<String>,
}

impl LaneComet {
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn on(listener: TcpListener) -> Self {
        let addr = listener.local_addr().unwrap();
        let (hand_over, calls) = mpsc::unbounded_channel();
        let (hand_over_kicks, kicks) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .add_service(CometServer::new(Scripted(hand_over, hand_over_kicks)))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        Self {
            addr,
            calls,
            kicks,
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

    /// The next call of a lane.
    pub async fn call(&mut self) -> Call {
        within(self.calls.recv()).await.unwrap()
    }

    /// The next kick.
    pub async fn kick(&mut self) -> Kick {
        within(self.kicks.recv()).await.unwrap()
    }

    pub fn was_not_kicked(&mut self) {
        if let Ok(kick) = self.kicks.try_recv() {
            panic!("told to kick: {kick:?}");
        }
    }

    pub fn was_not_called(&mut self) {
        assert!(self.calls.try_recv().is_err(), "a lane called");
    }
}

impl Kick {
    /// Answers that so many were closed, and who is not there.
    pub fn done(self, kicked: u32, absent: &[&str]) {
        let absent_keys = absent.iter().map(|&key| key.to_owned()).collect();
        self.answer(Ok(KickReply {
            kicked,
            absent_keys,
        }));
    }

    pub fn answer(self, answer: Result<KickReply, Status>) {
        drop(self.answer.send(answer));
    }

    /// The connections that it is for: key, epoch, id.
    pub fn connections(&self) -> Vec<(&str, u64, u64)> {
        let Some(Target::Connections(named)) = &self.request.target else {
            panic!("not by connection: {:?}", self.request);
        };
        let named = named.connections.iter();
        named
            .map(|named| (named.key.as_str(), named.epoch, named.id))
            .collect()
    }
}

impl Call {
    /// The messages of the next batch.
    pub async fn batch(&mut self) -> Vec<Message> {
        assert!(self.ready.is_empty(), "in the middle of a batch");
        let batch = within(self.batches.message()).await.unwrap();
        batch.expect("the lane ended the call").messages
    }

    /// The next message of any batch.
    pub async fn message(&mut self) -> Message {
        while self.ready.is_empty() {
            self.ready = self.batch().await.into();
        }
        self.ready.pop_front().unwrap()
    }

    /// Sends receipts.
    pub async fn answer(&self, receipts: Vec<Receipt>) {
        self.receipts.send(Ok(Receipts { receipts })).await.unwrap();
    }

    /// Takes and answers the next message; returns its body.
    pub async fn take(&mut self) -> String {
        let message = self.message().await;
        self.answer(vec![taken(&message, 1)]).await;
        body(&message)
    }

    /// Waits until the lane has ended the call.
    pub async fn ended(mut self) {
        while let Ok(Some(_)) = within(self.batches.message()).await {}
    }
}

impl Taken {
    /// Takes a message unless its position was taken before, and returns what its receipt says.
    pub fn take(&mut self, message: &Message) -> Receipt {
        let number = message.position.as_ref().unwrap().number;
        if number <= self.last {
            return Receipt {
                id: message.id.clone(),
                refusal: Refusal::Repeated.into(),
                ..Receipt::default()
            };
        }
        self.last = number;
        self.bodies.push(body(message));
        taken(message, 1)
    }
}

/// A receipt of so many connections.
pub fn taken(message: &Message, count: u64) -> Receipt {
    Receipt {
        id: message.id.clone(),
        taken: count,
        ..Receipt::default()
    }
}

pub fn body(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

/// A configuration whose reports and lanes wait as long as a test does.
pub fn patient() -> Config {
    let mut config = config();
    config.lanes.report = Human::secs(60);
    config.lanes.retry = Human::secs(60);
    config.lanes.reconnect = Human::millis(10);
    config
}

/// One comet with a lease.
pub async fn one_comet(config: Config) -> (Running, LaneComet) {
    let logic = start(config);
    let comet = LaneComet::start().await;
    logic.renew("a", Some(comet.info(1)), &[]).await.unwrap();
    (logic, comet)
}

pub async fn push(logic: &Running, path: &str, body: &str) {
    let answer = logic.post(path, body).await;
    assert_eq!(answer, json!({"code": 0, "message": ""}));
}

/// A push whose answer is waited for elsewhere.
pub fn ask(logic: &Running, path: &'static str, body: &'static str) -> JoinHandle<Value> {
    let addr = logic.stub.http_addr();
    tokio::spawn(async move { http(addr, "POST", path, body.as_bytes()).await.1 })
}

pub async fn connect(logic: &Running, server: &str, key: &str, epoch: u64) {
    let connection = ConnectionRef {
        epoch,
        id: 1,
        ..ConnectionRef::default()
    };
    let token = json!({"mid": 7, "key": key}).to_string();
    logic.connect_as(server, &token, connection).await.unwrap();
}

/// Waits until nobody listens.
pub async fn until_refused(addr: SocketAddr) {
    within(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

struct Scripted(mpsc::UnboundedSender<Call>, mpsc::UnboundedSender<Kick>);

#[tonic::async_trait]
impl Comet for Scripted {
    type PushStream = Pin<Box<dyn Stream<Item = Result<Receipts, Status>> + Send>>;

    async fn push(
        &self,
        request: Request<Streaming<PushBatch>>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let (receipts, answers) = mpsc::channel(1024);
        let call = Call {
            batches: request.into_inner(),
            receipts,
            ready: VecDeque::new(),
        };
        drop(self.0.send(call));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn kick(&self, request: Request<KickRequest>) -> Result<Response<KickReply>, Status> {
        let (answer, answered) = oneshot::channel();
        let request = request.into_inner();
        drop(self.1.send(Kick { request, answer }));
        let answered = answered.await;
        answered
            .map_err(|_| Status::unavailable("dropped"))?
            .map(Response::new)
    }

    /// What it is told is its list.
    async fn whitelist(
        &self,
        request: Request<WhitelistRequest>,
    ) -> Result<Response<WhitelistReply>, Status> {
        let WhitelistRequest { mids, keys, .. } = request.into_inner();
        Ok(Response::new(WhitelistReply {
            mids,
            keys,
            connections: 0,
        }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        Ok(Response::new(DrainReply { connections: 3 }))
    }
}
