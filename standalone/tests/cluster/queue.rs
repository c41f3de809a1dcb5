//! Pushes that are stored before they are answered: whatever dies, none of them is lost to a client that stays connected, none
//! comes twice, and their order holds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    harness::{Cluster, Plan, Pusher, Traffic, Way, note},
    support::{Client, Door, Received, token, until},
};

/// Pushers beside the traffic, at each logic-stub, each as fast as it is answered.
const PUSHERS: usize = 4;

/// Messages under load before a kill.
const LOAD: u64 = 1_000;

fn stored() -> Plan {
    Plan {
        stored: true,
        ..Plan::default()
    }
}

/// Pushers at both logic-stubs.
fn load(cluster: &Cluster) -> Vec<Pusher> {
    let logics = cluster.logics.iter().enumerate();
    let pushers = logics.flat_map(|(logic, program)| {
        (0..PUSHERS).map(move |index| {
            let name = format!("load-{logic}-{index}");
            Pusher::start(&name, program.at.http, Duration::from_micros(100))
        })
    });
    pushers.collect()
}

async fn until_loaded(load: &[Pusher]) {
    let goal = load.iter().map(Pusher::next).sum::<u64>() + LOAD;
    until("load", || {
        load.iter().map(Pusher::next).sum::<u64>() >= goal
    })
    .await;
}

