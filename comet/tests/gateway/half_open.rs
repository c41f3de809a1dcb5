//! Logins that do not come to an end.

use std::time::{Duration, Instant};

use comet::transport::Door as Counted;
use common::config::Human;
use protocol::{Header, op};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet, time::sleep};

use crate::support::{DOORS, Door, FakeLogic, Gateway, config, handshake, token, until, within};

/// Of each of the kinds below: 2,000 in all.
const EACH: usize = 250;

/// How a login hangs.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Nothing comes.
    Silent(Door),
    /// Half of a frame, of a request's head, or of a record of TLS.
    Half(Door),
    /// The handshake is made, and nothing comes behind it.
    Upgraded,
    /// The login comes byte by byte.
    Slow,
}

const KINDS: [Kind; 8] = [
    Kind::Silent(Door::Tcp),
    Kind::Silent(Door::Wss),
    Kind::Half(Door::Tcp),
    Kind::Half(Door::WebSocket),
    Kind::Half(Door::TcpTls),
    Kind::Half(Door::Wss),
    Kind::Upgraded,
    Kind::Slow,
];

const COUNTED: [Counted; 4] = [
    Counted::Tcp,
    Counted::WebSocket,
    Counted::TcpTls,
    Counted::Wss,
];

fn auth() -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header {
        ver: 1,
        op: op::AUTH,
        seq: 1,
    };
    header.encode(token("slow", "").as_bytes(), &mut bytes);
    bytes
}

/// Begins a login, and what goes on with it.
async fn begin(gateway: &Gateway, kind: Kind) -> (TcpStream, Vec<u8>) {
    let door = match kind {
        Kind::Silent(door) | Kind::Half(door) => door,
        Kind::Upgraded => Door::WebSocket,
        Kind::Slow => Door::Tcp,
    };
    let connecting = TcpStream::connect(gateway.addr(door));
    let mut stream = within(connecting).await.unwrap();
    let (now, later) = match kind {
        Kind::Silent(_) => (Vec::new(), Vec::new()),
        Kind::Half(Door::Tcp) => (auth()[..20].to_vec(), Vec::new()),
        Kind::Half(Door::WebSocket) => (handshake("").as_bytes()[..60].to_vec(), Vec::new()),
        // A handshake record of 512 bytes, and the type of its message.
        Kind::Half(Door::TcpTls | Door::Wss) => (vec![22, 3, 1, 2, 0, 1], Vec::new()),
        Kind::Upgraded => (handshake("").into_bytes(), Vec::new()),
        Kind::Slow => (Vec::new(), auth()),
    };
    stream.write_all(&now).await.unwrap();
    (stream, later)
}

#[tokio::test]
async fn two_thousand_of_them_do_not_keep_a_client_from_logging_in() {
    common::files::raise_bound().unwrap();
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.protocol.handshake_timeout = Human::secs(300);
    let gateway = Gateway::start(&config).await;
    let mut hanging = JoinSet::new();
    for kind in KINDS {
        for _ in 0..EACH {
            let (mut stream, later) = begin(&gateway, kind).await;
            hanging.spawn(async move {
                // Never the last byte: it would be a login.
                for byte in later.split_last().map_or(&[][..], |(_, rest)| rest) {
                    stream.write_all(&[*byte]).await.unwrap();
                    sleep(Duration::from_millis(100)).await;
                }
                std::future::pending::<()>().await;
                drop(stream);
            });
        }
    }
    let metrics = gateway.comet.metrics();
    let open = || {
        let open = COUNTED.map(|door| metrics.connections(door).get());
        usize::try_from(open.into_iter().sum::<i64>()).unwrap()
    };
    until(|| open() == KINDS.len() * EACH).await;
    let mut healthy = Vec::new();
    for (nth, door) in (1..).zip(DOORS) {
        // The best of some: this is about what the others hold up, not about a busy machine.
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let started = Instant::now();
            let client = gateway.online(door, &format!("healthy {door:?}"), "").await;
            best = best.min(started.elapsed());
            healthy.push(client);
        }
        println!("{door:?}: logged in after {best:?}");
        assert!(best < Duration::from_secs(1), "{door:?}: {best:?}");
        // The newest has replaced the others.
        until(|| open() == KINDS.len() * EACH + nth).await;
        // All the others are still there, and none of them is in.
        assert_eq!(metrics.closes("handshake_timeout").get(), 0);
    }
    assert_eq!(COUNTED.map(|door| metrics.logins(door).get()), [5; 4]);
}
