//! Every answer of the door, over real sockets.

use std::io;

use axum::routing::get;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n";
const PAGE: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

/// Long enough for anything that is to happen, on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Client {
    stream: TcpStream,
    server: JoinHandle<Result<Outcome, HttpError>>,
    refused: Arc<Mutex<Vec<&'static str>>>,
    shutdown: CancellationToken,
}

/// One connection to a door with `limits` and a time for the first request.
async fn visit(limits: HttpLimits, first: Duration) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(stream, listener.accept());
    let (stream, peer) = accepted.unwrap();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let shutdown = CancellationToken::new();
    let told = Arc::clone(&refused);
    let door = Door {
        pages: Router::new()
            .route("/", get(|| async { "a page" }))
            .route("/large", get(|| async { vec![b'x'; 32 << 20] })),
        subscribe: None,
        limits,
        origins: Origins::parse(&["https://app.example.com".to_owned()]).unwrap(),
        admit: Arc::new(|_: &HeaderMap, client| Ok(Admitted::is(client))),
        shutdown: shutdown.clone(),
        on_refused: Arc::new(move |refusal| told.lock().push(refusal.label())),
    };
    let deadline = Instant::now() + first;
    let server = tokio::spawn(async move { door.serve(stream, peer, deadline).await });
    Client {
        stream: client.unwrap(),
        server,
        refused,
        shutdown,
    }
}

/// A connection under a short limit, after its first answer; and the limit, longer where this machine is too slow for it.
async fn answered(limit: impl Fn(Duration) -> (HttpLimits, Duration)) -> (Client, Duration) {
    for millis in [50, 1000, 20_000] {
        let short = Duration::from_millis(millis);
        let (limits, first) = limit(short);
        let mut client = visit(limits, first).await;
        client.send(PAGE).await;
        if client.head().await.is_ok() {
            let mut body = [0; 6];
            client.stream.read_exact(&mut body).await.unwrap();
            return (client, short);
        }
    }
    panic!("no limit is long enough for an answer");
}

async fn patient() -> Client {
    visit(limits(), PATIENCE).await
}

fn limits() -> HttpLimits {
    HttpLimits {
        idle: PATIENCE,
        linger: PATIENCE,
        ..HttpLimits::default()
    }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one head, byte by byte, so that nothing behind it is taken.
    async fn head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        Ok(String::from_utf8(head).unwrap().to_ascii_lowercase())
    }

    /// Sends a request and reads the answer's head and body.
    async fn ask(&mut self, request: &str) -> (String, String) {
        self.send(request).await;
        let head = self.head().await.unwrap();
        let len = head.split("content-length: ").nth(1).unwrap();
        let len = len.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The connection's end as the server sees it, after the client has read to its own end.
    async fn end(mut self) -> Result<Outcome, HttpError> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
        drop(self.stream);
        self.server.await.unwrap()
    }

    async fn upgraded(self) -> (TcpStream, Upgraded) {
        match self.server.await.unwrap() {
            Ok(Outcome::Upgraded(upgraded)) => (self.stream, upgraded),
            other => panic!("not upgraded: {other:?}"),
        }
    }
}

/// A handshake of these header lines.
fn handshake(headers: &[&str]) -> String {
    format!("GET /sub HTTP/1.1\r\nHost: x\r\n{}\r\n", headers.concat())
}

fn good() -> String {
    handshake(&[UPGRADE, VERSION, KEY])
}

/// A request on a connection of its own is answered with `status` and counted as `label`; the connection stays usable.
async fn refused(request: &str, status: &str, label: &str) -> String {
    let mut client = patient().await;
    let (head, body) = client.ask(request).await;
    assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
    assert!(!body.is_empty(), "a refusal says why");
    assert_eq!(*client.refused.lock(), [label]);
    let (head, _) = client.ask(PAGE).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    head + &body
}

