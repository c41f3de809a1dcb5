//! Redis behind TLS, which asks for certificates and a password.

use std::{fs, time::Duration};

use redis::TlsCertificates;
use tokio_util::sync::CancellationToken;

use super::{
    authority::{Authority, PASSWORD},
    server::until,
    *,
};
use crate::{Config, LogicStub};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_count_for_new_connections() {
    const FILES: [&str; 3] = ["ca.pem", "caller.pem", "caller.key"];
    let (authority, named) = (Authority::new(), Authority::new());
    let server = Server::secure(&authority);
    let mut config = Config::default();
    for addr in [&mut config.rpc_server.addr, &mut config.http_server.addr] {
        *addr = "127.0.0.1:0".to_owned();
    }
    config.monitor.addrs = vec!["127.0.0.1:0".to_owned()];
    config.redis.url = format!("rediss://:{PASSWORD}@127.0.0.1:{}", server.port);
    let [ca, certificate, key] = FILES.map(|name| named.path(name));
    config.redis.ca_file = ca;
    config.redis.cert_file = certificate;
    config.redis.private_file = key;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let stub = LogicStub::start(config.clone(), stop).unwrap();
    let sessions = &stub.logic().sessions;
    // The files are of another authority.
    let refused = sessions.generation().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));

    for name in FILES {
        fs::copy(authority.path(name), named.path(name)).unwrap();
    }
    let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
    while sessions.generation().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "never believed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A pair that is none would not be taken, at a start or later.
    let contents = [
        authority.path("ca.pem"),
        authority.path("caller.pem"),
        authority.path("server.key"),
    ];
    let wrong = config
        .redis
        .certificates(&contents.map(|file| fs::read(file).unwrap()));
    assert!(wrong.is_err());
}
