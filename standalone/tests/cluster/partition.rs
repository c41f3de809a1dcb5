//! A comet that is cut off from the logic-stubs, and they from it, for longer than its lease.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, LEASE, Plan, Traffic, Way, note},
    support::{Door, token},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_that_was_cut_off_serves_its_clients_again() {
    let plan = Plan {
        logics: vec![Way::open().await, Way::open().await],
        comet: Some(Way::open().await),
        ..Plan::default()
    };
    let cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await;
    let ways = || plan.logics.iter().chain(&plan.comet);
    ways().for_each(Way::cut);
    let cut = Instant::now();

    for logic in 0..2 {
        cluster.until_known(logic, 1).await;
        cluster
            .until_absent(logic, ("mids", "mids=102"), "102")
            .await;
    }
    note(
        &format!("the comet is forgotten, with a lease of {LEASE:?}"),
        cut.elapsed(),
    );
    let refused = cluster
        .try_login(1, Door::Tcp, &token(9, "early", ""))
        .await;
    assert_eq!(refused.err().as_deref(), Some("logic_unavailable"));
    while cut.elapsed() < LEASE + Duration::from_secs(4) {
        traffic.flows_by(&[0, 1], &[0]).await;
    }
    // Heartbeats are answered all the time.
    traffic.members[1].beats().await;

    ways().for_each(Way::heal);
    let healed = Instant::now();
    for logic in 0..2 {
        cluster.until_known(logic, 2).await;
    }
    note("the comet is known again", healed.elapsed());
    traffic.flows().await;
    note("pushes to its rooms flow", healed.elapsed());
    for logic in 0..2 {
        for (kind, query) in [("mids", "mids=102"), ("keys", "keys=stays-1")] {
            let text = format!("{kind} through {logic}");
            cluster
                .push_until(logic, (kind, query, &text), &traffic.members[1])
                .await;
        }
    }
    note("pushes to its keys flow", healed.elapsed());
    let losses = traffic.end().await;
    note("lost at the comet that was cut off", losses.lost[1].len());
    assert!(
        losses.refused.is_empty() && losses.lost[0].is_empty(),
        "{losses:?}"
    );
}
