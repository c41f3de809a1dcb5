//! Channels behind TLS.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use common::tls::{Certificates, MinVersion, provider};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    support::{LARGE, PATIENCE, answer, context, flushed, limits, message, raw},
    *,
};
use crate::transport::{stream::Stream, tls::Acceptor};

struct Peer {
    stream: TlsStream<TcpStream>,
    metrics: Arc<Metrics>,
}

/// With buffers as small as the system allows.
async fn pair(door: Door, limits: Limits) -> (Channel, Peer) {
    let listening = TcpSocket::new_v4().unwrap();
    listening.set_send_buffer_size(1024).unwrap();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listening.listen(1).unwrap();
    let connecting = TcpSocket::new_v4().unwrap();
    connecting.set_recv_buffer_size(1024).unwrap();
    let certificates = Certificates::development().unwrap();
    let config = certificates.server_config(MinVersion::Tls12, &[]).unwrap();
    let mut roots = RootCertStore::empty();
    let pairs = certificates.pairs();
    roots.add(pairs[0].certified().cert[0].clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connecting = async {
        let socket = connecting.connect(listener.local_addr().unwrap()).await;
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        connector.connect(name, socket.unwrap()).await.unwrap()
    };
    let accepting = async {
        let socket = listener.accept().await.unwrap().0;
        Acceptor::new(config).accept(socket).await.unwrap()
    };
    let (stream, accepted) = tokio::join!(connecting, accepting);
    let (context, metrics) = context(limits);
    let outlet = Outlet::from(Stream::from(accepted));
    (
        Channel::new(1, door, outlet, context),
        Peer { stream, metrics },
    )
}

impl Peer {
    async fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let reading = self.stream.read_exact(&mut bytes);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        bytes
    }
}

async fn turn(channel: &Channel) -> Turn {
    let turn = poll_fn(|cx| channel.poll_turn(cx, false));
    timeout(PATIENCE, turn).await.unwrap()
}

#[tokio::test]
async fn what_waits_goes_out_together() {
    for door in [Door::TcpTls, Door::Wss] {
        let (channel, mut peer) = pair(door, limits()).await;
        let frames = [message(1, 10), raw(&[2, 3]), message(4, 300)];
        for frame in &frames {
            assert_eq!(channel.push(frame), Pushed::Queued);
        }
        channel.answer(&answer(door, 5, 4), 1);
        assert_eq!(peer.metrics.delivered.get(), 0);
        assert_eq!(turn(&channel).await, Turn::Write);
        channel.write_waiting().unwrap();
        assert_eq!(peer.metrics.writes.count(), 1);
        assert_eq!(peer.metrics.delivered.get(), 4);
        assert_eq!(peer.metrics.writes.sum(), 4);
        let mut sent = Vec::new();
        for frame in &frames {
            sent.extend_from_slice(door.bytes(frame));
        }
        sent.extend(answer(door, 5, 4));
        assert_eq!(peer.read(sent.len()).await, sent);
        let mut cx = Context::from_waker(Waker::noop());
        // The handshake may have left the socket readable, as far as is known.
        let next = channel.poll_turn(&mut cx, false);
        assert!(!matches!(next, Poll::Ready(Turn::Write)), "{next:?}");
    }
}

#[tokio::test]
async fn a_slow_client_makes_the_backlog_wait_and_not_tls() {
    let limits = Limits {
        messages: 10,
        ..limits()
    };
    let (channel, mut peer) = pair(Door::Wss, limits).await;
    let large = message(0, LARGE);
    assert_eq!(channel.push(&large), Pushed::Queued);
    channel.write_waiting().unwrap();
    assert_eq!(
        peer.metrics.delivered.get(),
        0,
        "the client has not read it"
    );
    // The head is partly taken; beyond it, the bound holds.
    for seq in 1..10 {
        assert_eq!(channel.push(&message(seq, 10)), Pushed::Queued);
        channel.write_waiting().unwrap();
    }
    assert_eq!(channel.push(&message(10, 10)), Pushed::Full);
    let mut sent = Door::Wss.bytes(&large).to_vec();
    for seq in 1..10 {
        sent.extend_from_slice(Door::Wss.bytes(&message(seq, 10)));
    }
    let (flushed, read) = tokio::join!(flushed(&channel), peer.read(sent.len()));
    flushed.unwrap();
    assert!(read == sent, "other bytes arrived");
    assert_eq!(peer.metrics.delivered.get(), 10);
}

#[tokio::test]
async fn the_farewell_comes_behind_the_head_and_then_tls_ends() {
    let (channel, mut peer) = pair(Door::TcpTls, limits()).await;
    let large = message(0, LARGE);
    channel.push(&large);
    channel.write_waiting().unwrap();
    channel.push(&message(1, 10));
    assert!(channel.close(&CloseReason::Kicked.into(), CloseWhen::Now));
    assert_eq!(peer.metrics.lost("kicked").get(), 1);
    let mut bytes = Vec::new();
    let reading = async {
        // An end without close_notify would be an error.
        let reading = peer.stream.read_to_end(&mut bytes);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
    };
    let flushing = async {
        flushed(&channel).await.unwrap();
        channel.finish();
    };
    tokio::join!(flushing, reading);
    let head = Door::TcpTls.bytes(&large);
    assert!(bytes.starts_with(head), "the head is cut");
    let farewell = Farewell::from(CloseReason::Kicked).encode(Door::TcpTls);
    assert_eq!(bytes[head.len()..], farewell);
    assert_eq!(peer.metrics.delivered.get(), 1);
    assert_eq!(peer.metrics.lost("kicked").get(), 1);
}

#[tokio::test]
async fn what_tls_has_taken_and_the_socket_not_is_lost_with_the_rest() {
    let (channel, peer) = pair(Door::TcpTls, limits()).await;
    // Small ones, of which the last record that is under way has several.
    let mut taken = 0;
    while peer.metrics.delivered.get() == taken {
        for seq in 0..100 {
            assert_eq!(channel.push(&message(seq, 200)), Pushed::Queued);
        }
        taken += 100;
        channel.write_waiting().unwrap();
    }
    assert!(channel.push(&message(0, 10)) == Pushed::Queued);
    taken += 1;
    channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue);
    channel.finish();
    let delivered = peer.metrics.delivered.get();
    assert!(delivered < taken);
    assert_eq!(delivered + peer.metrics.lost("kicked").get(), taken);
    channel.finish();
    assert_eq!(delivered + peer.metrics.lost("kicked").get(), taken);
}

#[tokio::test]
async fn a_full_ring_ends_when_tls_has_the_answers() {
    let (channel, _peer) = pair(Door::Wss, limits()).await;
    channel.answer(&answer(Door::Wss, 1, 4), 4);
    assert!(channel.is_ring_full());
    channel.write_waiting().unwrap();
    assert!(!channel.is_ring_full());
}

#[tokio::test]
async fn a_client_that_ends_tls_is_heard_without_the_end_of_its_socket() {
    let (channel, mut peer) = pair(Door::TcpTls, limits()).await;
    peer.stream.write_all(b"last").await.unwrap();
    peer.stream.shutdown().await.unwrap();
    let sealed = channel.sealed().unwrap();
    let read = |socket: &TcpStream, buffer: &mut [u8]| socket.try_read(buffer);
    let mut opened = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        assert_eq!(turn(&channel).await, Turn::Read);
        match sealed.read(&mut buffer, &mut opened, read) {
            Ok(0) => break,
            Ok(_) => assert_eq!(opened, b"last"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert_eq!(opened, b"last");
}
