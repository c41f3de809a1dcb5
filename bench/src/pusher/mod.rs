//! Pushes over gRPC: to whom, how many under way, how fast.
//!
//! Push `p` of a series goes to group `p % groups`, as message `p / groups` of that group's stream (or as several, joined into
//! a Raw as goim's job does).

mod gate;
pub mod once;
mod streaming;
mod unary;

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::ValueEnum;
use protocol::{codec::Header, grpc::goim::protocol::Proto, op};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

use self::gate::Gate;
use crate::{
    DATA, MARK_LEN,
    clients::{self, Progress},
    doors::Mark,
    measure,
};

/// How long no push may be answered before it is said that none will be any more.
const PATIENCE: Duration = Duration::from_secs(30);

/// How pushes are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// goim's calls, one for each push.
    Unary,
    /// `comet.v1`'s stream, with a receipt for each push.
    Stream,
}

/// To whom pushes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// The room of the group's number.
    Room,
    /// All connections.
    Everyone,
    /// The keys of the group.
    Keys,
}

/// When the next push goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// While fewer than so many are under way, which is: not yet received by everyone concerned.
    Window(u64),
    /// So many a second, whatever becomes of them.
    Rate(f64),
}

/// A series of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// To whom.
    pub to: To,
    /// How they are called.
    pub via: Via,
    /// Unary calls under way at once. More than one may reorder what they push.
    pub calls: u32,
    /// When.
    pub pace: Pace,
    /// Connections that are in groups.
    pub members: u32,
    /// Groups, which take turns.
    pub groups: u32,
    /// Messages in a push.
    pub joined: u32,
    /// Bytes of a message's body.
    pub body: usize,
}

/// What became of a series, as far as the pusher knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Pushes that were called.
    pub pushes: u64,
    /// Of which the server refused.
    pub refused: u64,
    /// Pushes that were due and not called: the pusher was half a second behind.
    pub unsent: u64,
    /// How often a window stood still for seconds, so that one push went all the same.
    pub stalls: u64,
    /// Deliveries, of the receipts of a stream: taken.
    pub taken: u64,
    /// Deliveries that the receipts call dropped.
    pub dropped: u64,
    /// Keys that the receipts call absent, and connections that did not want the operation.
    pub absent: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// Pushes under way. Must be made and ended on a `LocalSet`.
#[derive(Debug)]
pub struct Pusher {
    gate: Rc<Gate>,
    pushed: Rc<RefCell<Pushed>>,
    tasks: JoinSet<()>,
}

impl Pusher {
    /// Begins a series, until it is ended.
    pub async fn start(
        grpc: SocketAddr,
        plan: Plan,
        progress: Vec<Arc<Progress>>,
    ) -> anyhow::Result<Self> {
        let channel = connect(grpc).await?;
        let pushed = Rc::new(RefCell::new(Pushed::default()));
        let gate = Rc::new(Gate::new(plan.pace, progress)?);
        let mut tasks = JoinSet::new();
        let messages = Rc::new(Messages::new(plan));
        match plan.via {
            Via::Unary => {
                for _ in 0..plan.calls.max(1) {
                    let (gate, pushed) = (Rc::clone(&gate), Rc::clone(&pushed));
                    tasks.spawn_local(unary::run(
                        channel.clone(),
                        Rc::clone(&messages),
                        gate,
                        pushed,
                    ));
                }
            }
            Via::Stream => {
                let (gate, pushed) = (Rc::clone(&gate), Rc::clone(&pushed));
                tasks.spawn_local(streaming::run(channel, messages, gate, pushed));
            }
        }
        Ok(Self {
            gate,
            pushed,
            tasks,
        })
    }

    /// Pushes no more, waits for the answers to what is under way, and tells what became of all.
    pub async fn end(mut self) -> Pushed {
        self.gate.close();
        let in_time = self.answered().await;
        let mut pushed = self.pushed.borrow().clone();
        pushed.pushes = self.gate.passed();
        pushed.unsent = self.gate.unsent();
        pushed.stalls = self.gate.stalls();
        if !in_time {
            pushed.last_error = Some("some pushes were not answered".to_owned());
        }
        pushed
    }

    /// Pushes so far.
    pub fn pushes(&self) -> u64 {
        self.gate.passed()
    }

    /// Waits until all is answered; false if nothing was for so long that nothing will be. A stream holds megabytes of pushes,
    /// which may take a minute beyond what the machine can deliver.
    async fn answered(&mut self) -> bool {
        let mut before = self.pushed.borrow().clone();
        loop {
            match timeout(PATIENCE, self.tasks.join_next()).await {
                Ok(None) => return true,
                Ok(Some(_)) => {}
                Err(_) => {
                    let now = self.pushed.borrow().clone();
                    if now == before {
                        return false;
                    }
                    before = now;
                }
            }
        }
    }
}

/// A connection to a comet's gRPC, with goim's own windows.
pub async fn connect(grpc: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(16 << 20)
        .connect_timeout(Duration::from_secs(5));
    endpoint
        .connect()
        .await
        .with_context(|| format!("the gRPC of {grpc}"))
}

/// The messages of a plan.
#[derive(Debug)]
struct Messages {
    plan: Plan,
    /// For pushes to keys, those of each group.
    keys: Vec<Vec<String>>,
}

impl Messages {
    fn new(plan: Plan) -> Self {
        let of_group = |group: u32| {
            let step = plan.groups.max(1) as usize;
            (group..plan.members)
                .step_by(step)
                .map(clients::key)
                .collect()
        };
        let keys = match plan.to {
            To::Keys => (0..plan.groups).map(of_group).collect(),
            To::Room | To::Everyone => Vec::new(),
        };
        Self { plan, keys }
    }

    fn group(&self, push: u64) -> u32 {
        u32::try_from(push % u64::from(self.plan.groups.max(1))).unwrap_or(0)
    }

    fn keys(&self, group: u32) -> Vec<String> {
        self.keys.get(group as usize).cloned().unwrap_or_default()
    }

    /// Message `nth` of a push, as a body.
    fn body(&self, push: u64, nth: u32, sent: u64) -> BytesMut {
        let mut body = BytesMut::with_capacity(self.plan.body);
        let turn = push / u64::from(self.plan.groups.max(1));
        let mark = Mark {
            group: self.group(push),
            index: turn * u64::from(self.plan.joined.max(1)) + u64::from(nth),
            sent,
        };
        body.put_slice(&mark.to_bytes());
        body.resize(self.plan.body.max(MARK_LEN), b'.');
        body
    }

    /// A push as goim's message: one, or several joined into a Raw.
    fn proto(&self, push: u64, sent: u64) -> Proto {
        if self.plan.joined <= 1 {
            return Proto {
                ver: 1,
                op: DATA,
                seq: 0,
                body: self.body(push, 0, sent).freeze(),
            };
        }
        let mut raw = Vec::new();
        for nth in 0..self.plan.joined {
            Header::push(DATA).encode(&self.body(push, nth, sent), &mut raw);
        }
        Proto {
            ver: 1,
            op: op::RAW,
            seq: 0,
            body: Bytes::from(raw),
        }
    }
}

/// Runs `work` on the thread that it is called from, with tasks that need not move between threads.
pub fn block_on_local<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, work))
}
