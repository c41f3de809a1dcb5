//! The connections: logged in, read as cheaply as can be, and counted.
//!
//! A [`Fleet`] has one or two threads, each with its own epoll loop (`engine`). They are told what to do by [`Task`]s and
//! answer with [`Reply`]s, which are plain data: a thread may as well be a process.

mod connection;
mod engine;
mod sequence;
mod stats;
mod window;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::Context as _;
use mio::Waker;
use protocol::Token;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::engine::Engine;
pub use self::{
    stats::{Opened, Stats, Tally},
    window::{MAX_WINDOW, Progress},
};
use crate::{DATA, doors::Door};

/// Where the doors are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doors {
    /// The TCP door.
    pub tcp: Option<SocketAddr>,
    /// The WebSocket door.
    pub websocket: Option<SocketAddr>,
    /// The TCP door behind TLS.
    pub tcp_tls: Option<SocketAddr>,
    /// The WebSocket door behind TLS.
    pub wss: Option<SocketAddr>,
}

impl Doors {
    /// This one door.
    pub fn only(door: Door, address: SocketAddr) -> Self {
        let mut doors = Self::default();
        *doors.place(door) = Some(address);
        doors
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        let mut doors = *self;
        Door::ALL.iter().all(|&door| doors.place(door).is_none())
    }

    /// The address of a door; an error if none was given.
    pub fn address(&self, door: Door) -> anyhow::Result<SocketAddr> {
        let mut doors = *self;
        let address = *doors.place(door);
        address.with_context(|| format!("no address of the {} door was given", door.name()))
    }

    fn place(&mut self, door: Door) -> &mut Option<SocketAddr> {
        match door {
            Door::Tcp => &mut self.tcp,
            Door::Websocket | Door::Sse | Door::Poll => &mut self.websocket,
            Door::TcpTls => &mut self.tcp_tls,
            Door::Wss => &mut self.wss,
        }
    }
}

/// Connections that log in alike. A connection is known by its number, from 0.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cohort {
    /// The number of the first.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// By which they come in.
    pub door: Door,
    /// Over how many rooms they are spread in turn; 0: they are in none.
    pub rooms: u32,
    /// Each has the token of the connection that is so many numbers before it; 0: its own.
    pub shift: u32,
}

impl Cohort {
    /// The token of a connection.
    pub fn token(&self, number: u32) -> String {
        let number = number.saturating_sub(self.shift);
        let room_id = number.checked_rem(self.rooms).map(room).unwrap_or_default();
        let token = Token {
            mid: i64::from(number) + 1,
            key: key(number),
            room_id,
            platform: "bench".to_owned(),
            accepts: vec![DATA],
        };
        token.to_json()
    }
}

/// The key of a connection.
pub fn key(number: u32) -> String {
    format!("bench-{number}")
}

/// The id of a room.
pub fn room(number: u32) -> String {
    format!("bench://{number}")
}

