//! logic-stubs that are killed, or hang.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, Member, Plan, Pusher, Traffic, note},
    support::{Door, token, until, within},
};

/// Pushers at the logic-stub that is killed, each as fast as it is answered.
const PUSHERS: usize = 8;

/// Messages under load before the kill.
const LOAD: u32 = 2_000;

/// What a call of logic may take, of which a logic-stub that hangs gets half: as much as a busy machine needs for the other.
const CALL: Duration = Duration::from_secs(6);

/// Logins at each comet, one after the other, while a logic-stub hangs: too many to be done in time if each second one waited.
const LOGINS: usize = 60;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logic_stub_that_hangs_holds_up_few_logins_and_loses_no_pushes() {
    let plan = Plan {
        settings: vec![format!("rpcClient.timeout={}ms", CALL.as_millis())],
        ..Plan::default()
    };
    let cluster = Cluster::start_as(&plan).await;
    let traffic = Traffic::start(&cluster).await;
    cluster.logics[0].signal("STOP").await;
    let hangs = Instant::now();
    let logins = async |comet: usize, door| {
        let mut longest = Duration::ZERO;
        let mut clients = Vec::new();
        for index in 0..LOGINS {
            let begun = Instant::now();
            let token = token(9, &format!("{comet}-{index}"), "");
            let client = cluster.try_login(comet, door, &token).await;
            clients.push(client.unwrap_or_else(|why| panic!("comet {comet}: {why}")));
            longest = longest.max(begun.elapsed());
        }
        (longest, clients)
    };
    let logins = within("logins", async {
        tokio::join!(
            logins(0, Door::Tcp),
            logins(1, Door::WebSocket),
            traffic.flows_by(&[1], &[0, 1]),
        )
    });
    let ((at_first, _first), (at_second, _second), flows) = logins.await;
    note("so many logins at each comet", (LOGINS, hangs.elapsed()));
    note("the longest at each", (at_first, at_second));
    note("meanwhile, pushes to a room", flows);
    let keys = (0..LOGINS).flat_map(|index| [0, 1].map(|comet| format!("keys={comet}-{index}")));
    let keys = keys.collect::<Vec<_>>().join("&");
    let answer = cluster.push(1, "keys", &keys, "to all").await;
    assert!(answer.is_taken(), "{answer:?}");

    cluster.logics[0].signal("CONT").await;
    let goes_on = Instant::now();
    traffic.flows().await;
    for comet in 0..2 {
        let key = format!("newcomer-{comet}");
        let client = cluster
            .try_login(comet, Door::Tcp, &token(9, &key, ""))
            .await;
        let client = Member::of(client.unwrap_or_else(|why| panic!("comet {comet}: {why}")));
        for logic in 0..2 {
            let (query, text) = (format!("keys={key}"), format!("through {logic}"));
            let answer = cluster.push(logic, "keys", &query, &text).await;
            assert!(answer.is_taken(), "{answer:?}");
            client.gets(&text).await;
        }
    }
    // Those whose logins waited are still known, too: the one that hung has not taken back what the other one did.
    for logic in 0..2 {
        let answer = cluster.push(logic, "keys", &keys, "to all again").await;
        assert!(answer.is_taken(), "{answer:?}");
    }
    note("all is well after it goes on", goes_on.elapsed());
    traffic.end().await.is_none();
}
