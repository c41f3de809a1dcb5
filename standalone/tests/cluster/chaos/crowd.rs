//! Clients that come back by the advice they get, and remember what came when.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::op;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{CLIENTS, ROOMS};
use crate::{
    harness::Cluster,
    support::{
        Door, Received,
        client::{UPGRADE, frame},
        token,
        wire::Wire,
    },
};

/// The first logins come within so long.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Longest time for one attempt to log in.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Below the silence that is allowed.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// The back-off that `nodes/weighted` hands out, in seconds.
const BASE_DELAY: f64 = 3.0;
const FACTOR: f64 = 1.8;
const JITTER: f64 = 0.3;
const MAX_DELAY: f64 = 300.0;

/// Ends with all of its connections.
pub struct Crowd {
    tracks: Vec<Arc<Mutex<Track>>>,
    _tasks: JoinSet<()>,
}

/// What one client has seen.
#[derive(Debug, Default)]
pub struct Track {
    /// Its connections, from the login on.
    sessions: Vec<Session>,
    /// The numbers of the messages that came.
    got: Vec<usize>,
}

#[derive(Debug)]
struct Session {
    from: Instant,
    to: Option<Instant>,
}

/// Where a client was when something was pushed to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// In a connection from before the fault that is still there.
    Stayed,
    /// In one that began after the fault and is still there.
    Back,
    /// In one that has ended since.
    Left,
    /// In none.
    Away,
}

/// A connection that has logged in.
struct Connection {
    socket: TcpStream,
    wire: Box<dyn Wire>,
    input: Vec<u8>,
}

/// What a client is told of when to come back: after how long, elsewhere.
type Advice = Option<Duration>;

impl Crowd {
    /// Lets all clients log in, half of them behind each door.
    pub fn start(cluster: &Cluster) -> Self {
        let tracks: Vec<_> = (0..CLIENTS).map(|_| Arc::default()).collect();
        let mut tasks = JoinSet::new();
        for (index, track) in tracks.iter().enumerate() {
            let door = [Door::Tcp, Door::WebSocket][index / ROOMS % 2];
            let comets = cluster.comets.iter().map(|comet| comet.door(door));
            tasks.spawn(live(index, door, comets.collect(), Arc::clone(track)));
        }
        Self {
            tracks,
            _tasks: tasks,
        }
    }

    /// Clients that are connected now.
    pub fn online(&self) -> usize {
        let is_online = |track: &&Arc<Mutex<Track>>| track.lock().is_online();
        self.tracks.iter().filter(is_online).count()
    }

    /// The last login.
    pub fn last_login(&self) -> Option<Instant> {
        let last = |track: &Arc<Mutex<Track>>| Some(track.lock().sessions.last()?.from);
        self.tracks.iter().filter_map(last).max()
    }

    /// Messages that have come since the last [`forget`](Self::forget).
    pub fn received(&self) -> usize {
        self.tracks.iter().map(|track| track.lock().got.len()).sum()
    }

    /// From now on only what is to come counts.
    pub fn forget(&self) {
        for track in &self.tracks {
            let mut track = track.lock();
            track.got.clear();
            track.sessions.retain(|session| session.to.is_none());
        }
    }

    /// What each client has seen.
    pub fn tracks(&self) -> impl Iterator<Item = parking_lot::MutexGuard<'_, Track>> {
        self.tracks.iter().map(|track| track.lock())
    }
}

impl Track {
    fn is_online(&self) -> bool {
        self.sessions.last().is_some_and(|last| last.to.is_none())
    }

    /// The numbers that came, in ascending order.
    pub fn numbers(&self) -> Vec<usize> {
        let mut numbers = self.got.clone();
        numbers.sort_unstable();
        numbers
    }

    /// Where the client was then, with a fault that struck at some time.
    pub fn at(&self, moment: Instant, struck: Instant) -> Whereabouts {
        let covers =
            |session: &&Session| session.from <= moment && session.to.is_none_or(|to| moment <= to);
        match self.sessions.iter().find(covers) {
            Some(session) if session.to.is_some() => Whereabouts::Left,
            Some(session) if session.from < struck => Whereabouts::Stayed,
            Some(_) => Whereabouts::Back,
            None => Whereabouts::Away,
        }
    }
}

