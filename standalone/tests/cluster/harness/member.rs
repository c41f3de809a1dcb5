//! A client that stays connected, reads all that comes, and sends heartbeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use protocol::{Token, op};
use tokio::task::JoinHandle;

use crate::support::{Client, Door, Received, until};

/// How often it sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// A client in a task of its own.
pub struct Member {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What has come.
#[derive(Debug, Default)]
struct Seen {
    /// The numbers of each pusher, in the order in which they came.
    numbers: BTreeMap<String, Vec<u64>>,
    /// The first pair of numbers of one pusher that did not rise.
    disorder: Option<(String, u64, u64)>,
    /// All other messages.
    texts: BTreeSet<String>,
    /// Heartbeats that were answered.
    beats: u64,
    /// The last online count of its room.
    online: i32,
}

/// Logs in, once. A refusal is the reason that the client is told.
pub async fn login(addr: SocketAddr, door: Door, token: &Token) -> Result<Client, String> {
    let mut client = Client::open(addr, door, None).await;
    client.send(op::AUTH, 1, token.to_json().as_bytes()).await;
    match client.next().await {
        Received::Packet(packet) if packet.op == op::AUTH_REPLY => Ok(client),
        Received::Packet(packet) if packet.op == op::DISCONNECT_REPLY => {
            let words: serde_json::Value = serde_json::from_slice(&packet.body).unwrap();
            Err(words["reason"].as_str().unwrap().to_owned())
        }
        other => panic!("neither in nor refused: {other:?}"),
    }
}

impl Member {
    /// Lets a client that has logged in read.
    pub fn of(client: Client) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(run(client, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Whether this message has come.
    pub fn has(&self, text: &str) -> bool {
        self.seen.lock().texts.contains(text)
    }

    /// Waits for a message.
    pub async fn gets(&self, text: &str) {
        until(text, || self.is_up() && self.has(text)).await;
    }

    /// Waits until its room's online count, as its heartbeats are told, is a certain one.
    pub async fn until_online(&self, count: i32) {
        until("the online count", || self.seen.lock().online == count).await;
    }

    /// Waits for the answer to a heartbeat that is sent after now: it is connected.
    pub async fn beats(&self) {
        let before = self.seen.lock().beats;
        until("heartbeats", || {
            self.is_up() && self.seen.lock().beats > before + 1
        })
        .await;
    }

    /// The numbers of one pusher that have come.
    pub fn numbers(&self, pusher: &str) -> Vec<u64> {
        self.in_order()
            .numbers
            .get(pusher)
            .cloned()
            .unwrap_or_default()
    }

    /// The greatest of them.
    pub fn last(&self, pusher: &str) -> Option<u64> {
        self.in_order().numbers.get(pusher)?.last().copied()
    }

    fn in_order(&self) -> parking_lot::MutexGuard<'_, Seen> {
        assert!(self.is_up());
        let seen = self.seen.lock();
        assert_eq!(
            seen.disorder, None,
            "a number came behind one that is not below it"
        );
        seen
    }

    fn is_up(&self) -> bool {
        assert!(
            !self.task.is_finished(),
            "a client that should stay connected is not"
        );
        true
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads until the connection ends, which it should not.
async fn run(mut client: Client, seen: Arc<Mutex<Seen>>) {
    let mut beats = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            _ = beats.tick() => client.send(op::HEARTBEAT, 7, b"").await,
            received = client.next() => match received {
                Received::Packet(packet) if packet.op == op::HEARTBEAT_REPLY => {
                    let mut seen = seen.lock();
                    seen.beats += 1;
                    seen.online = i32::from_be_bytes(packet.body.try_into().unwrap());
                }
                Received::Packet(packet) if packet.op == 1000 => seen.lock().take(packet.text()),
                other => panic!("a client that should stay connected gets {other:?}"),
            }
        }
    }
}

impl Seen {
    fn take(&mut self, text: &str) {
        let numbered = text.strip_prefix('#').and_then(|text| text.split_once(' '));
        let Some((pusher, number)) = numbered else {
            self.texts.insert(text.to_owned());
            return;
        };
        let number = number.parse().unwrap();
        let numbers = self.numbers.entry(pusher.to_owned()).or_default();
        if let Some(last) = numbers.last().filter(|last| **last >= number) {
            self.disorder
                .get_or_insert((pusher.to_owned(), *last, number));
        }
        numbers.push(number);
    }
}
