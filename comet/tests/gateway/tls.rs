//! The doors behind TLS: certificates, versions, and who does not get through the handshake. What else a door does is tested for all
//! doors alike.

use std::{fs, path::PathBuf, time::Duration};

use common::config::Human;
use protocol::{
    HEADER_LEN, Header,
    grpc::goim::{
        comet::{BroadcastRoomReq, comet_client::CometClient},
        protocol::Proto,
    },
    op,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot::{self, error::TryRecvError},
};
use tokio_rustls::client::TlsStream;

use crate::{
    client::{Client, Door, masked},
    connector::{NEW, OLD, Wanted, shown},
    support::{FakeLogic, Gateway, OP, config, until, within},
};

/// Certificates in a directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("comet-tls-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, file: &str) -> String {
        self.0.join(file).display().to_string()
    }

    /// Writes `NAME.pem` and `NAME.key` for a host, and returns the certificate.
    fn write(&self, name: &str, host: &str) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        fs::write(self.path(&format!("{name}.pem")), made.cert.pem()).unwrap();
        fs::write(
            self.path(&format!("{name}.key")),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        made.cert.der().clone()
    }

    /// Has one file be what another is, at once.
    fn replace(&self, file: &str, by: &str) {
        let new = self.path("new");
        fs::copy(self.path(by), &new).unwrap();
        fs::rename(new, self.path(file)).unwrap();
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn with_files(logic: &FakeLogic, dir: &Dir, names: &[&str]) -> comet::Config {
    let mut config = config(&[logic.addr]);
    config.tls.development_certificate = false;
    config.tls.reload = Human::millis(10);
    let list = |end: &str| {
        let files: Vec<String> = names
            .iter()
            .map(|name| dir.path(&format!("{name}.{end}")))
            .collect();
        files.join(",")
    };
    config.websocket.cert_file = list("pem");
    config.websocket.private_file = list("key");
    config
}

async fn connect(gateway: &Gateway, door: Door, wanted: Wanted) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(gateway.addr(door)).await.unwrap();
    within(wanted.connect(socket)).await.unwrap()
}

async fn shown_for(gateway: &Gateway, name: &'static str) -> CertificateDer<'static> {
    let wanted = Wanted {
        name,
        ..Wanted::default()
    };
    shown(&connect(gateway, Door::Wss, wanted).await)
}

/// A client that logs in over a connection that is there.
async fn online(door: Door, stream: TlsStream<TcpStream>, key: &str) -> Client {
    let address = stream.get_ref().0.local_addr().unwrap();
    let mut client = Client::over(door, Box::new(stream), address);
    if door.is_websocket() {
        client.upgrade().await;
    }
    client.log_in(key, "live://1").await;
    client
}

/// The frame of a login.
fn auth(key: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let header = Header {
        ver: 1,
        op: op::AUTH,
        seq: 1,
    };
    header.encode(crate::client::token(key, "").as_bytes(), &mut frame);
    frame
}

#[tokio::test]
async fn old_and_new_versions_are_spoken_and_the_old_one_can_be_forbidden() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    for door in [Door::TcpTls, Door::Wss] {
        for (name, versions) in [("1.2", OLD), ("1.3", NEW)] {
            let wanted = Wanted {
                versions,
                ..Wanted::default()
            };
            let stream = connect(&gateway, door, wanted).await;
            let mut client = online(door, stream, name).await;
            client.heartbeat(2).await;
        }
    }
    let metrics = gateway.comet.metrics();
    assert_eq!(metrics.tls_handshakes("ok").get(), 4);
    assert_eq!(metrics.logins(comet::transport::Door::Wss).get(), 2);
    assert_eq!(metrics.logins(comet::transport::Door::TcpTls).get(), 2);

    let mut config = config(&[logic.addr]);
    config.tls.min_version = common::tls::MinVersion::Tls13;
    let strict = Gateway::start(&config).await;
    let wanted = Wanted {
        versions: OLD,
        ..Wanted::default()
    };
    let socket = TcpStream::connect(strict.addr(Door::Wss)).await.unwrap();
    within(wanted.connect(socket)).await.unwrap_err();
    let metrics = strict.comet.metrics();
    until(|| metrics.tls_handshakes("incompatible").get() == 1).await;
}