/// One client, for ever.
async fn live(index: usize, door: Door, comets: Vec<SocketAddr>, track: Arc<Mutex<Track>>) {
    sleep(ARRIVAL.mul_f64(rand::random())).await;
    let token = token(
        i64::try_from(index).unwrap() + 1,
        &format!("client-{index}"),
        &format!("chaos://{}", index % ROOMS),
    )
    .to_json();
    let mut comet = index % comets.len();
    let mut failures = 0;
    loop {
        let attempt = timeout(ATTEMPT, log_in(comets[comet], door, &token)).await;
        let advice = match attempt.unwrap_or(Err(None)) {
            Ok(connection) => {
                failures = 0;
                stay(connection, &track).await
            }
            Err(advice) => advice,
        };
        let delay = advice.unwrap_or_else(|| back_off(failures));
        failures += 1;
        // Elsewhere, if it was told so; else wherever a balancer leads it.
        comet = match advice {
            Some(_) => (comet + 1) % comets.len(),
            None => rand::random_range(0..comets.len()),
        };
        sleep(delay).await;
    }
}

fn back_off(failures: i32) -> Duration {
    let delay = (BASE_DELAY * FACTOR.powi(failures)).min(MAX_DELAY);
    let jitter = JITTER * rand::random_range(-1.0..1.0);
    Duration::from_secs_f64(delay * (1.0 + jitter))
}

async fn log_in(addr: SocketAddr, door: Door, token: &str) -> Result<Connection, Advice> {
    let socket = TcpStream::connect(addr).await.map_err(|_| None)?;
    let mut connection = Connection {
        socket,
        wire: door.wire(),
        input: Vec::new(),
    };
    if door == Door::WebSocket {
        connection.upgrade().await.ok_or(None)?;
    }
    let auth = frame(op::AUTH, 1, token.as_bytes());
    connection.send(&auth).await.ok_or(None)?;
    match connection.next().await {
        Some(Received::Packet(packet)) if packet.op == op::AUTH_REPLY => Ok(connection),
        Some(Received::Packet(packet)) if packet.op == op::DISCONNECT_REPLY => {
            Err(advice(&packet.body))
        }
        _ => Err(None),
    }
}

/// Reads until the connection ends; what the client was told at last.
async fn stay(mut connection: Connection, track: &Mutex<Track>) -> Advice {
    track.lock().sessions.push(Session {
        from: Instant::now(),
        to: None,
    });
    let mut told = None;
    let mut heartbeats = tokio::time::interval(HEARTBEAT);
    heartbeats.tick().await;
    loop {
        let received = tokio::select! {
            received = connection.next() => received,
            _ = heartbeats.tick() => {
                let heartbeat = frame(op::HEARTBEAT, 7, b"");
                if connection.send(&heartbeat).await.is_none() {
                    break;
                }
                continue;
            }
        };
        match received {
            Some(Received::Packet(packet)) if packet.op == 1000 => {
                track.lock().got.push(packet.text().parse().unwrap());
            }
            Some(Received::Packet(packet)) if packet.op == op::DISCONNECT_REPLY => {
                told = advice(&packet.body);
            }
            Some(Received::End) | None => break,
            Some(_) => {}
        }
    }
    let mut track = track.lock();
    let last = track.sessions.last_mut().unwrap();
    last.to = Some(Instant::now());
    told
}

/// What the words of the server say of when to come back, if they say it.
fn advice(body: &[u8]) -> Advice {
    let words: serde_json::Value = serde_json::from_slice(body).unwrap();
    words["delay_ms"].as_u64().map(Duration::from_millis)
}

impl Connection {
    async fn upgrade(&mut self) -> Option<()> {
        self.socket.write_all(UPGRADE.as_bytes()).await.ok()?;
        loop {
            if let Some(end) = self.input.windows(4).position(|part| part == b"\r\n\r\n") {
                let head: Vec<u8> = self.input.drain(..end + 4).collect();
                return head.starts_with(b"HTTP/1.1 101 ").then_some(());
            }
            self.fill().await?;
        }
    }

    async fn send(&mut self, frames: &[u8]) -> Option<()> {
        let bytes = self.wire.encode(frames);
        self.socket.write_all(&bytes).await.ok()
    }

    /// The next thing that comes; none when the connection has broken.
    async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(received) = self.wire.decode(&mut self.input) {
                return Some(received);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Option<()> {
        match self.socket.read_buf(&mut self.input).await {
            Ok(1..) => Some(()),
            Ok(0) | Err(_) => None,
        }
    }
}
