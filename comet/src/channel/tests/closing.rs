//! The two ways to close, and what is lost by each.

use protocol::op::SEND_MSG_REPLY as MSG;
use socket2::SockRef;

use super::{
    support::{Got, LARGE, Peer, answer, flushed, limits, message, raw},
    *,
};

#[tokio::test]
async fn now_completes_the_head_says_why_and_loses_the_rest() {
    for door in [Door::Tcp, Door::WebSocket] {
        let (channel, mut peer) = Peer::stalled(door, limits()).await;
        channel.push(&message(1, 10));
        channel.push(&raw(&[2, 3]));
        let replaced = CloseReason::Replaced { same_mid: true };
        assert!(channel.close(&replaced.into(), CloseWhen::Now));
        // The loss is counted at once, but for the head, which still may arrive.
        assert_eq!(peer.metrics.lost("replaced").get(), 3);
        let mut got = peer.drain(channel).await;
        if door == Door::WebSocket {
            assert_eq!(got.pop(), Some(Got::Close(4001)));
        }
        assert_eq!(
            got,
            [Got::Proto(MSG, 0, LARGE), Got::Farewell("replaced".into())]
        );
        peer.assert_balance(4, 3, "replaced");
    }
}

#[tokio::test]
async fn after_queue_delivers_everything_first() {
    for door in [Door::Tcp, Door::WebSocket] {
        let (channel, mut peer) = Peer::stalled(door, limits()).await;
        channel.push(&raw(&[1, 2]));
        assert!(channel.close(&CloseReason::GoingAway.into(), CloseWhen::AfterQueue));
        assert_eq!(channel.push(&message(3, 10)), Pushed::Closing);
        let mut got = peer.drain(channel).await;
        if door == Door::WebSocket {
            assert_eq!(got.pop(), Some(Got::Close(1001)));
        }
        assert_eq!(got.pop(), Some(Got::Farewell("going_away".into())));
        let sent = [(0, LARGE), (1, 10), (2, 10)];
        let raw_or_not: Vec<Got> = got
            .into_iter()
            .filter(|got| !matches!(got, Got::Proto(op::RAW, ..)))
            .collect();
        match door {
            Door::Tcp | Door::Poll | Door::Sse => {
                assert_eq!(raw_or_not, sent.map(|(seq, len)| Got::Proto(MSG, seq, len)));
            }
            // The Raw is one message, which its client walks.
            _ => assert_eq!(raw_or_not, [Got::Proto(MSG, 0, LARGE)]),
        }
        peer.assert_balance(3, 0, "going_away");
    }
}

#[tokio::test]
async fn the_first_reason_stands() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    assert!(channel.close(&CloseReason::Kicked.into(), CloseWhen::Now));
    assert!(!channel.close(&CloseReason::GoingAway.into(), CloseWhen::Now));
    assert_eq!(channel.closing(), Some(CloseReason::Kicked));
    let got = peer.drain(channel).await;
    assert_eq!(got, [Got::Farewell("kicked".into())]);
}

#[tokio::test]
async fn nothing_comes_behind_the_farewell() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    channel.owe();
    channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue);
    channel.answer_owed(&answer(Door::Tcp, 1, 0));
    channel.answer(&answer(Door::Tcp, 2, 0), 1);
    assert_eq!(channel.push(&message(1, 10)), Pushed::Closing);
    assert_eq!(peer.drain(channel).await, [Got::Farewell("kicked".into())]);
}

#[tokio::test]
async fn a_client_that_never_reads_loses_what_waited_the_head_too() {
    let (channel, peer) = Peer::stalled(Door::Tcp, limits()).await;
    channel.push(&raw(&[1, 2]));
    channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue);
    channel.finish();
    peer.assert_balance(3, 3, "kicked");
    // Ended twice, nothing is lost twice.
    channel.finish();
    peer.assert_balance(3, 3, "kicked");
}

#[tokio::test]
async fn a_socket_that_breaks_loses_what_waited() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, limits()).await;
    channel.push(&message(1, 10));
    reset(&mut peer).await;
    assert!(flushed(&channel).await.is_err());
    assert_eq!(channel.closing(), Some(CloseReason::SocketError));
    assert_eq!(channel.push(&message(2, 10)), Pushed::Closing);
    peer.assert_balance(2, 2, "socket_error");
    // There is nobody to say farewell to.
    flushed(&channel).await.unwrap();
}

#[tokio::test]
async fn a_push_that_finds_the_socket_broken_is_not_taken() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    reset(&mut peer).await;
    // The reset is known here when the socket can be read: its end.
    channel.socket().unwrap().readable().await.unwrap();
    assert_eq!(channel.push(&message(1, 10)), Pushed::Closing);
    assert_eq!(channel.closing(), Some(CloseReason::SocketError));
    peer.assert_balance(0, 0, "socket_error");
}

/// Closes the client's socket so that the other side is reset.
async fn reset(peer: &mut Peer) {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let spare = TcpStream::connect(other.local_addr().unwrap())
        .await
        .unwrap();
    let socket = std::mem::replace(&mut peer.socket, spare);
    SockRef::from(&socket)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
}
