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
async fn a_server_may_come_later() {
    let mut servers = [Server::start()];
    servers[0].kill();
    let place = Place::parse(&url(&servers)).unwrap();
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
