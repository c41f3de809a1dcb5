//! Pushes that are answered when replicas have them.

use futures_util::future::join_all;

use super::*;

const REPLICATED: Limits = Limits {
    replicas: 1,
    messages: 1_000,
    bytes: 1_000_000,
    ..LIMITS
};

/// Short enough for a test to wait for replicas that do not answer.
const SHORT: Waits = Waits {
    answer: Duration::from_secs(2),
    ..WAITS
};

fn replicated(place: Place) -> RedisQueue {
    RedisQueue::new(place, REPLICATED, SHORT).unwrap()
}

fn is_refused(outcome: &Result<(), StoreError>) -> bool {
    let too_few = StoreError::TooFew {
        replicas: 0,
        wanted: 1,
    };
    *outcome == Err(too_few)
}

fn contents(entries: &[Waiting]) -> Vec<&[u8]> {
    entries.iter().map(|entry| &entry.content[..]).collect()
}

#[tokio::test]
async fn what_no_replica_has_is_refused() {
    let servers = [Server::start()];
    let [master] = &servers;
    let replica = master.replica();
    let queue = replicated(Server::place(&servers));
    let push = async |text: &str| queue.append(&[part(1, text), part(2, text)]).await;
    until_stored(&queue, "before").await;
    replica.hang();
    let texts: Vec<String> = (0..20).map(|at| at.to_string()).collect();
    let outcomes = join_all(texts.iter().map(|text| push(text))).await;
    assert!(outcomes.iter().all(is_refused), "{outcomes:?}");
    replica.go_on();
    assert_eq!(push("after").await, Ok(()));
    let stored: u64 = replica.ask(&["XLEN", "{push/4/2}entries"]);
    assert_eq!(stored, 21);
}

#[tokio::test]
async fn what_is_pushed_again_by_another_connection_is_waited_for() {
    let servers = [Server::start()];
    let [master] = &servers;
    let replica = master.replica();
    let queue = replicated(Server::place(&servers));
    until_stored(&queue, "first").await;
    replica.hang();
    let push = [part(1, "again")];
    assert!(is_refused(&queue.append(&push).await));
    master.ask::<u64>(&["CLIENT", "KILL", "TYPE", "normal"]);
    let again = async {
        loop {
            let outcome = queue.append(&push).await;
            if !matches!(outcome, Err(StoreError::Unavailable(_))) {
                return outcome;
            }
        }
    };
    let outcome = timeout(Duration::from_secs(20), again).await.unwrap();
    assert!(is_refused(&outcome), "{outcome:?}");
    replica.go_on();
    assert_eq!(queue.append(&push).await, Ok(()));
    assert_eq!(master.ask::<u64>(&["XLEN", "{push/4/1}entries"]), 2);
}

#[tokio::test]
async fn what_redis_refuses_spoils_no_other() {
    let servers = [Server::start()];
    let [master] = &servers;
    let _replica = master.replica();
    let queue = replicated(Server::place(&servers));
    until_stored(&queue, "before").await;
    master.ask::<()>(&["SET", "{push/4/3}entries", "no stream"]);
    let spoiled = [part(3, "x")];
    let texts: Vec<[Part; 1]> = (0..9).map(|at| [part(1, &at.to_string())]).collect();
    let others = texts.iter().map(|good| queue.append(good));
    let mut outcomes = join_all(others.chain([queue.append(&spoiled)])).await;
    let outcome = outcomes.pop().unwrap();
    assert!(
        matches!(outcome, Err(StoreError::Refused(_))),
        "{outcome:?}"
    );
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(master.ask::<u64>(&["XLEN", "{push/4/1}entries"]), 10);
}

#[tokio::test]
async fn what_was_answered_outlives_the_master() {
    let mut master = Server::start();
    let (replica, sentinel) = (master.replica(), master.sentinel());
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port);
    let queue = replicated(Place::parse(&url).unwrap());
    until_stored(&queue, "first").await;
    let mut answered = Vec::new();
    for at in 0..53 {
        if at == 50 {
            // What the master takes from here on, the replica never sees.
            replica.hang();
        }
        let text = at.to_string();
        if queue.append(&[part(1, &text)]).await.is_ok() {
            answered.push(text);
        }
    }
    assert_eq!(answered.len(), 50);
    master.kill();
    replica.go_on();
    // The new master has no replica itself.
    let alone = RedisQueue::new(Place::parse(&url).unwrap(), LIMITS, WAITS).unwrap();
    let claim = until_claimed(&alone).await;
    let entries = alone.read(&claim, 0, 1_000).await.unwrap().unwrap();
    let contents = contents(&entries);
    for text in &answered {
        assert!(contents.contains(&text.as_bytes()), "{text} is lost");
    }
}

#[tokio::test]
async fn a_cluster_whose_masters_change_is_followed() {
    let servers = Server::cluster();
    let replicas: Vec<Server> = servers.iter().map(Server::cluster_replica).collect();
    let queue = replicated(Server::place(&servers));
    let push = async |text: &str| {
        let parts: Vec<Part> = (0..4).map(|stream| part(stream, text)).collect();
        queue.append(&parts).await
    };
    until("all have replicas", || {
        let known = |server: &Server| {
            let nodes: String = server.ask(&["CLUSTER", "NODES"]);
            nodes.matches("slave").count() == 3
        };
        servers.iter().chain(&replicas).all(known)
    });
    while push("before").await.is_err() {}
    for replica in &replicas {
        replica.ask::<()>(&["CLUSTER", "FAILOVER"]);
        until("it is the master", || {
            let info: String = replica.ask(&["INFO", "replication"]);
            info.contains("role:master")
        });
    }
    let pushed = async {
        while push("after").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), pushed).await.unwrap();
    for stream in 0..4 {
        let claim = queue.claim(stream).await.unwrap().unwrap();
        let entries = queue.read(&claim, 0, 10).await.unwrap().unwrap();
        let contents = contents(&entries);
        assert_eq!(contents.first(), Some(&&b"before"[..]), "{contents:?}");
        assert_eq!(contents.last(), Some(&&b"after"[..]), "{contents:?}");
    }
}
