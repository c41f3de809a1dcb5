//! A Redis that is away, comes back, is silent, or slow. Nobody who is connected notices, and pushes to rooms go on.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, LEASE, Member, Plan, Traffic, Way, note},
    support::{Door, token},
};

/// Everything works: logins, and pushes of each kind to those who were there before and to newcomers.
async fn all_is_well(cluster: &Cluster, traffic: &Traffic) {
    for logic in 0..2 {
        for comet in 0..2 {
            let key = format!("newcomer-{comet}-{}", rand::random::<u32>());
            let door = [Door::Tcp, Door::WebSocket][comet];
            let newcomer = Member::of(cluster.login(comet, door, &token(9, &key, "")).await);
            let query = format!("keys={key}");
            cluster
                .push_until(logic, ("keys", &query, "new"), &newcomer)
                .await;
            let (staying, text) = (&traffic.members[comet], format!("old through {logic}"));
            let query = format!("keys=stays-{comet}");
            cluster
                .push_until(logic, ("keys", &query, &text), staying)
                .await;
            let (query, text) = (
                format!("mids={}", 101 + comet),
                format!("mid through {logic}"),
            );
            cluster
                .push_until(logic, ("mids", &query, &text), staying)
                .await;
        }
    }
    traffic.flows().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_away_for_longer_than_a_lease() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster).await;
    cluster.redis.save().await;
    // After this one was written down, of what Redis knows when it is back it is not.
    let late = Member::of(
        cluster
            .login(1, Door::Tcp, &token(11, "late", "live://1"))
            .await,
    );
    cluster.redis.kill().await;
    let away = Instant::now();

    for comet in 0..2 {
        let refused = cluster
            .try_login(comet, Door::Tcp, &token(9, "early", ""))
            .await;
        assert_eq!(refused.err().as_deref(), Some("logic_unavailable"));
        let answer = cluster.push(comet, "keys", "keys=stays-0", "lost").await;
        assert_eq!(answer.code, -500, "{answer:?}");
    }
    while away.elapsed() < LEASE + Duration::from_secs(2) {
        traffic.flows().await;
    }
    cluster.redis.restart().await;
    let back = Instant::now();
    all_is_well(&cluster, &traffic).await;
    note(
        "all is well after Redis is back with its data",
        back.elapsed(),
    );
    cluster
        .push_until(0, ("mids", "mids=11", "late"), &late)
        .await;
    note("sessions that its data lacked are there", back.elapsed());
    late.beats().await;
    traffic.end().await.is_none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_come_back_empty() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster).await;
    cluster.redis.kill().await;
    cluster.redis.restart().await;
    let back = Instant::now();
    traffic.flows().await;
    for (comet, query) in [(0, "mids=101"), (1, "mids=102")] {
        for logic in 0..2 {
            let text = format!("again through {logic}");
            cluster
                .push_until(logic, ("mids", query, &text), &traffic.members[comet])
                .await;
        }
    }
    note(
        "pushes to mids flow after Redis came back empty",
        back.elapsed(),
    );
    all_is_well(&cluster, &traffic).await;
    traffic.end().await.is_none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_silent() {
    let cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster).await;
    cluster.redis.signal("STOP").await;
    let silent = Instant::now();
    let mut logins = 0;
    while silent.elapsed() < Duration::from_secs(5) {
        traffic.flows().await;
        let refused = cluster
            .try_login(0, Door::Tcp, &token(9, "early", ""))
            .await;
        assert_eq!(refused.err().as_deref(), Some("logic_unavailable"));
        logins += 1;
    }
    assert!(logins > 0);
    cluster.redis.signal("CONT").await;
    let back = Instant::now();
    all_is_well(&cluster, &traffic).await;
    note("all is well after Redis answers again", back.elapsed());
    traffic.end().await.is_none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_slow() {
    let way = Way::open().await;
    let plan = Plan {
        redis: Some(way),
        ..Plan::default()
    };
    let cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await;
    let way = plan.redis.as_ref().unwrap();
    way.slow(Duration::from_millis(150));
    let slow = Instant::now();
    // They wait, and get what they want.
    let newcomer = Member::of(cluster.login(0, Door::Tcp, &token(9, "patient", "")).await);
    note(
        "a login while each answer of Redis takes 0.3 s",
        slow.elapsed(),
    );
    for logic in 0..2 {
        let text = format!("slowly through {logic}");
        cluster
            .push_until(logic, ("keys", "keys=patient", &text), &newcomer)
            .await;
    }
    while slow.elapsed() < LEASE + Duration::from_secs(2) {
        traffic.flows().await;
    }
    way.slow(Duration::ZERO);
    let back = Instant::now();
    all_is_well(&cluster, &traffic).await;
    note("all is well after Redis is quick again", back.elapsed());
    traffic.end().await.is_none();
}
