//! Redis behind TLS, which asks for certificates and a password.

use redis::TlsCertificates;

use super::{authority::Authority, server::until, *};

fn store(place: Place) -> RedisSessions {
    RedisSessions::new(place, LIMITS, WAITS, Clock::system(), Vec::new()).unwrap()
}

#[tokio::test]
async fn keeps_the_contract_over_tls() {
    let servers = [Server::secure(&Authority::new())];
    contract::check(|| Subjected::new(&servers)).await;
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_called_over_tls() {
    let servers = Server::secure_cluster(&Authority::new());
    long_lists(&Subjected::new(&servers)).await;
    for server in &servers {
        assert_ne!(server.keys(), Vec::<String>::new(), "one has nothing");
    }
}

#[tokio::test]
async fn a_master_that_sentinels_name_is_called_over_tls() {
    let master = Server::secure(&Authority::new());
    let replica = master.replica();
    let sentinel = master.sentinel();
    let store = store(Server::place(std::slice::from_ref(&sentinel)));
    let session = session(7, "k", "a", None);
    assert_eq!(store.register(&session).await, Ok(Registration::New));
    until("the replica has it", || {
        replica.ask::<Option<String>>(&["GET", "key_k"]).is_some()
    });
}

#[tokio::test]
async fn who_cannot_be_believed_gets_no_session_and_no_password() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::secure(&authority);
    let url = |host: &str| format!("rediss://:hush@{host}:{}", server.port);
    let (known, foreign) = (authority.certificates(), other.certificates());
    let without = TlsCertificates {
        client_tls: None,
        ..known.clone()
    };
    let place = |host: &str, certificates| {
        let place = Place::parse(&url(host)).unwrap();
        place.with_certificates(certificates).unwrap()
    };
    for (what, place) in [
        (
            "a certificate of another authority",
            place("127.0.0.1", foreign),
        ),
        ("one for another name", place("localhost", known.clone())),
        ("we show none", place("127.0.0.1", without)),
        (
            "the system does not know it",
            Place::parse(&url("127.0.0.1")).unwrap(),
        ),
        (
            "no TLS",
            Place::parse(&url("127.0.0.1").replace("rediss", "redis")).unwrap(),
        ),
    ] {
        let answer = store(place).register(&session(7, "k", "a", None)).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable(_))),
            "{what}: {answer:?}"
        );
    }
    assert_eq!(server.keys(), Vec::<String>::new());
    let answer = store(place("127.0.0.1", known))
        .register(&session(7, "k", "a", None))
        .await;
    assert_eq!(answer, Ok(Registration::New));
}
