//! The contract on one server and on a cluster, goim's view of the data, and Redis that comes and goes.

pub(crate) mod authority;
mod faults;
mod secure;
mod sentinel;
pub(crate) mod server;

use std::time::Instant;

use futures_util::future::{BoxFuture, join_all, ready};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::*;
use crate::sessions::{
    Client,
    contract::{self, LIMITS, Subject, session},
};
use server::Server;

const WAITS: Waits = Waits {
    dial: Duration::from_secs(2),
    answer: Duration::from_secs(5),
    pause: Duration::from_millis(100),
    room_counts: Duration::ZERO,
};

struct Subjected<'a> {
    servers: &'a [Server],
    store: RedisSessions,
    ahead: Arc<Mutex<Duration>>,
}

impl<'a> Subjected<'a> {
    /// A store on emptied servers.
    fn new(servers: &'a [Server]) -> Self {
        Self::with(servers, WAITS)
    }

    fn with(servers: &'a [Server], waits: Waits) -> Self {
        for server in servers {
            server.ask::<()>(&["FLUSHALL"]);
        }
        let ahead = Arc::new(Mutex::new(Duration::ZERO));
        let (start, hand) = (Instant::now(), Arc::clone(&ahead));
        // Redis's clock goes on by itself: this one has to go with it.
        let clock = Clock::new(move || Instant::now().max(start) + *hand.lock());
        let place = Server::place(servers);
        let fixed = vec!["fixed".into()];
        Self {
            servers,
            store: RedisSessions::new(place, LIMITS, waits, clock, fixed).unwrap(),
            ahead,
        }
    }
}

impl Subject for Subjected<'_> {
    fn sessions(&self) -> &dyn Sessions {
        &self.store
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        for server in self.servers {
            server.age(time);
        }
        *self.ahead.lock() += time;
        Box::pin(ready(()))
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    let servers = [Server::start()];
    contract::check(|| Subjected::new(&servers)).await;
}

#[tokio::test]
async fn keeps_the_contract_on_a_cluster() {
    let servers = Server::cluster();
    contract::check(|| Subjected::new(&servers)).await;
    let subject = Subjected::new(&servers);
    long_lists(&subject).await;
    for server in &servers {
        assert_ne!(server.keys(), Vec::<String>::new(), "one has nothing");
    }
    index_and_keys_agree_after_a_race(&subject).await;
    names_with_braces(&subject).await;
}

#[tokio::test]
async fn many_sessions_at_once() {
    let servers = [Server::start()];
    let subject = Subjected::new(&servers);
    long_lists(&subject).await;
    index_and_keys_agree_after_a_race(&subject).await;
    names_with_braces(&subject).await;
}

#[tokio::test]
async fn goim_reads_what_is_written() {
    let servers = [Server::start()];
    let Subjected { store, .. } = Subjected::new(&servers);
    let [server] = &servers;
    let mut session = session(7, "k", "a", Some((1, 2)));
    session.client = Client {
        door: "tcp".to_owned(),
        address: "10.0.0.1:5".to_owned(),
        ..Client::default()
    };
    store.register(&session).await.unwrap();
    assert_eq!(server.keys(), ["key_k", "mid_7", "{key_k}session"]);
    assert_eq!(server.ask::<String>(&["GET", "key_k"]), "a");
    assert_eq!(server.ask::<Vec<String>>(&["HGETALL", "mid_7"]), ["k", "a"]);
    let beside: Json =
        serde_json::from_str(&server.ask::<String>(&["GET", "{key_k}session"])).unwrap();
    let connection = "00000000000000010000000000000002";
    assert_eq!(
        beside,
        json!({"server": "a", "mid": "7", "connection": connection, "door": "tcp", "address": "10.0.0.1:5"})
    );
    for key in server.keys() {
        assert_life(server, &key);
    }
    server.ask::<()>(&["EXPIRE", "mid_7", "1"]);
    store.renew(&session).await.unwrap();
    assert_life(server, "mid_7");

    let counts = [("live://1000", 3), ("live://1", 4), ("test", 5)];
    let counts = counts.map(|(room, count)| (room.to_owned(), count)).into();
    store.report_rooms("a", None, counts).await.unwrap();
    assert_life(server, "ol_a");
    let mut fields: Vec<String> = server.ask(&["HKEYS", "ol_a"]);
    fields.sort_unstable();
    assert_eq!(fields, ["19", "37", "43"]);
    let field: Json = serde_json::from_str(&server.ask::<String>(&["HGET", "ol_a", "43"])).unwrap();
    let updated = field["updated"].as_i64().unwrap();
    assert!((Clock::system().seconds_since_1970() - updated).abs() < 600);
    assert_eq!(
        field,
        json!({"server": "a", "room_count": {"live://1000": 3}, "updated": updated})
    );

    assert!(store.remove(&session).await.unwrap());
    assert_eq!(server.keys(), ["comet_names", "ol_a"]);
}