/// Ends it all, and shows that every push that was answered with 0 has come to every client.
async fn nothing_is_lost(load: Vec<Pusher>, traffic: Traffic) {
    let mut taken = 0;
    for pusher in load {
        // It goes on by itself.
        let next = pusher.next();
        until("load", || pusher.next() > next + 5).await;
        let pushed = pusher.stop().await;
        taken += pushed.taken().count();
        for member in &traffic.members {
            assert_eq!(pushed.missing_at(member).await, Vec::<String>::new());
        }
    }
    let losses = traffic.end().await;
    note("pushes that were answered with 0 beside the traffic", taken);
    note("pushes that were refused", losses.refused.len());
    assert!(losses.lost.iter().all(Vec::is_empty), "{losses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logic_stub_that_is_killed_under_load_loses_nothing_that_was_stored() {
    let mut cluster = Cluster::start_as(&stored()).await;
    let traffic = Traffic::start(&cluster).await;
    let load = load(&cluster);
    // One of the two reads the stream of the room.
    for logic in 0..2 {
        until_loaded(&load).await;
        cluster.logics[logic].kill().await;
        let killed = Instant::now();
        traffic.flows_by(&[1 - logic], &[0, 1]).await;
        note("pushes flow after a kill", killed.elapsed());
        cluster.logics[logic].restart().await;
        cluster.until_known(logic, 2).await;
        traffic.flows().await;
    }
    nothing_is_lost(load, traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_under_load_loses_nothing_that_was_stored() {
    let mut cluster = Cluster::start_as(&stored()).await;
    let traffic = Traffic::start(&cluster).await;
    let load = load(&cluster);
    until_loaded(&load).await;
    cluster.redis.kill().await;
    let answer = cluster.push(0, "room", "type=live&room=1", "away").await;
    assert_eq!(answer.code, -500, "{answer:?}");
    cluster.redis.restart().await;
    let back = Instant::now();
    traffic.flows().await;
    note("pushes flow after Redis is back", back.elapsed());
    until_loaded(&load).await;
    cluster.redis.signal("STOP").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.redis.signal("CONT").await;
    let back = Instant::now();
    traffic.flows().await;
    note("pushes flow after Redis goes on", back.elapsed());
    nothing_is_lost(load, traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_of_redis_under_load_loses_nothing_that_was_answered() {
    let plan = Plan {
        // One that takes the place of the first, and one that has what that one is told then.
        replicas: 2,
        ..stored()
    };
    let mut cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await;
    let load = load(&cluster);
    until_loaded(&load).await;
    // What comes from here on only one of them has.
    cluster.replicas[0].signal("STOP").await;
    until_loaded(&load).await;
    cluster.replicas[1].signal("STOP").await;
    // And this nobody: it is not answered with 0. What is sent to one that stands still, it would have when it goes on.
    cluster.redis.drop_replicas().await;
    let answer = cluster.push(0, "room", "type=live&room=1", "nobody").await;
    assert_eq!(answer.code, -500, "{answer:?}");
    cluster.redis.kill().await;
    for replica in &cluster.replicas {
        replica.signal("CONT").await;
    }
    let killed = Instant::now();
    traffic.flows().await;
    note("pushes flow after a fail-over", killed.elapsed());
    until_loaded(&load).await;
    nothing_is_lost(load, traffic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_that_cannot_be_called_for_a_while_misses_nothing() {
    let plan = Plan {
        comet: Some(Way::open().await),
        ..stored()
    };
    let cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await;
    let way = plan.comet.as_ref().unwrap();
    // It goes on to renew its lease.
    way.cut();
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(12) {
        traffic.flows_by(&[0, 1], &[0]).await;
    }
    way.heal();
    let healed = Instant::now();
    traffic.flows().await;
    note("what waited has come", healed.elapsed());
    nothing_is_lost(Vec::new(), traffic).await;
}

/// What has come to a key, over all its connections, and how often.
type Inbox = Arc<Mutex<BTreeMap<String, u32>>>;

/// Logs the key in and reads until the connection ends.
async fn log_in(cluster: &Cluster, comet: usize, key: &str, inbox: &Inbox) {
    let mut client: Client = cluster
        .login(comet, Door::Tcp, &token(9, key, "live://2"))
        .await;
    let inbox = Arc::clone(inbox);
    tokio::spawn(async move {
        while let Received::Packet(packet) = client.next().await {
            if packet.op == 1000 {
                *inbox.lock().entry(packet.text().to_owned()).or_default() += 1;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_and_a_logic_stub_that_are_killed_together_lose_nothing_to_keys_that_move() {
    const KEYS: [&str; 4] = ["stays", "moves-1", "moves-2", "moves-3"];
    const MOVING: usize = 3;
    let plan = Plan {
        // Each has keys that stay and keys that move.
        logic_settings: vec!["queue.streams=2".to_owned()],
        ..stored()
    };
    let mut cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await.at_first_comet();
    let inboxes: Vec<Inbox> = KEYS.iter().map(|_| Inbox::default()).collect();
    for (index, (key, inbox)) in KEYS.iter().zip(&inboxes).enumerate() {
        log_in(&cluster, usize::from(index > 0), key, inbox).await;
    }
    let mut pushers = Vec::new();
    for (key, inbox) in KEYS.iter().zip(&inboxes) {
        for (logic, program) in cluster.logics.iter().enumerate() {
            let name = format!("{key}-{logic}");
            let pace = Duration::from_millis(10);
            let pusher = Pusher::start_to_key(key, &name, program.at.http, pace);
            pushers.push((pusher, Arc::clone(inbox)));
        }
    }
    let count = |pushers: &[(Pusher, Inbox)]| -> u64 {
        let numbers = pushers.iter().map(|(pusher, _)| pusher.next());
        numbers.sum()
    };
    let until_pushed = async |more| {
        let goal = count(&pushers) + more;
        until("load", || count(&pushers) >= goal).await;
    };
    until_pushed(500).await;
    cluster.comets[1].kill().await;
    let killed = Instant::now();
    // What is for the keys that move waits; what is for the others goes on, behind it in the same streams.
    until_pushed(500).await;
    cluster.logics[0].kill().await;
    for (key, inbox) in KEYS.iter().zip(&inboxes).skip(1) {
        log_in(&cluster, 0, key, inbox).await;
    }
    note("keys have moved", killed.elapsed());
    cluster.comets[1].restart().await;
    cluster.logics[0].restart().await;
    cluster.until_known(0, 2).await;
    until_pushed(500).await;
    traffic.flows().await;

    let (mut taken, mut again) = (0, 0);
    for (pusher, inbox) in pushers {
        let name = pusher.name.clone();
        let pushed = pusher.stop().await;
        let texts: Vec<String> = pushed
            .taken()
            .map(|number| format!("#{name} {number}"))
            .collect();
        taken += texts.len();
        for text in &texts {
            until(text, || inbox.lock().contains_key(text)).await;
        }
        let twice = inbox.lock().values().filter(|count| **count > 1).count();
        assert!(
            !name.starts_with(KEYS[0]) || twice == 0,
            "{twice} at {name}"
        );
        again += twice;
    }
    note("pushes to keys that were answered with 0", taken);
    note("of those to keys that moved, came twice", again);
    assert!(taken > 500 * MOVING, "{taken}");
    nothing_is_lost(Vec::new(), traffic).await;
}
