use super::{goodbye::Goodbyes, *};

/// A logic at an address where nobody answers.
fn away(metrics: &Arc<Metrics>) -> Logic {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::default();
    config.logic.addresses = vec![listener.local_addr().unwrap().to_string()];
    let metrics = Arc::clone(metrics);
    let shutdown = CancellationToken::new();
    let name = "comet".to_owned();
    let (credential, dialer) = (Credential::default(), Dialer::default());
    Logic::start(&config, name, 1, credential, dialer, metrics, shutdown)
}

fn session() -> Arc<Session> {
    Arc::new(Session {
        mid: 1,
        key: "a".into(),
        id: 1,
        door: Door::Tcp,
        client: "127.0.0.1:1".parse().unwrap(),
        platform: Box::default(),
        renew_at: AtomicU32::default(),
    })
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, waiting).await.unwrap();
}

#[test]
fn only_what_logic_itself_says_for_good_is_a_refusal() {
    for code in [
        Code::Unknown,
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::Internal,
    ] {
        assert!(is_refusal(&Status::new(code, "no")), "{code:?}");
    }
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
    ] {
        assert!(!is_refusal(&Status::new(code, "not now")), "{code:?}");
    }
    // That is not about the client.
    assert!(!is_refusal(&Status::from(bearer::Refused::Wrong)));
    let broken = std::io::Error::other("broken");
    assert!(!is_refusal(&Status::from_error(Box::new(broken))));
}

#[tokio::test]
async fn a_call_without_logic_says_so() {
    let metrics = Arc::new(Metrics::default());
    let logic = away(&metrics);
    let error = logic.heartbeat(&session()).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error}");
    assert_eq!(metrics.logic_calls("heartbeat", "unavailable").get(), 1);
}

#[tokio::test]
async fn goodbyes_beyond_the_bound_are_counted() {
    let metrics = Arc::new(Metrics::default());
    let age = Duration::from_mins(10);
    let goodbyes = Goodbyes::start(away(&metrics), Arc::clone(&metrics), 2, age);
    // Nothing else runs until this waits.
    for _ in 0..5 {
        goodbyes.say(session());
    }
    assert_eq!(metrics.goodbyes_lost.get(), 3);
    until(|| metrics.logic_calls("disconnect", "unavailable").get() >= 2).await;
    assert_eq!(
        metrics.goodbyes_lost.get(),
        3,
        "those that wait are not lost"
    );
}

#[tokio::test]
async fn a_goodbye_that_is_too_old_is_tried_once_and_given_up() {
    let metrics = Arc::new(Metrics::default());
    let goodbyes = Goodbyes::start(away(&metrics), Arc::clone(&metrics), 2, Duration::ZERO);
    goodbyes.say(session());
    until(|| metrics.goodbyes_lost.get() == 1).await;
    assert_eq!(metrics.logic_calls("disconnect", "unavailable").get(), 1);
}