#[tokio::test]
async fn what_goim_writes_is_found() {
    let servers = [Server::start()];
    let subject = Subjected::new(&servers);
    let store = &subject.store;
    let [server] = &servers;
    let goim_registers = |mid: &str, key: &str, of: &str| {
        server.ask::<()>(&["HSET", &format!("mid_{mid}"), key, of]);
        server.ask::<()>(&["EXPIRE", &format!("mid_{mid}"), "1800"]);
        server.ask::<()>(&["SET", &format!("key_{key}"), of]);
        server.ask::<()>(&["EXPIRE", &format!("key_{key}"), "1800"]);
    };
    goim_registers("7", "x", "a");
    let plain = session(7, "x", "a", None);
    assert_eq!(
        store.of_mids(&[7]).await.unwrap(),
        std::slice::from_ref(&plain)
    );
    assert_eq!(
        store.holders(&["x".to_owned()]).await.unwrap(),
        [Some(plain.holder.clone())]
    );

    // This project's comet, which goim's logic has logged in, tells this logic that it lives.
    let known = session(7, "x", "a", Some((1, 1)));
    store.renew_lease("a", contract::info(1)).await.unwrap();
    assert_eq!(store.renew(&known).await.unwrap(), Renewal::Renewed);
    assert_eq!(
        store.of_mids(&[7]).await.unwrap(),
        std::slice::from_ref(&known)
    );

    // goim's logic moves the key without knowing what stands beside it.
    goim_registers("8", "x", "b");
    assert!(!store.remove(&known).await.unwrap());
    assert_eq!(
        store.of_mids(&[8]).await.unwrap(),
        [session(8, "x", "b", None)]
    );
    let elsewhere = session(8, "x", "c", Some((1, 1)));
    assert_eq!(
        store.register(&elsewhere).await.unwrap(),
        Registration::Replaced(session(8, "x", "b", None).holder)
    );

    let now = Clock::system().seconds_since_1970();
    let online = json!({"server": "fixed", "room_count": {"live://1": 5}, "updated": now});
    let old = json!({"server": "fixed", "room_count": {"live://2": 5}, "updated": now - 301});
    let empty = json!({"server": "fixed", "room_count": null, "updated": now});
    for (field, value) in [
        ("19", online.to_string()),
        ("1", old.to_string()),
        ("2", empty.to_string()),
        ("3", "{".to_owned()),
    ] {
        server.ask::<()>(&["HSET", "ol_fixed", field, &value]);
    }
    let counts = store.room_counts().await.unwrap();
    assert_eq!(*counts, RoomCounts::from([("live://1".to_owned(), 5)]));
}

#[tokio::test]
async fn readers_repair_the_index() {
    let servers = [Server::start()];
    let Subjected { store, .. } = Subjected::new(&servers);
    let [server] = &servers;
    store.register(&session(7, "k", "a", None)).await.unwrap();
    store
        .register(&session(8, "other", "a", None))
        .await
        .unwrap();
    server.ask::<()>(&["HSET", "mid_7", "gone", "a", "other", "a"]);
    assert_eq!(
        store.of_mids(&[7]).await.unwrap(),
        [session(7, "k", "a", None)]
    );
    assert_eq!(server.ask::<Vec<String>>(&["HKEYS", "mid_7"]), ["k"]);
    assert_eq!(server.ask::<Vec<String>>(&["HKEYS", "mid_8"]), ["other"]);
}

#[tokio::test]
async fn room_counts_are_asked_for_once_in_a_while() {
    let servers = [Server::start()];
    let waits = Waits {
        room_counts: Duration::from_mins(1),
        ..WAITS
    };
    let subject = Subjected::with(&servers, waits);
    let report = async |count: i32| {
        let counts = RoomCounts::from([("r".to_owned(), count)]);
        subject.store.report_rooms("a", None, counts).await.unwrap();
        subject.store.room_counts().await.unwrap()["r"]
    };
    assert_eq!(report(1).await, 1);
    assert_eq!(report(2).await, 1);
    subject.pass(Duration::from_mins(1)).await;
    assert_eq!(report(3).await, 3);
}

#[tokio::test]
async fn the_bound_of_comets_holds() {
    let servers = [Server::start()];
    let subject = Subjected::new(&servers);
    for number in 0..LIMITS.max_comets {
        let name = format!("comet-{number}");
        subject
            .store
            .renew_lease(&name, contract::info(1))
            .await
            .unwrap();
    }
    let one_more = |name| subject.store.renew_lease(name, contract::info(1));
    assert!(matches!(
        one_more("more").await,
        Err(StoreError::Full { .. })
    ));
    assert_eq!(one_more("comet-0").await, Ok(LeaseRenewal::Known));
    assert_eq!(
        subject.store.leases().await.unwrap().alive.len(),
        LIMITS.max_comets
    );
}