#[tokio::test]
async fn https_is_agreed_on_where_it_is_offered() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let wanted = Wanted {
        protocols: &["h2", "http/1.1"],
        ..Wanted::default()
    };
    let mut stream = connect(&gateway, Door::Wss, wanted).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    // What is no WebSocket is answered as on the plain door, and the connection ends in order.
    let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn the_login_may_come_with_the_handshake() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let stream = connect(&gateway, Door::Wss, Wanted::default()).await;
    let address = stream.get_ref().0.local_addr().unwrap();
    let mut client = Client::over(Door::Wss, Box::new(stream), address);
    let auth = auth("early");
    let request =
        b"GET /sub HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let bytes = [&request[..], &masked(0x82, &auth)].concat();
    client.socket.write_all(&bytes).await.unwrap();
    client.read_upgrade().await;
    assert_eq!(client.proto().await.0.op, op::AUTH_REPLY);
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let logic = FakeLogic::start();
    let dir = Dir::new("sni");
    let first = dir.write("first", "one.test");
    let second = dir.write("second", "*.two.test");
    let gateway = Gateway::start(&with_files(&logic, &dir, &["first", "second"])).await;
    assert_eq!(shown_for(&gateway, "one.test").await, first);
    assert_eq!(shown_for(&gateway, "a.two.test").await, second);
    assert_eq!(shown_for(&gateway, "three.test").await, first);
    assert_eq!(shown_for(&gateway, "127.0.0.1").await, first);
}

/// Numbered messages to the room, without end.
async fn push_numbers(gateway: &Gateway, mut stop: oneshot::Receiver<()>) -> i32 {
    let mut service = CometClient::new(gateway.rpc());
    let mut next = 0;
    loop {
        let proto = Proto {
            ver: 1,
            op: OP,
            seq: next,
            body: vec![b'x'; 500].into(),
        };
        let request = BroadcastRoomReq {
            room_id: "live://1".to_owned(),
            proto: Some(proto),
        };
        service.broadcast_room(request).await.unwrap();
        next += 1;
        if stop.try_recv() != Err(TryRecvError::Empty) {
            return next;
        }
    }
}

#[tokio::test]
async fn certificates_are_replaced_under_traffic_without_a_lost_message() {
    let logic = FakeLogic::start();
    let dir = Dir::new("reload");
    let old = dir.write("a", "one.test");
    let gateway = Gateway::start(&with_files(&logic, &dir, &["a"])).await;
    let mut clients = Vec::new();
    for (n, door) in [Door::Wss, Door::TcpTls, Door::Wss].into_iter().enumerate() {
        let stream = connect(&gateway, door, Wanted::default()).await;
        assert_eq!(shown(&stream), old);
        clients.push(online(door, stream, &n.to_string()).await);
    }
    let (stop, stopped) = oneshot::channel();
    let replacing = async {
        let metrics = gateway.comet.metrics();
        for n in 1..=5 {
            let new = dir.write("a", "one.test");
            until(|| metrics.tls_reloads("taken").get() == n).await;
            assert_eq!(shown_for(&gateway, "one.test").await, new);
        }
        stop.send(()).unwrap();
    };
    let (pushed, ()) = tokio::join!(push_numbers(&gateway, stopped), replacing);
    assert!(pushed > 0);
    for client in &mut clients {
        for seq in 0..pushed {
            let (header, body) = client.proto().await;
            assert_eq!((header.op, header.seq, body.len()), (OP, seq, 500));
        }
    }
    let metrics = gateway.comet.metrics();
    let all = u64::from(pushed.cast_unsigned()) * 3;
    until(|| metrics.delivered.get() == all).await;
    assert_eq!(metrics.taken.get(), all);
}

