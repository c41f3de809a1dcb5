//! logic-stubs that are killed.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, Member, Pusher, Traffic, note},
    support::{Door, token, until},
};

/// Pushers at the logic-stub that is killed, each as fast as it is answered.
const PUSHERS: usize = 8;

/// Messages under load before the kill.
const LOAD: u32 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logic_stub_that_is_killed_under_load_holds_up_nobody_else() {
    let mut cluster = Cluster::start().await;
    let traffic = Traffic::start(&cluster).await;
    let loading = Instant::now();
    let load: Vec<Pusher> = (0..PUSHERS)
        .map(|index| {
            Pusher::start(
                &format!("load-{index}"),
                cluster.logics[0].at.http,
                Duration::from_micros(100),
            )
        })
        .collect();
    until("load", || {
        load.iter().map(Pusher::next).sum::<u64>() >= LOAD.into()
    })
    .await;
    let pace = loading.elapsed() / LOAD;
    note("under load, from push to push", pace);
    cluster.logics[0].kill().await;
    let killed = Instant::now();

    let newcomer = token(9, "newcomer", "");
    for comet in 0..2 {
        // The first try: a call goes to the other logic-stub within its time.
        let client = cluster.try_login(comet, Door::Tcp, &newcomer).await;
        let client = Member::of(client.unwrap_or_else(|why| panic!("comet {comet}: {why}")));
        let text = format!("at {comet}");
        let answer = cluster.push(1, "keys", "keys=newcomer", &text).await;
        assert!(answer.is_taken(), "{answer:?}");
        client.gets(&text).await;
    }
    note(
        "logins and pushes to keys by the other logic-stub",
        killed.elapsed(),
    );
    traffic.flows_by(&[1], &[0, 1]).await;

    cluster.logics[0].restart().await;
    let restarted = Instant::now();
    cluster.until_known(0, 2).await;
    traffic.flows().await;
    note(
        "pushes flow through the restarted logic-stub",
        restarted.elapsed(),
    );

    let mut losses = [0, 0];
    let mut taken = 0;
    for pusher in load {
        // It goes on by itself.
        let next = pusher.next();
        until("load", || pusher.next() > next + 5).await;
        let pushed = pusher.stop().await;
        taken += pushed.taken().count();
        for (lost, member) in losses.iter_mut().zip(&traffic.members) {
            *lost += pushed.missing_at(member).await.len();
        }
    }
    note(
        &format!("of {taken} pushes that were answered, lost at the kill, by comet"),
        losses,
    );
    let lost = traffic.end().await;
    note("beside the load", &lost);
    for lost in lost.lost.iter().flatten() {
        assert!(lost.starts_with("#0 "), "of the other logic-stub: {lost}");
    }
}