#[tokio::test]
async fn another_replicas_leases_are_seen() {
    let servers = [Server::start()];
    let one = Subjected::new(&servers);
    let other = Subjected {
        store: RedisSessions::new(
            Server::place(&servers),
            LIMITS,
            WAITS,
            Clock::system(),
            Vec::new(),
        )
        .unwrap(),
        servers: &servers,
        ahead: Arc::default(),
    };
    let of = |epoch| session(7, "k", "a", Some((epoch, 1)));
    for epoch in [1, 2] {
        one.store
            .renew_lease("a", contract::info(epoch))
            .await
            .unwrap();
        one.store.register(&of(epoch)).await.unwrap();
        // However fresh a restarted comet is: its clients are found at once.
        assert_eq!(other.store.of_mids(&[7]).await.unwrap(), [of(epoch)]);
    }
    let generation = one.store.generation().await.unwrap();
    assert_eq!(other.store.generation().await.unwrap(), generation);
    let leases = other.store.leases().await.unwrap().alive;
    assert_eq!((leases.len(), leases[0].info.epoch), (1, 2));
}

#[tokio::test]
async fn a_key_of_another_type_is_refused() {
    let servers = [Server::start()];
    let Subjected { store, .. } = Subjected::new(&servers);
    servers[0].ask::<()>(&["LPUSH", "key_k", "x"]);
    let refused = store.register(&session(7, "k", "a", None)).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
}

async fn long_lists(subject: &Subjected<'_>) {
    let store = &subject.store;
    let sessions: Vec<Session> = (1..=2_500)
        .map(|mid| session(mid, &format!("long-{mid}"), "a", None))
        .collect();
    for part in sessions.chunks(100) {
        let registered = join_all(part.iter().map(|session| store.register(session))).await;
        assert!(
            registered
                .into_iter()
                .all(|outcome| outcome == Ok(Registration::New))
        );
    }
    let keys: Vec<String> = sessions.iter().map(|session| session.key.clone()).collect();
    let holders = store.holders(&keys).await.unwrap();
    assert!(
        holders
            .iter()
            .all(|holder| holder.as_ref() == Some(&sessions[0].holder))
    );
    let mids: Vec<i64> = sessions.iter().map(|session| session.mid).collect();
    assert_eq!(store.of_mids(&mids).await.unwrap(), sessions);
}

async fn index_and_keys_agree_after_a_race(subject: &Subjected<'_>) {
    let store = &subject.store;
    // All servers know the scripts from here on: no call is sent twice.
    for turn in 0..50 {
        let warm = session(1_000_001, &format!("race-{turn}"), "a", None);
        store.register(&warm).await.unwrap();
        assert!(store.remove(&warm).await.unwrap());
    }
    // Each session comes and goes several times at once: nothing later repairs what the calls leave.
    let turns = (0..200_i64).flat_map(|turn| (0..8_i64).map(move |call| (turn, call)));
    let work = turns.map(async |(turn, call)| {
        let mid = 1_000_001 + (turn + call / 4) % 4;
        let session = session(mid, &format!("race-{turn}"), "a", None);
        if call % 2 == 0 {
            store.remove(&session).await.unwrap();
        } else {
            store.register(&session).await.unwrap();
        }
    });
    join_all(work).await;
    let keys: Vec<String> = (0..200).map(|turn| format!("race-{turn}")).collect();
    let held = store
        .holders(&keys)
        .await
        .unwrap()
        .into_iter()
        .flatten()
        .count();
    assert_ne!(held, 0, "all ends with goodbyes");
    let mids = [1, 2, 3, 4].map(|mid| 1_000_000 + mid);
    assert_eq!(store.of_mids(&mids).await.unwrap().len(), held);
    let indexed = subject.servers.iter().flat_map(|server| {
        let indexes = server
            .keys()
            .into_iter()
            .filter(|key| key.starts_with("mid_100000"));
        let lengths = indexes.map(|key| server.ask::<usize>(&["HLEN", &key]));
        lengths.collect::<Vec<_>>()
    });
    assert_eq!(indexed.sum::<usize>(), held);
}

async fn names_with_braces(subject: &Subjected<'_>) {
    for name in ["a}b", "{}x", "{a}b", "}{"] {
        let session = session(99_000_000, name, name, Some((1, 1)));
        subject
            .store
            .renew_lease(name, contract::info(1))
            .await
            .unwrap();
        subject.store.register(&session).await.unwrap();
        assert_eq!(
            subject.store.of_mids(&[99_000_000]).await.unwrap(),
            std::slice::from_ref(&session)
        );
        assert!(subject.store.remove(&session).await.unwrap());
    }
}

/// goim's 30 minutes, less what the test took.
fn assert_life(server: &Server, key: &str) {
    let life: u64 = server.ask(&["TTL", key]);
    assert!((1_200..=1_800).contains(&life), "{key}: {life} s");
}
