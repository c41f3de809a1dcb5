//! Pushes that are stored before they are answered: whatever dies, none of them is lost to a client that stays connected, none
//! comes twice, and their order holds.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, Plan, Pusher, Traffic, Way, note},
    support::until,
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