/// What clients are told to do. `first` and `count` are numbers of connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Connect and log in, `at_once` under way, and give up those that have not come in after `patience`.
    Open {
        /// Who.
        cohort: Cohort,
        /// Logins under way at once.
        at_once: u32,
        /// For all of them.
        patience: Duration,
    },
    /// Close.
    Close {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// Close so that the kernel forgets the connection at once, at both ends.
    Reset {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A new series of pushes begins: connection n of the first `members` is in the group `n % groups`, the others are in none.
    Begin {
        /// How many are in groups.
        members: u32,
        /// How many groups take turns.
        groups: u32,
        /// Messages in a push.
        joined: u32,
        /// Pushes that may overtake another, because their calls are under way side by side.
        overtaking: u32,
    },
    /// Latencies are recorded anew, of what comes from now on.
    Mark,
    /// Stop reading, or go on.
    Pause {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
        /// Whether to stop.
        paused: bool,
    },
    /// Send heartbeats, each when the last is answered, or stop.
    Beat {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
        /// Whether to go on.
        on: bool,
    },
    /// Tell the counters.
    Stats,
    /// Tell what is lost of so many pushes.
    Tally {
        /// The first.
        first: u32,
        /// How many.
        count: u32,
        /// Pushes of this series.
        pushes: u64,
    },
}

/// What clients answer.
#[derive(Debug)]
pub enum Reply {
    /// It is done.
    Done,
    /// To [`Task::Open`].
    Opened(Box<Opened>),
    /// To [`Task::Stats`].
    Stats(Box<Stats>),
    /// To [`Task::Tally`].
    Tally(Tally),
}

/// All connections of this process.
#[derive(Debug)]
pub struct Fleet {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    orders: mpsc::Sender<Order>,
    waker: Waker,
    progress: Arc<Progress>,
}

/// A task and where its answer goes.
#[derive(Debug)]
struct Order {
    task: Task,
    reply: oneshot::Sender<Reply>,
}

/// Addresses of this machine that clients of loopback come from, in turn: each has about 28,000 ports.
pub const SOURCES: u32 = 250;

impl Fleet {
    /// Starts the threads: connection n belongs to thread `n % threads`.
    pub fn start(doors: Doors, threads: u32) -> anyhow::Result<Self> {
        let start = |index| {
            let (orders, inbox) = mpsc::channel();
            let progress = Arc::new(Progress::default());
            let (engine, waker) = Engine::new(doors, index, threads, inbox, Arc::clone(&progress))?;
            std::thread::Builder::new()
                .name(format!("clients-{index}"))
                .spawn(move || engine.run())?;
            anyhow::Ok(Thread {
                orders,
                waker,
                progress,
            })
        };
        let threads = (0..threads).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { threads })
    }

    /// What the pusher watches, of each thread.
    pub fn progress(&self) -> Vec<Arc<Progress>> {
        self.threads
            .iter()
            .map(|thread| Arc::clone(&thread.progress))
            .collect()
    }

    /// Messages received, ever.
    pub fn received(&self) -> u64 {
        self.threads
            .iter()
            .map(|thread| thread.progress.received())
            .sum()
    }

    /// Logs connections in.
    pub async fn open(&self, cohort: Cohort, at_once: u32) -> anyhow::Result<Opened> {
        let at_once = at_once.div_ceil(u32::try_from(self.threads.len())?).max(1);
        let patience = Duration::from_mins(2);
        let mut all = Opened::default();
        for reply in self
            .ask(&Task::Open {
                cohort,
                at_once,
                patience,
            })
            .await?
        {
            if let Reply::Opened(opened) = reply {
                all.add(&opened);
            }
        }
        Ok(all)
    }

    /// Has a task done that has no answer.
    pub async fn tell(&self, task: Task) -> anyhow::Result<()> {
        self.ask(&task).await.map(drop)
    }

    /// The counters of all threads.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        let mut all = Stats::default();
        for reply in self.ask(&Task::Stats).await? {
            if let Reply::Stats(stats) = reply {
                all.add(&stats);
            }
        }
        Ok(all)
    }

    /// What connections have and have not received of `pushes` pushes.
    pub async fn tally(&self, first: u32, count: u32, pushes: u64) -> anyhow::Result<Tally> {
        let task = Task::Tally {
            first,
            count,
            pushes,
        };
        let mut all = Tally::default();
        for reply in self.ask(&task).await? {
            if let Reply::Tally(tally) = reply {
                all.add(&tally);
            }
        }
        Ok(all)
    }

    async fn ask(&self, task: &Task) -> anyhow::Result<Vec<Reply>> {
        let mut waiting = Vec::new();
        for thread in &self.threads {
            let (reply, answer) = oneshot::channel();
            let task = task.clone();
            thread
                .orders
                .send(Order { task, reply })
                .ok()
                .context("a thread of clients has ended")?;
            thread.waker.wake()?;
            waiting.push(answer);
        }
        let mut replies = Vec::new();
        for answer in waiting {
            replies.push(answer.await.context("a thread of clients has ended")?);
        }
        Ok(replies)
    }
}

/// From where connection `number` reaches `server`: of a server on loopback, addresses in turn.
pub fn source(server: SocketAddr, number: u32) -> Option<SocketAddr> {
    let last = u8::try_from(2 + number % SOURCES).ok()?;
    let loopback = server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
    loopback.then(|| SocketAddr::from(([127, 0, 0, last], 0)))
}
