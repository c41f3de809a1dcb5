//! What every [`Sessions`] must do, as a test: each rule gets a store of its own.

use std::time::Duration;

use futures_util::future::BoxFuture;
use protocol::grpc::goim::logic::CometInfo;

use super::{
    Client, Connection, Holder, LeaseRenewal, Leases, Registration, Renewal, RoomCounts, Session,
    Sessions,
    memory::{Limits, REPORT_MAX_AGE},
};

/// What a store under test must be made with. The bounds of numbers are out of the way.
pub(crate) const LIMITS: Limits = Limits {
    expire: Duration::from_mins(30),
    lease: Duration::from_secs(30),
    max_sessions: 1_000,
    max_comets: 100,
};

/// A store and the clock that it goes by.
pub(crate) trait Subject {
    fn sessions(&self) -> &dyn Sessions;

    /// Lets `time` pass for the store.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;
}

/// Holds stores that `make` makes, each empty, to every rule.
pub(crate) async fn check<S: Subject>(make: impl Fn() -> S) {
    registers_and_finds(&make()).await;
    replaces_and_ignores_late_goodbyes(&make()).await;
    older_connections_do_not_come_back(&make()).await;
    goodbyes_without_a_connection_go_by_server(&make()).await;
    several_connections_of_a_mid(&make()).await;
    index_follows_the_key(&make()).await;
    nobodys_mid_has_no_index(&make()).await;
    clients_are_kept(&make()).await;
    sessions_expire(&make()).await;
    restarted_comets_own_nothing_of_before(&make()).await;
    dead_leases_hide_sessions_and_counts(&make()).await;
    comets_that_leave_have_no_lease(&make()).await;
    sums_of_rooms(&make()).await;
}

pub(crate) fn session(
    mid: i64,
    key: &str,
    server: &str,
    connection: Option<(u64, u64)>,
) -> Session {
    let connection = connection.map(|(epoch, id)| Connection { epoch, id });
    let holder = Holder {
        server: server.into(),
        connection,
    };
    Session {
        mid,
        key: key.to_owned(),
        holder,
        client: Client::default(),
    }
}

pub(crate) fn info(epoch: u64) -> CometInfo {
    CometInfo {
        epoch,
        ..CometInfo::default()
    }
}

async fn registers_and_finds(subject: &impl Subject) {
    let store = subject.sessions();
    let session = session(7, "k", "a", None);
    assert_eq!(register(subject, &session).await, Registration::New);
    assert_eq!(
        store
            .holders(&["none".to_owned(), "k".to_owned()])
            .await
            .unwrap(),
        [None, Some(session.holder.clone())]
    );
    assert_eq!(
        of_mids(subject, &[7, 8, 7]).await,
        std::slice::from_ref(&session)
    );
    assert!(subject.sessions().remove(&session).await.unwrap());
    assert!(!subject.sessions().remove(&session).await.unwrap());
    assert_eq!(holder(subject, "k").await, None);
    assert_eq!(of_mids(subject, &[7]).await, []);
    let generation = store.generation().await.unwrap();
    assert_eq!(store.generation().await.unwrap(), generation);
}

async fn replaces_and_ignores_late_goodbyes(subject: &impl Subject) {
    lease(subject, "a", 1).await;
    lease(subject, "b", 5).await;
    let old = session(7, "k", "a", Some((1, 1)));
    let new = session(7, "k", "b", Some((5, 1)));
    register(subject, &old).await;
    assert_eq!(register(subject, &old).await, Registration::Repeated);
    assert_eq!(
        register(subject, &new).await,
        Registration::Replaced(old.holder.clone())
    );
    assert!(!subject.sessions().remove(&old).await.unwrap());
    assert_eq!(renew(subject, &old).await, Renewal::Superseded);
    assert_eq!(holder(subject, "k").await, Some(new.holder.clone()));
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&new));
    assert!(subject.sessions().remove(&new).await.unwrap());
}

