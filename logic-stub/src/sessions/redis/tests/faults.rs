//! Redis that is away, comes back empty, or is silent.

use super::*;

/// Short, for what is never answered; an answer may take as long as the machine is busy.
const IMPATIENT: Waits = Waits {
    dial: Duration::from_millis(200),
    answer: Duration::from_millis(300),
    ..WAITS
};

/// Asks until there is an answer, as comets and pushers do.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(error)) => {
                assert!(start.elapsed() < Duration::from_mins(1), "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn is_away(store: &RedisSessions) {
    let start = Instant::now();
    let keys = ["k".to_owned()];
    let answers = tokio::join!(store.holders(&keys), store.of_mids(&[7]), async {
        store.register(&session(7, "k", "a", None)).await
    },);
    assert!(
        matches!(answers.0, Err(StoreError::Unavailable(_))),
        "{answers:?}"
    );
    assert!(
        matches!(answers.1, Err(StoreError::Unavailable(_))),
        "{answers:?}"
    );
    assert!(
        matches!(answers.2, Err(StoreError::Unavailable(_))),
        "{answers:?}"
    );
    // Calls that come together fail together: far from a limit for each.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

async fn comes_back_empty(servers: &mut [Server]) {
    let store = Subjected::with(servers, IMPATIENT).store;
    let generation = eventually(async || store.generation().await).await;
    let renew = async || store.renew_lease("a", contract::info(1)).await;
    assert_eq!(eventually(renew).await, LeaseRenewal::New);
    assert_eq!(eventually(renew).await, LeaseRenewal::Known);
    let session = session(7, "k", "a", Some((1, 1)));
    eventually(async || store.register(&session).await).await;

    servers.iter_mut().for_each(Server::kill);
    is_away(&store).await;
    is_away(&store).await;
    for server in servers.iter_mut() {
        server.go();
    }
    if let [_, _, ..] = servers {
        servers.iter().for_each(Server::await_cluster);
    }
    assert_ne!(
        eventually(async || store.generation().await).await,
        generation
    );
    assert_eq!(eventually(async || store.of_mids(&[7]).await).await, []);
    assert_eq!(
        eventually(async || store.renew(&session).await).await,
        Renewal::Absent
    );
    assert_eq!(eventually(renew).await, LeaseRenewal::New);
    eventually(async || store.register(&session).await).await;
    assert_eq!(
        eventually(async || store.of_mids(&[7]).await).await,
        [session]
    );
}

#[tokio::test]
async fn a_restarted_server_is_another_generation() {
    comes_back_empty(&mut [Server::start()]).await;
}

#[tokio::test]
async fn a_restarted_cluster_is_another_generation() {
    comes_back_empty(&mut Server::cluster()).await;
}

#[tokio::test]
async fn one_lost_master_is_another_generation_too() {
    let mut servers = Server::cluster();
    let store = Subjected::with(&servers, IMPATIENT).store;
    for index in 0..servers.len() {
        let before = eventually(async || store.generation().await).await;
        servers[index].kill();
        servers[index].go();
        servers.iter().for_each(Server::await_cluster);
        assert_ne!(eventually(async || store.generation().await).await, before);
    }
}

#[tokio::test]
async fn a_server_that_may_lack_what_was_written_last_is_another_generation() {
    let mut servers = [Server::start()];
    let store = Subjected::with(&servers, IMPATIENT).store;
    let (first, last) = (
        session(7, "k", "a", Some((1, 1))),
        session(8, "l", "a", Some((1, 2))),
    );
    eventually(async || store.renew_lease("a", contract::info(1)).await).await;
    eventually(async || store.register(&first).await).await;
    let generation = eventually(async || store.generation().await).await;
    servers[0].ask::<()>(&["SAVE"]);
    eventually(async || store.register(&last).await).await;
    servers[0].kill();
    servers[0].go();
    assert_eq!(
        eventually(async || store.of_mids(&[7, 8]).await).await,
        [first]
    );
    assert_ne!(
        eventually(async || store.generation().await).await,
        generation
    );
}

/// The names of the comets that live.
async fn living(store: &RedisSessions) -> Vec<String> {
    let leases = eventually(async || store.leases().await).await;
    let alive = leases.alive.into_iter();
    alive.map(|lease| lease.server.to_string()).collect()
}

#[tokio::test]
async fn a_server_that_was_away_says_nothing_of_comets() {
    let mut servers = [Server::start()];
    let Subjected { store, ahead, .. } = Subjected::with(&servers, IMPATIENT);
    let pass = |time| *ahead.lock() += time;
    eventually(async || store.renew_lease("a", contract::info(1)).await).await;
    // It comes back empty before the lease has ended.
    servers[0].kill();
    servers[0].go();
    assert_eq!(living(&store).await, ["a"]);
    // It goes away for longer than the lease, which nobody could renew.
    servers[0].kill();
    assert!(store.leases().await.is_err());
    pass(2 * LIMITS.lease);
    assert!(store.leases().await.is_err());
    servers[0].go();
    let session = session(7, "k", "a", Some((1, 1)));
    eventually(async || store.register(&session).await).await;
    assert_eq!(living(&store).await, ["a"]);
    assert_eq!(store.of_mids(&[7]).await.unwrap(), [session]);
    // Now the comet could, and did not.
    pass(LIMITS.lease);
    assert_eq!(living(&store).await, [""; 0]);
    assert_eq!(store.of_mids(&[7]).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_may_come_later() {
    let mut servers = [Server::start()];
    servers[0].kill();
    let place = Server::place(&servers);
    let store = RedisSessions::new(place, LIMITS, IMPATIENT, Clock::system(), Vec::new()).unwrap();
    is_away(&store).await;
    servers[0].go();
    eventually(async || store.register(&session(7, "k", "a", None)).await).await;
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let servers = [Server::start()];
    let store = Subjected::with(&servers, IMPATIENT).store;
    eventually(async || store.register(&session(7, "k", "a", None)).await).await;
    servers[0].ask::<()>(&["CLIENT", "PAUSE", "60000", "ALL"]);
    is_away(&store).await;
    is_away(&store).await;
    let counted = join_all((0..50).map(|_| store.room_counts()));
    let start = Instant::now();
    assert!(counted.await.iter().all(Result::is_err));
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(servers);
}

#[tokio::test]
async fn a_server_that_was_silent_is_used_again() {
    let servers = [Server::start()];
    let store = Subjected::with(&servers, IMPATIENT).store;
    let session = session(7, "k", "a", None);
    eventually(async || store.register(&session).await).await;
    servers[0].ask::<()>(&["CLIENT", "PAUSE", "1500", "ALL"]);
    assert!(store.generation().await.is_err());
    assert_eq!(
        eventually(async || store.of_mids(&[7]).await).await,
        [session]
    );
}

#[tokio::test]
async fn a_login_that_was_given_up_is_not_written_down_later() {
    let servers = [Server::start()];
    let store = Subjected::with(&servers, IMPATIENT).store;
    let lives = session(7, "k", "a", Some((1, 1)));
    eventually(async || store.renew_lease("a", contract::info(1)).await).await;
    eventually(async || store.renew_lease("b", contract::info(1)).await).await;
    eventually(async || store.generation().await).await;
    eventually(async || store.register(&lives).await).await;
    servers[0].ask::<()>(&["CLIENT", "PAUSE", "3000", "ALL"]);
    let given_up = session(7, "k", "b", Some((1, 1)));
    assert!(store.register(&given_up).await.is_err());
    assert_eq!(
        eventually(async || store.of_mids(&[7]).await).await,
        [lives]
    );
    // One that is in time is.
    eventually(async || store.register(&given_up).await).await;
    assert_eq!(
        eventually(async || store.of_mids(&[7]).await).await,
        [given_up]
    );
}

#[tokio::test]
async fn a_clock_of_redis_that_was_set_locks_nobody_out() {
    let servers = [Server::start()];
    let store = Subjected::with(&servers, WAITS).store;
    // As if it had been far behind until now.
    let behind = 1_000;
    store.time.note(Instant::now(), behind);
    let session = session(7, "k", "a", None);
    assert_eq!(store.register(&session).await.unwrap(), Registration::New);
    assert!(store.time.after(Duration::ZERO) > behind + 1_000_000);
}
