//! The contract, and what only this store promises.

use super::*;
use crate::sessions::contract::{self, LIMITS, Subject};

struct Memory {
    store: MemorySessions,
    ahead: Arc<Mutex<Duration>>,
}

impl Memory {
    fn new(limits: Limits) -> Self {
        let ahead = Arc::new(Mutex::new(Duration::ZERO));
        let (start, hand) = (Instant::now(), Arc::clone(&ahead));
        let clock = Clock::new(move || start + *hand.lock());
        Self {
            store: MemorySessions::new(limits, clock),
            ahead,
        }
    }
}

impl Subject for Memory {
    fn sessions(&self) -> &dyn Sessions {
        &self.store
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        *self.ahead.lock() += time;
        Box::pin(ready(()))
    }
}

#[tokio::test]
async fn keeps_the_contract() {
    contract::check(|| Memory::new(LIMITS)).await;
}

#[tokio::test]
async fn keeps_the_contract_when_swept_at_any_time() {
    struct Swept(Memory);
    impl Subject for Swept {
        fn sessions(&self) -> &dyn Sessions {
            self.0.store.sweep();
            &self.0.store
        }
        fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
            self.0.pass(time)
        }
    }
    contract::check(|| Swept(Memory::new(LIMITS))).await;
}

#[tokio::test]
async fn the_bound_of_sessions_holds_and_expired_ones_make_room() {
    let memory = Memory::new(Limits {
        max_sessions: 2,
        ..LIMITS
    });
    let session = |key: &str| contract::session(1, key, "a", None);
    for key in ["one", "two", "two"] {
        memory.store.register(&session(key)).await.unwrap();
    }
    let full = memory.store.register(&session("three")).await;
    assert_eq!(
        full,
        Err(StoreError::Full {
            what: "sessions",
            max: 2
        })
    );
    memory.pass(LIMITS.expire).await;
    memory.store.sweep();
    assert!(memory.store.is_empty());
    assert!(memory.store.register(&session("three")).await.is_ok());
}

#[tokio::test]
async fn the_sweep_leaves_nothing_behind() {
    let memory = Memory::new(LIMITS);
    for mid in 0..100 {
        let session = contract::session(mid, &format!("key-{mid}"), "a", None);
        memory.store.register(&session).await.unwrap();
    }
    assert_eq!(memory.store.len(), 100);
    memory.pass(LIMITS.expire).await;
    memory.store.sweep();
    assert_eq!(memory.store.len(), 0);
    assert!(
        memory
            .store
            .keys
            .iter()
            .all(|shard| shard.lock().is_empty())
    );
    assert!(
        memory
            .store
            .mids
            .iter()
            .all(|shard| shard.lock().is_empty())
    );
}

#[tokio::test]
async fn the_bound_of_comets_holds() {
    let memory = Memory::new(Limits {
        max_comets: 1,
        ..LIMITS
    });
    let info = contract::info(1);
    assert!(memory.store.renew_lease("a", info.clone()).await.is_ok());
    assert!(memory.store.renew_lease("a", info.clone()).await.is_ok());
    assert!(memory.store.renew_lease("b", info).await.is_err());
}

#[test]
fn keys_and_index_agree_after_a_race() {
    let memory = Memory::new(Limits {
        max_sessions: 100_000,
        ..LIMITS
    });
    let store = &memory.store;
    // Few calls for each key, at about the same time: nothing later repairs what they leave.
    std::thread::scope(|threads| {
        for thread in 1..5_i64 {
            threads.spawn(move || {
                for turn in 0..20_000_i64 {
                    let session = contract::session(thread, &format!("key-{turn}"), "a", None);
                    if (turn + thread) % 3 == 0 {
                        store.remove_now(&session);
                    } else {
                        store.register_now(&session).unwrap();
                    }
                }
            });
        }
    });
    let held: BTreeSet<(i64, Arc<str>)> = store
        .keys
        .iter()
        .flat_map(|shard| {
            let keys = shard.lock();
            let held = keys
                .iter()
                .map(|(key, record)| (record.mid, Arc::clone(key)));
            held.collect::<Vec<_>>()
        })
        .collect();
    let indexed: BTreeSet<(i64, Arc<str>)> = store
        .mids
        .iter()
        .flat_map(|shard| shard.lock().iter().cloned().collect::<Vec<_>>())
        .collect();
    assert_eq!(held, indexed);
    assert_eq!(store.len(), held.len());
}

#[tokio::test]
async fn a_large_sum_of_rooms_is_not_added_up_at_each_call() {
    const ROOMS: usize = 20_000;
    let memory = Memory::new(LIMITS);
    let rooms = |count: i32| {
        (0..ROOMS)
            .map(move |room| (room.to_string(), count))
            .collect()
    };
    let report = |server, count| memory.store.report_rooms(server, None, rooms(count));
    let seen = async || memory.store.room_counts().await.unwrap()["7"];
    report("a", 1).await.unwrap();
    assert_eq!(seen().await, 1);
    report("b", 1).await.unwrap();
    assert_eq!(seen().await, 1);
    memory.pass(Duration::from_millis(41)).await;
    assert_eq!(seen().await, 2);
    report("b", 5).await.unwrap();
    assert_eq!(seen().await, 2);
    memory.pass(Duration::from_millis(81)).await;
    assert_eq!(seen().await, 6);
}
