use std::cell::RefCell;
use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_are_read() {
    assert_eq!(parse_bind("127.0.0.1:0").unwrap(), addr("127.0.0.1:0"));
    assert_eq!(parse_bind("[::1]:80").unwrap(), addr("[::1]:80"));
    let all = parse_bind(":3101").unwrap();
    assert!(all.ip().is_unspecified());
    assert_eq!((all.port(), all.is_ipv6()), (3101, ipv6_is_on()));
    let local = parse_bind("localhost:3101").unwrap();
    assert!(local.ip().is_loopback());
    assert_eq!(local.port(), 3101);
}

#[test]
fn what_is_no_address_is_refused_with_examples() {
    for text in [
        "",
        ":",
        "3101",
        ":x",
        ":+1",
        ":65536",
        ":-1",
        "::1:80",
        "[::1]",
        "a b:1",
        "http://a:1",
        "1.2.3.4",
    ] {
        assert_eq!(
            parse_bind(text).unwrap_err().to_string(),
            format!(
                "\"{text}\" is no address to listen on: expected \":3101\", \"127.0.0.1:3101\", \"[::1]:3101\" or \
                 \"localhost:3101\""
            )
        );
    }
}

#[test]
fn an_unknown_host_is_named() {
    let text = parse_bind("no-such-host.invalid:1")
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("the host of \"no-such-host.invalid:1\" is not known: "),
        "{text}"
    );
}

#[tokio::test]
async fn all_interfaces_take_ipv4_whether_ipv6_is_on_or_not() {
    let listener = bind(parse_bind(":0").unwrap(), &ListenOptions::default()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (client, accepted) =
        tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
    client.unwrap();
    assert!(accepted.unwrap().1.ip().to_canonical().is_loopback());
}

#[tokio::test]
async fn accepted_sockets_inherit_the_options() {
    let options = ListenOptions {
        sndbuf: Some(8192),
        rcvbuf: Some(8192),
        keepalive: true,
        user_timeout: Some(Duration::from_secs(63)),
        ..Default::default()
    };
    let listener = bind(addr("127.0.0.1:0"), &options).unwrap();
    let to = listener.local_addr().unwrap();
    let (_client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
    let (stream, _) = accepted.unwrap();
    let socket = socket2::SockRef::from(&stream);
    // Linux doubles what is asked for, to have room for its own bookkeeping.
    assert!([8192, 16384].contains(&socket.send_buffer_size().unwrap()));
    assert!([8192, 16384].contains(&socket.recv_buffer_size().unwrap()));
    assert!(socket.keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), options.user_timeout);
    assert!(stream.nodelay().unwrap());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let first = bind(addr("127.0.0.1:0"), &ListenOptions::default()).unwrap();
    let taken = first.local_addr().unwrap();
    let error = bind(taken, &ListenOptions::default()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {taken}: ")),
        "{error}"
    );
}

#[test]
fn loopback_addresses_need_no_guard() {
    for text in [
        "127.0.0.1:1",
        "127.8.0.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        for callers in [Callers::Local, Callers::Anyone, Callers::Proven] {
            assert_eq!(guard(addr(text), callers), (addr(text), None));
        }
    }
}

#[test]
fn an_unauthenticated_service_is_moved_to_loopback() {
    for (asked, given) in [
        ("0.0.0.0:3109", "127.0.0.1:3109"),
        ("10.0.0.1:3109", "127.0.0.1:3109"),
        ("[::]:3109", "127.0.0.1:3109"),
        ("[::ffff:10.0.0.1]:3109", "127.0.0.1:3109"),
        ("[fd00::1]:3109", "[::1]:3109"),
    ] {
        let (moved, text) = guard(addr(asked), Callers::Local);
        assert_eq!(moved, addr(given));
        assert_eq!(
            text.unwrap(),
            format!(
                "listening on {given} instead of {asked}, because this service does not ask its callers who they are: \
                 set allowUnauthenticated = true for this listener if only a private network leads there"
            )
        );
    }
}

