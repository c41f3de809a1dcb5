//! The contract on one server and on a cluster, what is kept in Redis, and Redis that comes and goes.

mod replicas;

use std::time::Duration;

use super::*;
use crate::{
    queue::contract::{self, LIMITS, Subject, part},
    sessions::redis::{
        Place,
        tests::{
            authority::Authority,
            server::{Server, until},
        },
    },
};

const WAITS: Waits = Waits {
    dial: Duration::from_secs(2),
    answer: Duration::from_secs(5),
    pause: Duration::from_millis(100),
    room_counts: Duration::ZERO,
};

struct Subjected<'a> {
    servers: &'a [Server],
    one: RedisQueue,
    other: RedisQueue,
}

impl<'a> Subjected<'a> {
    /// A queue on emptied servers.
    fn new(servers: &'a [Server]) -> Self {
        for server in servers {
            server.ask::<()>(&["FLUSHALL"]);
        }
        Self {
            servers,
            one: queue(servers, LIMITS),
            other: queue(servers, LIMITS),
        }
    }
}

impl Subject for Subjected<'_> {
    fn queues(&self) -> [&dyn Queue; 2] {
        [&self.one, &self.other]
    }

    fn pass(&self, time: Duration) {
        self.servers.iter().for_each(|server| server.age(time));
    }
}

fn queue(servers: &[Server], limits: Limits) -> RedisQueue {
    RedisQueue::new(Server::place(servers), limits, WAITS).unwrap()
}

#[tokio::test]
async fn keeps_the_contract() {
    let servers = [Server::start()];
    contract::check(|| Subjected::new(&servers)).await;
}

#[tokio::test]
async fn keeps_the_contract_on_a_cluster() {
    let servers = Server::cluster();
    contract::check_streams(&|| Subjected::new(&servers)).await;
    let limits = Limits {
        streams: 32,
        ..LIMITS
    };
    let spread = queue(&servers, limits);
    let parts: Vec<Part> = (0..32).map(|stream| part(stream, "x")).collect();
    spread.append(&parts).await.unwrap();
    for server in &servers {
        assert_ne!(server.keys(), Vec::<String>::new(), "one has nothing");
    }
    for stream in 0..32 {
        let claim = spread.claim(stream).await.unwrap().unwrap();
        assert_eq!(claim.entries, 1);
    }
}

#[tokio::test]
async fn keeps_the_contract_over_tls() {
    let servers = [Server::secure(&Authority::new())];
    contract::check(|| Subjected::new(&servers)).await;
}

#[tokio::test]
async fn operators_see_what_waits_and_what_is_under_way() {
    let servers = [Server::start()];
    let [server] = &servers;
    let queue = queue(&servers, LIMITS);
    for text in ["a", "b", "c"] {
        queue.append(&[part(1, text)]).await.unwrap();
    }
    let claim = queue.claim(1).await.unwrap().unwrap();
    let two = queue.read(&claim, 0, 2).await.unwrap().unwrap();
    let entries = "{push/4/1}entries";
    assert_eq!(
        server.keys(),
        [
            entries,
            "{push/4/1}names",
            "{push/4/1}owner",
            "{push/4/1}state"
        ]
    );
    let pending: Vec<Value> = server.ask(&["XPENDING", entries, "lanes", "-", "+", "10"]);
    assert_eq!(pending.len(), 2);
    let first: Vec<Value> = server.ask(&["XRANGE", entries, "-", "+", "COUNT", "1"]);
    let expected = Value::Array(vec![
        Value::BulkString(format!("{}-0", two[0].number).into()),
        Value::Array(vec![
            Value::BulkString(b"push".to_vec()),
            Value::BulkString(b"a".to_vec()),
        ]),
    ]);
    assert_eq!(first, [expected]);
    let done = Done {
        number: two[0].number,
        bytes: 1,
    };
    queue.acknowledge(1, &[done]).await.unwrap();
    assert_eq!(server.ask::<u64>(&["XLEN", entries]), 2);
    let pending: Vec<Value> = server.ask(&["XPENDING", entries, "lanes", "-", "+", "10"]);
    assert_eq!(pending.len(), 1);
    let bytes: u64 = server.ask(&["HGET", "{push/4/1}state", "bytes"]);
    assert_eq!(bytes, 2);
}

#[tokio::test]
async fn numbers_and_epochs_rise_over_a_loss_of_everything() {
    let servers = [Server::start()];
    let queue = queue(&servers, LIMITS);
    let mut last = (0, 0);
    for _ in 0..3 {
        queue.append(&[part(1, "x")]).await.unwrap();
        let claim = queue.claim(1).await.unwrap().unwrap();
        let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
        let now = (claim.epoch, entries[0].number);
        assert!(now.0 > last.0 && now.1 > last.1, "{now:?} {last:?}");
        last = now;
        servers[0].ask::<()>(&["FLUSHALL"]);
    }
    // As a fail-over leaves it whose clock is behind.
    let ahead = (last.1 + 3_600_000_000).to_string();
    servers[0].ask::<()>(&["HSET", "{push/4/1}state", "number", &ahead, "epoch", &ahead]);
    queue.append(&[part(1, "x")]).await.unwrap();
    let claim = queue.claim(1).await.unwrap().unwrap();
    let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
    let next = ahead.parse::<u64>().unwrap() + 1;
    assert_eq!((claim.epoch, entries[0].number), (next, next));
}

