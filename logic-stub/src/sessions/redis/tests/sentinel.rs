//! A master that sentinels name.

use super::{
    server::{Server, until},
    *,
};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_fail_over_is_followed() {
    let mut master = Server::start();
    let (replica, sentinel) = (master.replica(), master.sentinel());
    // The first one is not there: the others are asked.
    let url = format!(
        "redis+sentinel://127.0.0.1:1,127.0.0.1:{}/mymaster",
        sentinel.port
    );
    let place = Place::parse(&url).unwrap();
    let store = RedisSessions::new(place, LIMITS, WAITS, Clock::system(), Vec::new()).unwrap();
    let (before, after) = (
        session(7, "before", "a", None),
        session(7, "after", "a", None),
    );
    assert_eq!(store.register(&before).await, Ok(Registration::New));
    until("the replica has it", || {
        replica
            .ask::<Option<String>>(&["GET", "key_before"])
            .is_some()
    });
    master.kill();
    let written = async {
        while store.register(&after).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, written).await.unwrap();
    let keys: Vec<String> = ["before", "after"].map(str::to_owned).into();
    let holder = Some(before.holder.clone());
    assert_eq!(store.holders(&keys).await, Ok(vec![holder.clone(), holder]));
    assert_eq!(replica.ask::<String>(&["GET", "key_after"]), "a");
}
