//! A pusher that numbers its messages to a room or a key, and one answer of the push API.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::Member;
use crate::support::{http, until, within};

/// Where its messages go.
const PATH: &str = "/goim/push/room?operation=1000&type=live&room=1";

/// goim's answer to a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: i64,
    pub message: String,
}

/// What became of a number, as far as the pusher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Code 0.
    Taken,
    /// Another code, with its message.
    Refused(String),
    /// The connection broke before the answer.
    Unanswered,
}

/// Pushes `#<name> <number>` at a steady pace, whatever happens. It keeps its connection as long as that lasts.
pub struct Pusher {
    pub name: String,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What became of all numbers of a pusher, in their order from 0.
pub struct Pushed {
    name: String,
    pub outcomes: Vec<Outcome>,
}

impl Answer {
    /// That of an HTTP answer.
    pub fn of(answer: &http::Answer) -> Self {
        let (code, message) = answer.verdict();
        Self { code, message }
    }

    /// Whether it is taken, with nothing to be said about it.
    pub fn is_taken(&self) -> bool {
        self.code == 0 && self.message.is_empty()
    }

    /// Whether it is taken for others than this one, who is not online.
    pub fn says_absent(&self, who: &str) -> bool {
        self.code == 0 && self.message == format!("not online: {who}")
    }
}

impl Outcome {
    fn of(answer: Option<Answer>) -> Self {
        match answer {
            None => Self::Unanswered,
            Some(Answer { code: 0, .. }) => Self::Taken,
            Some(Answer { message, .. }) => Self::Refused(message),
        }
    }
}

impl Pusher {
    /// Begins to push to the room `live://1`, one message in each `pace` or as fast as it is answered.
    pub fn start(name: &str, addr: SocketAddr, pace: Duration) -> Self {
        Self::start_to(PATH.to_owned(), name, addr, pace)
    }

    /// The same to a key.
    pub fn start_to_key(key: &str, name: &str, addr: SocketAddr, pace: Duration) -> Self {
        let path = format!("/goim/push/keys?operation=1000&keys={key}");
        Self::start_to(path, name, addr, pace)
    }

    fn start_to(path: String, name: &str, addr: SocketAddr, pace: Duration) -> Self {
        let outcomes = Arc::<Mutex<Vec<Outcome>>>::default();
        let stop = CancellationToken::new();
        let pushing = push(
            name.to_owned(),
            (addr, path),
            pace,
            Arc::clone(&outcomes),
            stop.clone(),
        );
        Self {
            name: name.to_owned(),
            outcomes,
            stop,
            task: tokio::spawn(pushing),
        }
    }

    /// The number of the next message.
    pub fn next(&self) -> u64 {
        self.outcomes.lock().len() as u64
    }

    /// Stops, and says what became of each number as far as it was told.
    pub async fn stop(self) -> Pushed {
        self.stop.cancel();
        within("the last answer", self.task).await.unwrap();
        let outcomes = std::mem::take(&mut *self.outcomes.lock());
        Pushed {
            name: self.name,
            outcomes,
        }
    }
}

impl Pushed {
    /// The numbers that were taken.
    pub fn taken(&self) -> impl Iterator<Item = u64> {
        let taken =
            |(number, outcome): (u64, &Outcome)| (*outcome == Outcome::Taken).then_some(number);
        (0..).zip(&self.outcomes).filter_map(taken)
    }

    /// Waits until the last number that was taken has come to a client, and returns those that have not.
    pub async fn missing_at(&self, member: &Member) -> Vec<String> {
        let last = self.taken().last();
        until("the last number", || member.last(&self.name) >= last).await;
        let seen = member.numbers(&self.name);
        let missing = self
            .taken()
            .filter(|number| seen.binary_search(number).is_err());
        missing
            .map(|number| format!("#{} {number}", self.name))
            .collect()
    }
}

async fn push(
    name: String,
    (addr, path): (SocketAddr, String),
    pace: Duration,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: CancellationToken,
) {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    for number in 0_u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let body = format!("#{name} {number}");
        let outcome = within(&body, push_once(&mut connection, addr, &path, &body)).await;
        let outcome = Outcome::of(outcome);
        if outcome == Outcome::Unanswered {
            connection = None;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        outcomes.lock().push(outcome);
    }
}

/// Pushes to the room `live://1`, over the connection or a new one.
pub async fn one(connection: &mut Option<TcpStream>, addr: SocketAddr, body: &str) -> Outcome {
    Outcome::of(push_once(connection, addr, PATH, body).await)
}

/// Pushes over the connection, or a new one. None if it broke before the answer.
pub async fn push_once(
    connection: &mut Option<TcpStream>,
    addr: SocketAddr,
    path: &str,
    body: &str,
) -> Option<Answer> {
    if connection.is_none() {
        *connection = TcpStream::connect(addr).await.ok();
    }
    let stream = connection.as_mut()?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = answer(stream).await?;
    Some(Answer {
        code: answer["code"].as_i64().unwrap(),
        message: answer["message"].as_str().unwrap().to_owned(),
    })
}

/// The answer, which comes whole and alone; none if the connection ends before.
async fn answer(stream: &mut TcpStream) -> Option<Value> {
    let mut input = Vec::new();
    loop {
        if stream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
        let text = std::str::from_utf8(&input).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().unwrap();
        if body.len() == length {
            return Some(serde_json::from_str(body).unwrap());
        }
    }
}