#[tokio::test]
async fn a_handshake_is_accepted() {
    let mut client = patient().await;
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n";
    let cookie = "Cookie: a=1; b=2\r\n";
    client
        .send(handshake(&[UPGRADE, VERSION, KEY, offers, cookie]))
        .await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    // The example of RFC 6455 section 1.3, in lower case as the whole head.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"));
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
    assert!(client.refused.lock().is_empty());

    let (mut ours, mut theirs) = client.upgraded().await;
    assert_eq!((&theirs.cookie[..], theirs.early.len()), ("a=1; b=2", 0));
    // The socket is free for WebSocket, both ways.
    ours.write_all(b"in").await.unwrap();
    theirs.stream.write_all(b"out").await.unwrap();
    let (mut got_in, mut got_out) = ([0; 2], [0; 3]);
    theirs.stream.read_exact(&mut got_in).await.unwrap();
    ours.read_exact(&mut got_out).await.unwrap();
    assert_eq!((&got_in, &got_out), (b"in", b"out"));
}

#[tokio::test]
async fn pages_of_the_listed_origins_may_connect() {
    let from = |origin: &str| handshake(&[UPGRADE, VERSION, KEY, origin]);
    let mut client = patient().await;
    let page = "Origin: https://app.example.com\r\n";
    client.send(from(page)).await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 101"));
    client.upgraded().await;
    for other in [
        "Origin: http://app.example.com\r\n".to_owned(),
        "Origin: https://app.example.com.evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        "Origin: \r\n".to_owned(),
        format!("{page}{page}"),
    ] {
        let answer = refused(&from(&other), "403", "origin").await;
        assert!(answer.contains("pages of this origin"), "{answer}");
    }
}

#[tokio::test]
async fn the_first_frame_may_come_with_the_handshake() {
    let mut client = patient().await;
    client
        .send([good().as_bytes(), b"\x82\x80mask"].concat())
        .await;
    let (_, upgraded) = client.upgraded().await;
    assert_eq!(&upgraded.early[..], b"\x82\x80mask");
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let mut client = patient().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in good().bytes() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.head().await.unwrap().starts_with("http/1.1 101"));
    client.upgraded().await;
}

#[tokio::test]
async fn the_deadline_is_for_the_first_request() {
    let client = {
        let mut client = patient().await;
        client.ask(PAGE).await;
        client.send(good()).await;
        client
    };
    let (_, later) = client.upgraded().await;
    let mut client = patient().await;
    client.send(good()).await;
    let (_, at_once) = client.upgraded().await;
    // Each has a minute for the login from about now on.
    for upgraded in [later, at_once] {
        assert!(upgraded.deadline > Instant::now());
        assert!(upgraded.deadline <= Instant::now() + PATIENCE);
    }
}

#[tokio::test]
async fn keys_must_be_there_and_good() {
    refused(&handshake(&[UPGRADE, VERSION]), "400", "websocket_key").await;
    for bad in [
        "",
        "short",
        "!!!!!!!!!!!!!!!!!!!!!!==",
        "dGhlIHNhbXBsZSBub25jZTEyMw==",
    ] {
        let key = format!("Sec-WebSocket-Key: {bad}\r\n");
        refused(
            &handshake(&[UPGRADE, VERSION, &key]),
            "400",
            "websocket_key",
        )
        .await;
    }
}

#[tokio::test]
async fn other_versions_are_told_ours() {
    for version in [
        "",
        "Sec-WebSocket-Version: 8\r\n",
        "Sec-WebSocket-Version: 14\r\n",
    ] {
        let mut client = patient().await;
        let (head, _) = client.ask(&handshake(&[UPGRADE, version, KEY])).await;
        assert!(head.starts_with("http/1.1 426"), "{head}");
        assert!(head.contains("sec-websocket-version: 13\r\n"), "{head}");
        assert_eq!(*client.refused.lock(), ["websocket_version"]);
    }
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    for headers in [
        "",
        "Connection: Upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ] {
        let mut client = patient().await;
        let (head, _) = client.ask(&handshake(&[headers])).await;
        assert!(head.starts_with("http/1.1 426"), "{head}");
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        assert_eq!(*client.refused.lock(), ["no_upgrade"]);
    }
    refused(&handshake(&[VERSION, KEY]), "426", "no_upgrade").await;
}

#[tokio::test]
async fn other_methods_are_refused() {
    let mut client = patient().await;
    let request = format!(
        "POST /sub HTTP/1.1\r\nHost: x\r\n{UPGRADE}{VERSION}{KEY}Content-Length: 0\r\n\r\n"
    );
    let (head, _) = client.ask(&request).await;
    assert!(head.starts_with("http/1.1 405"), "{head}");
    assert!(head.contains("allow: get\r\n"), "{head}");
    assert_eq!(*client.refused.lock(), ["method"]);
}