#[tokio::test]
async fn what_is_repeated_is_stored_once() {
    let servers = [Server::start()];
    let [server] = &servers;
    let queue = queue(&servers, LIMITS);
    let both = [part(1, "a"), part(2, "a")].map(|part| Part {
        id: MessageId([1; 16]),
        ..part
    });
    for _ in 0..2 {
        queue.append(&both).await.unwrap();
    }
    queue.append(&[part(1, "b")]).await.unwrap();
    for _ in 3..=LIMITS.messages {
        queue.append(&[part(1, "x")]).await.unwrap();
    }
    // Stored is stored, whether there is room for another one or not.
    queue.append(&both).await.unwrap();
    assert!(queue.append(&[part(1, "more")]).await.is_err());
    assert_eq!(claim_of(&queue, 1).await.entries, LIMITS.messages as u64);
    assert_eq!(claim_of(&queue, 2).await.entries, 1);
    let life: u64 = server.ask(&["PTTL", "{push/4/1}names"]);
    assert!(life > 7_000 && life <= 14_000, "{life}");
}

#[tokio::test]
async fn what_was_given_up_is_not_stored_later() {
    let servers = [Server::start()];
    let [server] = &servers;
    let waits = Waits {
        answer: Duration::from_millis(200),
        dial: Duration::from_millis(300),
        ..WAITS
    };
    let queue = RedisQueue::new(Server::place(&servers), LIMITS, waits).unwrap();
    until_stored(&queue, "before").await;
    server.ask::<()>(&["CLIENT", "PAUSE", "3000", "ALL"]);
    for text in ["a", "b"] {
        let given_up = queue.append(&[part(1, text)]).await;
        assert!(
            matches!(given_up, Err(StoreError::Unavailable(_))),
            "{given_up:?}"
        );
    }
    until_stored(&queue, "in time").await;
    let claim = until_claimed(&queue).await;
    let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
    let contents: Vec<_> = entries.iter().map(|entry| entry.content.clone()).collect();
    assert_eq!(contents, ["before", "in time"]);
}

#[tokio::test]
async fn a_clock_of_redis_that_was_set_refuses_nothing() {
    let servers = [Server::start()];
    let queue = queue(&servers, LIMITS);
    // As if it had been far behind until now.
    queue.time_of(1).note(std::time::Instant::now(), 1_000);
    queue.append(&[part(1, "a"), part(2, "a")]).await.unwrap();
    assert_eq!(claim_of(&queue, 2).await.entries, 1);
}

#[tokio::test]
async fn a_group_that_somebody_deleted_is_made_again() {
    let servers = [Server::start()];
    let queue = queue(&servers, LIMITS);
    queue.append(&[part(1, "a")]).await.unwrap();
    let claim = queue.claim(1).await.unwrap().unwrap();
    servers[0].ask::<()>(&["XGROUP", "DESTROY", "{push/4/1}entries", "lanes"]);
    let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn readers_are_woken_again_after_redis_was_away() {
    let mut servers = [Server::start()];
    let (one, other) = {
        let servers = &servers;
        (queue(servers, LIMITS), queue(servers, LIMITS))
    };
    one.claim(1).await.unwrap().unwrap();
    servers[0].kill();
    assert!(one.append(&[part(1, "a")]).await.is_err());
    servers[0].go();
    // It was empty, and knows no claim.
    let claim = until_claimed(&one).await;
    for text in ["a", "b"] {
        while let Ok(()) = timeout(Duration::ZERO, one.woken(1)).await {}
        let entries = one.read(&claim, 0, 10).await.unwrap().unwrap();
        let after = entries.last().map_or(0, |entry| entry.number);
        assert_eq!(one.read(&claim, after, 10).await, Ok(Some(Vec::new())));
        until_stored(&other, text).await;
        timeout(Duration::from_secs(20), one.woken(1))
            .await
            .unwrap();
        let entries = one.read(&claim, after, 10).await.unwrap().unwrap();
        assert_eq!(entries[0].content, text);
    }
}

#[tokio::test]
async fn a_fail_over_is_followed() {
    let mut master = Server::start();
    let (replica, sentinel) = (master.replica(), master.sentinel());
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port);
    let queue = RedisQueue::new(Place::parse(&url).unwrap(), LIMITS, WAITS).unwrap();
    queue.append(&[part(1, "a")]).await.unwrap();
    let before = queue.claim(1).await.unwrap().unwrap();
    let stored = || replica.ask::<u64>(&["XLEN", "{push/4/1}entries"]);
    until("the replica has it", || stored() == 1);
    master.kill();
    until_stored(&queue, "b").await;
    let claim = until_claimed(&queue).await;
    assert!(claim.epoch >= before.epoch);
    let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
    let contents: Vec<_> = entries.iter().map(|entry| entry.content.clone()).collect();
    assert_eq!(contents, ["a", "b"]);
    assert!(entries[0].number < entries[1].number);
    assert_eq!(stored(), 2);
}

async fn claim_of(queue: &RedisQueue, stream: u16) -> Claim {
    queue.claim(stream).await.unwrap().unwrap()
}

async fn until_claimed(queue: &RedisQueue) -> Claim {
    let claimed = async {
        loop {
            if let Ok(Some(claim)) = queue.claim(1).await {
                return claim;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), claimed).await.unwrap()
}

async fn until_stored(queue: &RedisQueue, text: &str) {
    let stored = async {
        while queue.append(&[part(1, text)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), stored).await.unwrap();
}