#[tokio::test]
async fn a_bad_new_pair_keeps_the_old_one_and_is_counted() {
    let logic = FakeLogic::start();
    let dir = Dir::new("bad");
    let old = dir.write("a", "one.test");
    dir.write("b", "two.test");
    let gateway = Gateway::start(&with_files(&logic, &dir, &["a"])).await;
    let metrics = gateway.comet.metrics();
    let file = dir.path("a.pem");
    let subject = "CN=rcgen self signed cert";
    let end = metrics.certificates.of(&file, subject);
    assert!(end > Some(1_700_000_000), "{end:?}");
    dir.replace("a.key", "b.key");
    until(|| metrics.tls_reloads("refused").get() == 1).await;
    assert_eq!(shown_for(&gateway, "one.test").await, old);
    assert_eq!(metrics.certificates.of(&file, subject), end);
    // When the certificate comes too, both count.
    dir.replace("a.pem", "b.pem");
    until(|| metrics.tls_reloads("taken").get() == 1).await;
    assert_ne!(shown_for(&gateway, "one.test").await, old);
    assert_eq!(metrics.tls_reloads("refused").get(), 1);
}

#[tokio::test]
async fn plain_text_at_a_door_behind_tls_ends_with_an_alert() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    for door in [Door::TcpTls, Door::Wss] {
        let mut socket = TcpStream::connect(gateway.addr(door)).await.unwrap();
        socket
            .write_all(b"GET /sub HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut told = Vec::new();
        within(socket.read_to_end(&mut told)).await.unwrap();
        assert_eq!(told.first(), Some(&21), "an alert: {told:?}");
    }
    let metrics = gateway.comet.metrics();
    until(|| metrics.tls_handshakes("not_tls").get() == 2).await;
}

#[tokio::test]
async fn a_record_that_is_none_ends_a_session_with_a_reason_of_its_own() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let auth = auth("odd");
    for (n, versions) in [(1, OLD), (2, NEW)] {
        let wanted = Wanted {
            versions,
            ..Wanted::default()
        };
        let mut stream = connect(&gateway, Door::TcpTls, wanted).await;
        stream.write_all(&auth).await.unwrap();
        let mut reply = [0; HEADER_LEN];
        within(stream.read_exact(&mut reply)).await.unwrap();
        // Nobody has the key to have sealed this.
        let record = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
        let socket = stream.get_mut().0;
        socket.write_all(&record).await.unwrap();
        let mut told = Vec::new();
        within(socket.read_to_end(&mut told)).await.unwrap();
        let metrics = gateway.comet.metrics();
        until(|| metrics.closes("tls_violation").get() == n).await;
    }
}

#[tokio::test]
async fn a_handshake_has_the_time_of_a_login_and_no_more() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.protocol.handshake_timeout = Human::millis(200);
    let gateway = Gateway::start(&config).await;
    let metrics = gateway.comet.metrics();
    // Silent, and a byte of a hello now and then.
    let mut silent = TcpStream::connect(gateway.addr(Door::Wss)).await.unwrap();
    let mut slow = TcpStream::connect(gateway.addr(Door::TcpTls))
        .await
        .unwrap();
    let trickle = async {
        for byte in [22_u8, 3, 1, 0, 200]
            .into_iter()
            .chain(std::iter::repeat(1))
        {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = async {
        until(|| metrics.tls_handshakes("timeout").get() == 2).await;
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    };
    tokio::join!(within(trickle), ended);
    let open = metrics.connections(comet::transport::Door::TcpTls);
    until(|| open.get() == 0).await;
    // After the handshake, the login has what is left of it.
    config.protocol.handshake_timeout = Human::secs(2);
    let gateway = Gateway::start(&config).await;
    let mut quiet = gateway.client(Door::TcpTls).await;
    quiet.ends_with("handshake_timeout", 4005).await;
}

#[tokio::test]
async fn either_side_ends_tls_in_order() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let metrics = gateway.comet.metrics();
    for door in [Door::TcpTls, Door::Wss] {
        // The client: its close_notify alone is the end, the socket stays open.
        let stream = connect(&gateway, door, Wanted::default()).await;
        let mut client = online(door, stream, "a").await;
        let before = metrics.closes("peer_closed").get();
        client.socket.shutdown().await.unwrap();
        until(|| metrics.closes("peer_closed").get() == before + 1).await;
        assert_eq!(client.end().await.reason, None);
        // The server: `end` fails on a stream that is cut.
        let mut client = gateway.online(door, "b", "").await;
        let _newer = gateway.online(door, "b", "").await;
        client.ends_with("replaced", 4001).await;
    }
}