async fn older_connections_do_not_come_back(subject: &impl Subject) {
    lease(subject, "a", 2).await;
    let newer = session(7, "k", "a", Some((2, 9)));
    register(subject, &newer).await;
    for older in [(2, 8), (1, 100)] {
        let late = session(8, "k", "a", Some(older));
        assert_eq!(
            register(subject, &late).await,
            Registration::Superseded(newer.holder.clone())
        );
        assert!(!subject.sessions().remove(&late).await.unwrap());
    }
    assert_eq!(
        of_mids(subject, &[7, 8]).await,
        std::slice::from_ref(&newer)
    );
    let newest = session(7, "k", "a", Some((2, 10)));
    assert_eq!(
        register(subject, &newest).await,
        Registration::Replaced(newer.holder)
    );
}

async fn goodbyes_without_a_connection_go_by_server(subject: &impl Subject) {
    lease(subject, "a", 1).await;
    register(subject, &session(7, "k", "a", Some((1, 1)))).await;
    let elsewhere = session(7, "k", "b", None);
    assert!(!subject.sessions().remove(&elsewhere).await.unwrap());
    assert_eq!(renew(subject, &elsewhere).await, Renewal::Superseded);
    let there = session(7, "k", "a", None);
    assert_eq!(renew(subject, &there).await, Renewal::Renewed);
    assert!(subject.sessions().remove(&there).await.unwrap());
    assert_eq!(renew(subject, &there).await, Renewal::Absent);
}

async fn several_connections_of_a_mid(subject: &impl Subject) {
    let phone = session(7, "phone", "a", None);
    let desk = session(7, "desk", "b", None);
    let other = session(8, "other", "b", None);
    for session in [&phone, &desk, &other] {
        register(subject, session).await;
    }
    assert_eq!(of_mids(subject, &[7]).await, [desk.clone(), phone.clone()]);
    assert_eq!(
        of_mids(subject, &[8, 7]).await,
        [desk.clone(), other, phone.clone()]
    );
    assert!(subject.sessions().remove(&phone).await.unwrap());
    assert_eq!(of_mids(subject, &[7]).await, [desk]);
}

async fn index_follows_the_key(subject: &impl Subject) {
    register(subject, &session(7, "k", "a", None)).await;
    let moved = session(8, "k", "a", None);
    register(subject, &moved).await;
    assert_eq!(of_mids(subject, &[7]).await, []);
    assert_eq!(of_mids(subject, &[8]).await, std::slice::from_ref(&moved));
    // A goodbye that names a mid of before goes by the key: the index is not left behind.
    let goodbye = session(7, "k", "a", None);
    assert!(subject.sessions().remove(&goodbye).await.unwrap());
    assert_eq!(of_mids(subject, &[7, 8]).await, []);
}

async fn nobodys_mid_has_no_index(subject: &impl Subject) {
    for mid in [0, -1] {
        let key = format!("k{mid}");
        let nobody = session(mid, &key, "a", None);
        register(subject, &nobody).await;
        assert_eq!(renew(subject, &nobody).await, Renewal::Renewed);
        assert_eq!(of_mids(subject, &[mid]).await, []);
        assert_eq!(holder(subject, &key).await, Some(nobody.holder.clone()));
        assert!(subject.sessions().remove(&nobody).await.unwrap());
    }
    // Whoever becomes nobody is in the index no longer.
    register(subject, &session(7, "k", "a", None)).await;
    register(subject, &session(0, "k", "a", None)).await;
    assert_eq!(of_mids(subject, &[7, 0]).await, []);
}

async fn clients_are_kept(subject: &impl Subject) {
    let session = Session {
        client: Client {
            door: "tcp".to_owned(),
            address: "[::1]:7".to_owned(),
            platform: "web \"1\"".to_owned(),
        },
        ..session(7, "k", "a", None)
    };
    register(subject, &session).await;
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&session));
    // A renewal that does not say it again takes nothing away.
    let renewal = Session {
        client: Client::default(),
        ..session.clone()
    };
    assert_eq!(renew(subject, &renewal).await, Renewal::Renewed);
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&session));
    let next = Session {
        client: Client {
            platform: "ios".to_owned(),
            ..Client::default()
        },
        ..session
    };
    register(subject, &next).await;
    assert_eq!(of_mids(subject, &[7]).await, [next]);
}