#[test]
fn an_allowed_exposure_stays_with_a_warning() {
    let (stays, text) = guard(addr("[::]:3109"), Callers::Anyone);
    assert_eq!(stays, addr("[::]:3109"));
    assert!(
        text.unwrap()
            .starts_with("ANYONE WHO CAN REACH [::]:3109 CAN USE THIS SERVICE")
    );
}

#[test]
fn a_service_that_asks_for_proof_stays_without_a_word() {
    for allowed in [false, true] {
        let callers = Callers::of(true, allowed);
        assert_eq!(guard(addr("[::]:3109"), callers), (addr("[::]:3109"), None));
    }
    assert_eq!(Callers::of(false, true), Callers::Anyone);
    assert_eq!(Callers::of(false, false), Callers::Local);
}

#[tokio::test]
async fn connections_are_served_until_shutdown() {
    let listener = bind(addr("127.0.0.1:0"), &ListenOptions::default()).unwrap();
    let to = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (served, mut streams) = mpsc::unbounded_channel();
    let serve = move |stream, peer| served.send((stream, peer)).unwrap();
    let accepting = tokio::spawn(accept_loop(listener, shutdown.clone(), |_| {}, serve));
    for byte in 1..=3 {
        let mut client = TcpStream::connect(to).await.unwrap();
        let (mut stream, peer): (TcpStream, SocketAddr) = streams.recv().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        client.write_u8(byte).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), byte);
    }
    shutdown.cancel();
    accepting.await.unwrap();
    assert!(streams.recv().await.is_none());
    let refused = TcpStream::connect(to).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const ENOBUFS: i32 = 105;
const ECONNABORTED: i32 = 103;
const EPROTO: i32 = 71;

/// Runs the loop over scripted results (0 is a connection) until they end; the times in ms at which accept was called.
async fn accept_times(script: &[i32]) -> (Vec<u128>, Vec<i32>) {
    let shutdown = CancellationToken::new();
    let start = Instant::now();
    let mut script: VecDeque<i32> = script.iter().copied().collect();
    let mut times = Vec::new();
    let errors = RefCell::new(Vec::new());
    let accept = |_: &mut Context<'_>| {
        let Some(code) = script.pop_front() else {
            shutdown.cancel();
            return Poll::Pending;
        };
        times.push(start.elapsed().as_millis());
        Poll::Ready(match code {
            0 => Ok(((), addr("127.0.0.1:1"))),
            code => Err(io::Error::from_raw_os_error(code)),
        })
    };
    let on_error = |error: &io::Error| errors.borrow_mut().push(error.raw_os_error().unwrap());
    run_accepts(accept, shutdown.clone(), on_error, |(), _| {}).await;
    (times, errors.into_inner())
}

#[tokio::test(start_paused = true)]
async fn exhaustion_is_waited_out_for_longer_and_longer() {
    let script = [
        EMFILE, ENFILE, ENOBUFS, EMFILE, EMFILE, EMFILE, EMFILE, EMFILE, EMFILE, 0, EMFILE, 0,
    ];
    let (times, errors) = accept_times(&script).await;
    let pauses: Vec<u128> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // tokio's clock ticks in milliseconds and rounds up.
    let expected = [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 0, 10];
    assert_eq!(pauses.len(), expected.len());
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((expected..=expected + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(errors.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_connection_delays_nobody() {
    let (times, errors) = accept_times(&[ECONNABORTED, EPROTO, ECONNABORTED, 0]).await;
    assert_eq!(times, [0, 0, 0, 0]);
    assert_eq!(errors, [ECONNABORTED, EPROTO, ECONNABORTED]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_a_pause() {
    let shutdown = CancellationToken::new();
    let start = Instant::now();
    let accept = |_: &mut Context<'_>| {
        Poll::Ready(Err::<((), SocketAddr), _>(io::Error::from_raw_os_error(
            EMFILE,
        )))
    };
    run_accepts(accept, shutdown.clone(), |_| shutdown.cancel(), |(), _| {}).await;
    assert!(start.elapsed() < FIRST_PAUSE);
}
