//! Lanes between the push API and a client: order, and every message once, also when connections break.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use common::config::Human;
use parking_lot::Mutex;
use serde_json::Value;
use standalone::Config;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    Client, Door, Server, server::without_bounds, through_both_doors, token, until, within,
};

const PUSHES: usize = 10_000;

const PUSHERS: usize = 8;

/// How often the way to comet is cut, and after how many messages each.
const CUTS: usize = 20;
const BETWEEN_CUTS: usize = 200;

through_both_doors!(
    one_pusher_in_turn_is_followed,
    each_of_many_pushers_is_followed,
    a_way_that_is_cut_again_and_again_loses_repeats_and_reorders_nothing,
);

async fn one_pusher_in_turn_is_followed(door: Door) {
    let server = Server::start_with(patient).await;
    let client = Client::login(&server, door, &token(1, "", "live://1")).await;
    let reading = tokio::spawn(read(client, PUSHES));
    let mut pusher = Pusher::connect(&server).await;
    for number in 0..PUSHES {
        pusher.push(&format!("0 {number}"), false).await;
    }
    let read = reading.await.unwrap();
    assert!(read.iter().map(|(_, number)| *number).eq(0..PUSHES));
    let metrics = Arc::clone(&server.standalone.logic.logic().metrics);
    until("receipts", || metrics.taken.get() == PUSHES as u64).await;
    assert_eq!(metrics.pushes("room").get(), PUSHES as u64);
}

async fn each_of_many_pushers_is_followed(door: Door) {
    let server = Arc::new(Server::start_with(patient).await);
    let client = Client::login(&server, door, &token(1, "", "live://1")).await;
    let reading = tokio::spawn(read(client, PUSHES));
    let mut pushing = JoinSet::new();
    for pusher in 0..PUSHERS {
        let server = Arc::clone(&server);
        pushing.spawn(async move {
            let mut connection = Pusher::connect(&server).await;
            let mut taken = 0;
            for number in 0..PUSHES / PUSHERS {
                let answer = connection.push(&format!("{pusher} {number}"), true).await;
                taken += answer["data"]["taken"].as_u64().unwrap();
            }
            taken
        });
    }
    let taken: u64 = pushing.join_all().await.into_iter().sum();
    let read = reading.await.unwrap();
    assert_eq!(taken, read.len() as u64);
    for pusher in 0..PUSHERS {
        let of_one = read.iter().filter(|(from, _)| *from == pusher);
        assert!(of_one.map(|(_, number)| *number).eq(0..PUSHES / PUSHERS));
    }
}

async fn a_way_that_is_cut_again_and_again_loses_repeats_and_reorders_nothing(door: Door) {
    const PUSHES: usize = CUTS * BETWEEN_CUTS;
    let way = Way::open().await;
    let server = Server::start_with(|config| {
        patient(config);
        config.comet.env.grpc_address = way.addr.to_string();
    })
    .await;
    way.leads_to(server.grpc());
    let mut client = Client::login(&server, door, &token(1, "", "live://1")).await;
    let mut pusher = Pusher::connect(&server).await;
    let pushing = tokio::spawn(async move {
        for number in 0..PUSHES {
            pusher.push(&format!("0 {number}"), false).await;
        }
    });
    for number in 0..PUSHES {
        client.gets(&format!("0 {number}")).await;
        if number % BETWEEN_CUTS == BETWEEN_CUTS / 2 {
            way.cut();
        }
    }
    pushing.await.unwrap();
    let metrics = &server.standalone.logic.logic().metrics;
    until("receipts", || {
        metrics.taken.get() + metrics.uncounted.get() == PUSHES as u64
    })
    .await;
    client.has_nothing().await;
    // A cut may find the lane at rest or still on its way back.
    assert!(metrics.lane_reconnects.get() > 0);
}

/// Lanes that wait as long as a test does.
fn patient(config: &mut Config) {
    without_bounds(config);
    config.logic.lanes.retry = Human::secs(60);
    config.logic.lanes.reconnect = Human::millis(10);
    config.logic.lanes.report = Human::secs(60);
}

/// Reads so many messages: which pusher's, and which of them.
async fn read(mut client: Client, count: usize) -> Vec<(usize, usize)> {
    let mut read = Vec::with_capacity(count);
    while read.len() < count {
        let (operation, text) = client.message().await;
        assert_eq!(operation, 1000);
        let (pusher, number) = text.split_once(' ').unwrap();
        read.push((pusher.parse().unwrap(), number.parse().unwrap()));
    }
    read
}

/// A pusher that keeps its connection.
struct Pusher {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Pusher {
    async fn connect(server: &Server) -> Self {
        let socket = TcpStream::connect(server.push_api()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            input: Vec::new(),
        }
    }

    /// Pushes to the room and waits for the answer, which has code 0.
    async fn push(&mut self, body: &str, report: bool) -> Value {
        let request = format!(
            "POST /goim/push/room?operation=1000&type=live&room=1&report={} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {}\r\n\r\n{body}",
            u8::from(report),
            body.len(),
        );
        self.socket.write_all(request.as_bytes()).await.unwrap();
        let answer: Value = within("an answer", self.answer()).await;
        assert_eq!(answer["code"], 0, "{answer}");
        answer
    }

    async fn answer(&mut self) -> Value {
        loop {
            if let Some((body, end)) = whole(&self.input) {
                let answer = serde_json::from_slice(body).unwrap();
                self.input.drain(..end);
                return answer;
            }
            assert_ne!(self.socket.read_buf(&mut self.input).await.unwrap(), 0);
        }
    }
}

/// The body of the first answer and where it ends, if it is there.
fn whole(input: &[u8]) -> Option<(&[u8], usize)> {
    let head = input.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&input[..head]).unwrap();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a length");
    let end = head + length.parse::<usize>().unwrap();
    Some((input.get(head..end)?, end))
}

/// A way to an address that can be cut in the middle of whatever is on it.
struct Way {
    addr: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    open: Arc<Mutex<CancellationToken>>,
}

impl Way {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self {
            addr: listener.local_addr().unwrap(),
            target: Arc::default(),
            open: Arc::default(),
        };
        let (target, open) = (Arc::clone(&way.target), Arc::clone(&way.open));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (Some(target), open) = (target.get().copied(), open.lock().clone()) else {
                    continue;
                };
                tokio::spawn(open.run_until_cancelled_owned(lead(near, target)));
            }
        });
        way
    }

    fn leads_to(&self, target: SocketAddr) {
        self.target.set(target).unwrap();
    }

    /// Ends all connections: what was on the way is gone.
    fn cut(&self) {
        std::mem::take(&mut *self.open.lock()).cancel();
    }
}

async fn lead(mut near: TcpStream, target: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(target).await {
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}
