//! The end of a comet with many clients: they are told in their time, lose nothing, and come back one by one.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use common::config::Human;
use futures_util::{StreamExt as _, stream};
use protocol::Token;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    drains::drain,
    support::{
        Client, Door, Doors, SecondComet, Server,
        doors::{Entrance, Kind},
        grpc::{self, Lane},
        server::without_bounds,
        token, until, within,
    },
};

/// Messages that were taken for each of them before it begins.
const BEFORE: usize = 20;

/// A drain of many, who go to a second comet.
struct Exodus {
    clients: u32,
    /// Milliseconds in which they are told.
    over: u64,
    /// Milliseconds in which they are to come back.
    back: u64,
    /// Milliseconds from one push to the next.
    every: u64,
    /// Whether they are behind TLS.
    is_tls: bool,
}

/// What became of one of them.
struct Moved {
    messages: usize,
    told: Duration,
    delay: u64,
    arrived: Duration,
}

/// Reads to the end, and goes elsewhere when and as it is told.
async fn moves(mut client: Client, token: Token, elsewhere: SocketAddr, began: Instant) -> Moved {
    let door = client.door;
    let (packets, farewell) = client.rest().await;
    let told = began.elapsed();
    drop(client);
    farewell.is("going_away", 1001, door);
    for (number, packet) in packets.iter().enumerate() {
        assert_eq!(packet.text(), number.to_string(), "one is missing");
    }
    assert_eq!(farewell.words["nodes"], json!(["second.test"]));
    let delay = farewell.words["delay_ms"].as_u64().unwrap();
    sleep(Duration::from_millis(delay)).await;
    Client::open(elsewhere, door, None).await.auth(&token).await;
    Moved {
        messages: packets.len(),
        told,
        delay,
        arrived: began.elapsed(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

/// How many of some values, in milliseconds, are in each of ten equal parts up to `end`.
fn histogram(what: &str, values: impl Iterator<Item = u64>, end: u64) -> [u32; 10] {
    let mut parts = [0; 10];
    for value in values {
        let part = usize::try_from(value * 10 / end).unwrap();
        parts[part.min(9)] += 1;
    }
    let most = parts.into_iter().max().unwrap().max(1);
    println!("\n{what}:");
    for (part, &count) in (1..).zip(&parts) {
        let bar = "#".repeat(usize::try_from(count * 50 / most).unwrap());
        println!("up to {:6} ms {count:5} {bar}", end * part / 10);
    }
    parts
}

impl Exodus {
    /// What became of each.
    async fn run(&self) -> Vec<Moved> {
        let doors = Doors::open_with(|config| {
            without_bounds(config);
            config.comet.drain.over = Human::millis(self.over);
            config.comet.drain.reconnect_over = Human::millis(self.back);
        })
        .await;
        let server = &doors.server;
        let second = SecondComet::start_with(server, |config| {
            config.env.addrs = vec!["second.test".to_owned()];
            "second.test".clone_into(&mut config.env.host);
        })
        .await;
        let clients = self.log_in(&doors).await;
        let began = Instant::now();
        let mut moving = JoinSet::new();
        for (client, token) in clients {
            let elsewhere = second.door(client.door);
            moving.spawn(moves(client, token, elsewhere, began));
        }
        let draining = self.drain_under_pushes(server);
        let taken = within("the drain", draining).await;
        let moved = moving.join_all().await;
        assert_eq!(moved.len(), usize::try_from(self.clients).unwrap());
        assert!(moved.iter().all(|client| client.messages >= BEFORE));
        let got: usize = moved.iter().map(|client| client.messages).sum();
        assert_eq!(u64::try_from(got).unwrap(), taken, "some were lost");
        let metrics = server.metrics();
        assert_eq!(metrics.delivered.get(), metrics.taken.get());
        assert_eq!(metrics.lost("going_away").get(), 0);
        until("logic has heard of all", || {
            metrics.logic_calls("disconnect", "ok").get() == u64::from(self.clients)
        })
        .await;
        moved
    }

    async fn log_in(&self, doors: &Doors) -> Vec<(Client, Token)> {
        let logins = stream::iter(0..self.clients).map(|number| async move {
            let door = [Door::Tcp, Door::WebSocket][usize::from(number % 2 == 1)];
            let token = token(i64::from(number) + 1, &format!("key-{number}"), "live://1");
            let entrance = Entrance {
                kind: Kind::Frames(door),
                is_tls: self.is_tls,
            };
            let mut client = Client::open(doors.addr(entrance), door, None).await;
            client.auth(&token).await;
            // From its first heartbeat on it counts for sure.
            client.online().await;
            (client, token)
        });
        logins.buffer_unordered(64).collect().await
    }

    /// Begins the end when some messages are taken, and pushes to all until nobody is there to take it; returns how often
    /// messages were taken.
    async fn drain_under_pushes(&self, server: &Server) -> u64 {
        let mut lane = Lane::open(server).await;
        let drained = &server.metrics().drained;
        let before = (0..BEFORE).map(|number| {
            let text = number.to_string();
            grpc::message(grpc::room("live://1"), 1000, text.as_bytes())
        });
        let mut taken = lane.push_all(before, BEFORE).await.taken;
        drain(server, "standalone", self.clients).await;
        let mut number = BEFORE;
        while drained.get() < u64::from(self.clients) {
            let receipt = lane
                .push(grpc::room("live://1"), 1000, &number.to_string())
                .await;
            assert_eq!((receipt.dropped, receipt.filtered), (0, 0));
            taken += receipt.taken;
            number += 1;
            if number == BEFORE + 3 {
                is_sent_away(server).await;
            }
            sleep(Duration::from_millis(self.every)).await;
        }
        println!("{number} messages were pushed meanwhile, and taken {taken} times");
        taken
    }

    /// They went and came back one by one.
    fn judge(&self, moved: &[Moved]) {
        let told = moved.iter().map(|client| millis(client.told));
        let paced = histogram("told to go", told.clone(), self.over);
        let last = told.max().unwrap();
        assert!(last >= self.over * 9 / 10, "{last} ms: too quick");
        // A machine that is busy is late, and tells those of several tenths at once; it is never early.
        let mut sum = 0;
        for (tenth, count) in (1..).zip(paced) {
            sum += count;
            let likely = self.clients * (tenth + 2) / 10;
            assert!(sum <= likely, "{sum} are told in {tenth} tenths");
        }
        let delays = moved.iter().map(|client| client.delay);
        let spread = histogram("told to wait", delays, self.back);
        let arrivals = moved.iter().map(|client| millis(client.arrived));
        histogram("logged in elsewhere", arrivals, self.over + self.back);
        for count in spread {
            let likely = self.clients / 25..self.clients / 5;
            assert!(likely.contains(&count), "{count} in a tenth");
        }
    }
}

/// Who comes now is told to go as well.
async fn is_sent_away(server: &Server) {
    for door in [Door::Tcp, Door::WebSocket] {
        let mut late = Client::connect(server, door).await;
        let farewell = late.ended().await;
        farewell.is("going_away", 1001, door);
        assert_eq!(farewell.words["reconnect"], json!(true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_drained_in_their_time_lose_nothing_and_come_back_one_by_one() {
    let exodus = Exodus {
        clients: 500,
        over: 2_000,
        back: 4_000,
        every: 100,
        is_tls: false,
    };
    exodus.judge(&exodus.run().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_tls_lose_nothing_either() {
    let exodus = Exodus {
        clients: 100,
        over: 1_000,
        back: 1_000,
        every: 1,
        is_tls: true,
    };
    exodus.run().await;
}

/// The same with as many as a small comet has; with `--nocapture` it shows how they go and come back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute and 10,000 files: `make test` runs it after the others"]
async fn five_thousand_are_drained() {
    common::files::raise_bound().unwrap();
    let exodus = Exodus {
        clients: 5_000,
        over: 10_000,
        back: 20_000,
        every: 100,
        is_tls: false,
    };
    exodus.judge(&exodus.run().await);
}