async fn sessions_expire(subject: &impl Subject) {
    let quiet = session(7, "quiet", "a", None);
    let lively = session(7, "lively", "a", None);
    register(subject, &quiet).await;
    register(subject, &lively).await;
    subject.pass(LIMITS.expire * 2 / 3).await;
    assert_eq!(renew(subject, &lively).await, Renewal::Renewed);
    subject.pass(LIMITS.expire * 2 / 3).await;
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&lively));
    assert_eq!(holder(subject, "quiet").await, None);
    assert_eq!(renew(subject, &quiet).await, Renewal::Absent);
    assert!(!subject.sessions().remove(&quiet).await.unwrap());
    assert_eq!(register(subject, &quiet).await, Registration::New);
    assert_eq!(of_mids(subject, &[7]).await, [lively, quiet]);
}

async fn restarted_comets_own_nothing_of_before(subject: &impl Subject) {
    let store = subject.sessions();
    let before = session(7, "k", "a", Some((1, 1)));
    let after = session(7, "k2", "a", Some((2, 1)));
    assert_eq!(lease(subject, "a", 1).await, LeaseRenewal::New);
    assert_eq!(lease(subject, "a", 1).await, LeaseRenewal::Known);
    register(subject, &before).await;
    store
        .report_rooms("a", Some(1), counts(&[("r", 5)]))
        .await
        .unwrap();

    assert_eq!(lease(subject, "a", 2).await, LeaseRenewal::New);
    assert_eq!(holder(subject, "k").await, None);
    assert_eq!(of_mids(subject, &[7]).await, []);
    assert_eq!(rooms(subject).await, counts(&[]));
    register(subject, &after).await;
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&after));

    // The process of before is still there and does not know that it is over.
    assert_eq!(lease(subject, "a", 1).await, LeaseRenewal::Superseded);
    assert!(
        !subject
            .sessions()
            .remove(&session(7, "k2", "a", Some((1, 1))))
            .await
            .unwrap()
    );
    let leases = subject.sessions().leases().await.unwrap().alive;
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].info.epoch, 2);
    assert_eq!(of_mids(subject, &[7]).await, [after]);
}

async fn dead_leases_hide_sessions_and_counts(subject: &impl Subject) {
    let leased = session(7, "leased", "a", Some((1, 1)));
    let goims = session(7, "goims", "b", None);
    register(subject, &leased).await;
    assert_eq!(of_mids(subject, &[7]).await, []);
    lease(subject, "a", 1).await;
    register(subject, &goims).await;
    for (server, epoch) in [("a", Some(1)), ("b", None)] {
        let report = subject
            .sessions()
            .report_rooms(server, epoch, counts(&[("r", 2)]));
        report.await.unwrap();
    }
    assert_eq!(
        of_mids(subject, &[7]).await,
        [goims.clone(), leased.clone()]
    );
    assert_eq!(rooms(subject).await, counts(&[("r", 4)]));

    subject.pass(LIMITS.lease).await;
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&goims));
    assert_eq!(holder(subject, "leased").await, None);
    assert_eq!(rooms(subject).await, counts(&[("r", 2)]));
    let Leases { alive, ended } = subject.sessions().leases().await.unwrap();
    assert_eq!((alive, ended.len()), (vec![], 1));
    assert_eq!(&*ended[0].server, "a");
    subject.pass(LIMITS.lease).await;
    let later = subject.sessions().leases().await.unwrap().ended;
    assert!(later[0].since >= LIMITS.lease, "{later:?}");

    // Cut off for a while: nothing was forgotten.
    assert_eq!(lease(subject, "a", 1).await, LeaseRenewal::Known);
    assert_eq!(subject.sessions().leases().await.unwrap().ended, []);
    assert_eq!(of_mids(subject, &[7]).await, [goims, leased]);
    assert_eq!(rooms(subject).await, counts(&[("r", 4)]));
}