#[tokio::test]
async fn a_handshake_has_no_body() {
    let body = "Content-Length: 5\r\n";
    let request = handshake(&[UPGRADE, VERSION, KEY, body]) + "12345";
    refused(&request, "400", "body").await;
}

#[tokio::test]
async fn http_1_0_has_no_upgrade() {
    let mut client = patient().await;
    let (head, _) = client.ask(&good().replace("HTTP/1.1", "HTTP/1.0")).await;
    assert!(head.contains(" 505 "), "{head}");
    assert_eq!(*client.refused.lock(), ["http_version"]);
}

#[tokio::test]
async fn other_paths_are_pages_or_missing() {
    for path in ["/nothing", "/sub/", "/subs"] {
        let text = refused(
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"),
            "404",
            "not_found",
        )
        .await;
        assert!(text.contains("/sub"), "{text}");
    }
    let mut client = patient().await;
    let (_, body) = client.ask("GET /?x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(body, "a page");
    client.send(good().replace("/sub", "/sub?a=b")).await;
    client.upgraded().await;
}

#[tokio::test]
async fn heads_over_the_limit_are_refused_and_the_answer_arrives() {
    let many = "X: y\r\n".repeat(65);
    let long = format!("X: {}\r\n", "y".repeat(60_000));
    for headers in [&many, &long] {
        let mut client = patient().await;
        client
            .send(handshake(&[UPGRADE, VERSION, KEY, headers]))
            .await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("http/1.1 431"), "{head}");
        assert!(matches!(client.end().await, Err(HttpError::HeadTooLarge)));
    }
    let mut client = patient().await;
    client
        .send(format!("GET /{} HTTP/1.1\r\n", "y".repeat(60_000)))
        .await;
    let head = client.head().await.unwrap();
    assert!(
        head.starts_with("http/1.1 431") || head.starts_with("http/1.1 414"),
        "{head}"
    );
    assert!(matches!(client.end().await, Err(HttpError::HeadTooLarge)));
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let mut client = patient().await;
    client.send("\x16\x03\x01 hello\r\n\r\n").await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 400"));
    let error = client.end().await.unwrap_err();
    assert_eq!(error.label(), "malformed");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    for some in ["", "GET /sub HT"] {
        let mut client = visit(limits(), Duration::from_millis(20)).await;
        client.send(some).await;
        assert!(matches!(client.end().await, Err(HttpError::NoRequest)));
    }
}

#[tokio::test]
async fn a_client_that_has_asked_may_be_idle_for_a_while() {
    let (client, _) = answered(|idle| (HttpLimits { idle, ..limits() }, PATIENCE)).await;
    assert!(matches!(client.end().await, Ok(Outcome::Ended)));
}

#[tokio::test]
async fn the_deadline_spares_who_has_asked() {
    let (mut client, first) = answered(|first| (limits(), first)).await;
    tokio::time::sleep(first * 2).await;
    let (_, body) = client.ask(PAGE).await;
    assert_eq!(body, "a page");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    for millis in [50, 1000, 20_000] {
        let idle = Duration::from_millis(millis);
        let mut client = visit(HttpLimits { idle, ..limits() }, PATIENCE).await;
        client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        match (&mut client.server).await.unwrap() {
            // This machine is too slow for that limit.
            Err(HttpError::NoRequest) => {}
            other => return assert!(matches!(other, Err(HttpError::Stalled)), "{other:?}"),
        }
    }
    panic!("no limit is long enough for a request");
}

#[tokio::test]
async fn clients_may_leave_at_any_time() {
    let client = patient().await;
    assert!(matches!(client.leave().await, Ok(Outcome::Ended)));
    let mut client = patient().await;
    client.send("GET /sub HT").await;
    assert_eq!(client.leave().await.unwrap_err().label(), "lost");
}

#[tokio::test]
async fn shutdown_ends_idle_connections() {
    let mut client = patient().await;
    client.ask(PAGE).await;
    client.shutdown.cancel();
    assert!(matches!(client.end().await, Ok(Outcome::Ended)));
}

impl Client {
    async fn leave(self) -> Result<Outcome, HttpError> {
        drop(self.stream);
        self.server.await.unwrap()
    }
}
