//! Comets that are killed.

use std::time::Instant;

use serde_json::Value;

use crate::{
    harness::{Cluster, LEASE, Member, Plan, Traffic, note},
    support::{Door, token},
};

const ROOM: &str = "/goim/online/room?type=live&rooms=1";
const TOTAL: &str = "/goim/online/total";

fn in_room(count: i64) -> impl Fn(&Value) -> bool {
    move |data| data["1"] == count
}

fn in_total(count: i64) -> impl Fn(&Value) -> bool {
    move |data| data["conn_count"] == count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_add_up_and_forget_a_killed_comet() {
    let mut cluster = Cluster::start().await;
    let mut clients = Vec::new();
    for (comet, count) in [(0, 3), (1, 2)] {
        for _ in 0..count {
            let token = token(1, "", "live://1");
            clients.push(cluster.login(comet, Door::Tcp, &token).await);
        }
    }
    let watching = Member::of(clients.remove(0));
    watching.until_online(5).await;
    for logic in 0..2 {
        cluster.until_told(logic, ROOM, in_room(5)).await;
        cluster.until_told(logic, TOTAL, in_total(5)).await;
    }

    cluster.comets[1].kill().await;
    let killed = Instant::now();
    for logic in 0..2 {
        cluster.until_told(logic, ROOM, in_room(3)).await;
        cluster.until_told(logic, TOTAL, in_total(3)).await;
    }
    note(
        &format!("counts forget a killed comet, with a lease of {LEASE:?}"),
        killed.elapsed(),
    );
    watching.until_online(3).await;
    note("its rooms' heartbeats say so", killed.elapsed());
    for logic in 0..2 {
        cluster.until_known(logic, 1).await;
        let answer = cluster
            .push(logic, "room", "type=live&room=1", "those who are left")
            .await;
        assert!(answer.is_taken(), "{answer:?}");
    }
    watching.gets("those who are left").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_that_has_started_anew_lets_nobody_miss_a_push_to_a_room() {
    let plan = Plan {
        // A logic-stub that is not told looks for comets at long intervals.
        logic_settings: vec![
            "comets.refresh=3s".to_owned(),
            "sessions.lease=3s".to_owned(),
        ],
        ..Plan::default()
    };
    let mut cluster = Cluster::start_as(&plan).await;
    cluster.comets[1].kill().await;
    for logic in 0..2 {
        cluster.until_known(logic, 1).await;
    }
    cluster.comets[1].restart().await;
    let restarted = Instant::now();
    let token = token(7, "fresh", "live://1");
    let fresh = Member::of(cluster.login(1, Door::Tcp, &token).await);
    note(
        "a login at a comet that has just started",
        restarted.elapsed(),
    );
    for logic in 0..2 {
        let text = format!("through {logic}");
        let answer = cluster.push(logic, "room", "type=live&room=1", &text).await;
        assert!(answer.is_taken(), "{answer:?}");
        fresh.gets(&text).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_that_is_killed_and_restarted_has_no_stale_sessions() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster).await.at_first_comet();
    let stale = token(7, "stale", "live://1");
    let _stale = cluster.login(1, Door::Tcp, &stale).await;

    cluster.comets[1].kill().await;
    cluster.comets[1].restart().await;
    let restarted = Instant::now();
    let fresh = Member::of(
        cluster
            .login(1, Door::WebSocket, &token(8, "fresh", "live://1"))
            .await,
    );
    note("a login at a restarted comet", restarted.elapsed());
    for logic in 0..2 {
        let text = format!("fresh through {logic}");
        cluster
            .push_until(logic, ("keys", "keys=fresh", &text), &fresh)
            .await;
        for (kind, query, who) in [("keys", "keys=stale", "stale"), ("mids", "mids=7", "7")] {
            cluster.until_absent(logic, (kind, query), who).await;
        }
    }
    note(
        "old keys are not online, new ones get pushes",
        restarted.elapsed(),
    );
    // At the other comet, too, the key is free.
    let moved = Member::of(cluster.login(0, Door::Tcp, &stale).await);
    for logic in 0..2 {
        let text = format!("moved through {logic}");
        let answer = cluster.push(logic, "keys", "keys=stale", &text).await;
        assert!(answer.is_taken(), "{answer:?}");
        moved.gets(&text).await;
    }
    traffic.flows().await;
    traffic.end().await.is_none();
}