async fn comets_that_leave_have_no_lease(subject: &impl Subject) {
    let store = subject.sessions();
    let (leased, other) = (
        session(7, "leased", "a", Some((1, 1))),
        session(7, "other", "b", Some((5, 1))),
    );
    lease(subject, "a", 1).await;
    lease(subject, "b", 5).await;
    register(subject, &leased).await;
    register(subject, &other).await;
    assert_eq!(
        of_mids(subject, &[7]).await,
        [leased.clone(), other.clone()]
    );

    let leaving = CometInfo {
        leaving: true,
        ..info(1)
    };
    assert_eq!(
        store.renew_lease("a", leaving).await,
        Ok(LeaseRenewal::Known)
    );
    assert_eq!(of_mids(subject, &[7]).await, std::slice::from_ref(&other));
    assert_eq!(holder(subject, "leased").await, None);
    let Leases { alive, ended } = store.leases().await.unwrap();
    assert_eq!((alive.len(), ended), (1, vec![]));
    assert_eq!(&*alive[0].server, "b");

    // A new start of it is one like any other.
    assert_eq!(lease(subject, "a", 2).await, LeaseRenewal::New);
    assert_eq!(of_mids(subject, &[7]).await, [other]);
    assert_eq!(store.leases().await.unwrap().alive.len(), 2);
}

async fn sums_of_rooms(subject: &impl Subject) {
    let store = subject.sessions();
    store
        .report_rooms("a", None, counts(&[("r", 1), ("s", 2)]))
        .await
        .unwrap();
    assert_eq!(rooms(subject).await, counts(&[("r", 1), ("s", 2)]));
    store
        .report_rooms("b", None, counts(&[("r", 10)]))
        .await
        .unwrap();
    assert_eq!(rooms(subject).await, counts(&[("r", 11), ("s", 2)]));
    store
        .report_rooms("a", None, counts(&[("s", 3)]))
        .await
        .unwrap();
    assert_eq!(rooms(subject).await, counts(&[("r", 10), ("s", 3)]));
    subject.pass(REPORT_MAX_AGE / 2).await;
    store
        .report_rooms("b", None, counts(&[("r", i32::MAX), ("s", i32::MAX)]))
        .await
        .unwrap();
    assert_eq!(
        rooms(subject).await,
        counts(&[("r", i32::MAX), ("s", i32::MAX)])
    );
    subject.pass(REPORT_MAX_AGE / 2).await;
    store
        .report_rooms("b", None, counts(&[("r", 4)]))
        .await
        .unwrap();
    assert_eq!(rooms(subject).await, counts(&[("r", 4)]));
}

async fn register(subject: &impl Subject, session: &Session) -> Registration {
    subject.sessions().register(session).await.unwrap()
}

async fn renew(subject: &impl Subject, session: &Session) -> Renewal {
    subject.sessions().renew(session).await.unwrap()
}

async fn lease(subject: &impl Subject, server: &str, epoch: u64) -> LeaseRenewal {
    subject
        .sessions()
        .renew_lease(server, info(epoch))
        .await
        .unwrap()
}

async fn holder(subject: &impl Subject, key: &str) -> Option<Holder> {
    let mut holders = subject.sessions().holders(&[key.to_owned()]).await.unwrap();
    assert_eq!(holders.len(), 1);
    holders.remove(0)
}

/// Sorted by key.
async fn of_mids(subject: &impl Subject, mids: &[i64]) -> Vec<Session> {
    let mut sessions = subject.sessions().of_mids(mids).await.unwrap();
    sessions.sort_by(|a, b| a.key.cmp(&b.key));
    sessions
}

async fn rooms(subject: &impl Subject) -> RoomCounts {
    subject
        .sessions()
        .room_counts()
        .await
        .unwrap()
        .as_ref()
        .clone()
}

fn counts(rooms: &[(&str, i32)]) -> RoomCounts {
    rooms
        .iter()
        .map(|(room, count)| ((*room).to_owned(), *count))
        .collect()
}
