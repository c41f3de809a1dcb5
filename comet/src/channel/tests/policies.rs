//! Full backlogs.

use protocol::op::SEND_MSG_REPLY as MSG;

use super::{
    support::{Got, LARGE, Peer, answer, limits, message, raw},
    *,
};

fn narrow(policy: FullPolicy) -> Limits {
    Limits {
        messages: 3,
        policy,
        ..limits()
    }
}

#[tokio::test]
async fn drop_newest_does_not_take_what_does_not_fit() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, narrow(FullPolicy::DropNewest)).await;
    assert_eq!(channel.push(&message(1, 10)), Pushed::Queued);
    assert_eq!(channel.push(&message(2, 10)), Pushed::Queued);
    assert_eq!(channel.push(&message(3, 10)), Pushed::Full);
    assert_eq!(channel.push(&message(4, 10)), Pushed::Full);
    let got = peer.drain(channel).await;
    let large = Got::Proto(MSG, 0, LARGE);
    assert_eq!(got, [large, Got::Proto(MSG, 1, 10), Got::Proto(MSG, 2, 10)]);
    peer.assert_balance(3, 0, "internal");
}

#[tokio::test]
async fn drop_oldest_makes_room_but_keeps_what_is_partly_written() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, narrow(FullPolicy::DropOldest)).await;
    for seq in 1..=4 {
        assert_eq!(channel.push(&message(seq, 10)), Pushed::Queued);
    }
    assert_eq!(peer.metrics.lost("oldest").get(), 2);
    let got = peer.drain(channel).await;
    let large = Got::Proto(MSG, 0, LARGE);
    assert_eq!(got, [large, Got::Proto(MSG, 3, 10), Got::Proto(MSG, 4, 10)]);
    peer.assert_balance(5, 2, "oldest");
}

#[tokio::test]
async fn drop_oldest_gives_nothing_up_for_what_cannot_fit() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, narrow(FullPolicy::DropOldest)).await;
    assert_eq!(channel.push(&message(1, 10)), Pushed::Queued);
    assert_eq!(channel.push(&raw(&[2, 3, 4])), Pushed::Full);
    assert_eq!(peer.metrics.lost("oldest").get(), 0);
    assert_eq!(channel.push(&raw(&[5, 6])), Pushed::Queued);
    assert_eq!(peer.metrics.lost("oldest").get(), 1);
    let got = peer.drain(channel).await;
    let large = Got::Proto(MSG, 0, LARGE);
    assert_eq!(got, [large, Got::Proto(MSG, 5, 10), Got::Proto(MSG, 6, 10)]);
    peer.assert_balance(4, 1, "oldest");
}

#[tokio::test]
async fn disconnect_ends_the_connection_and_tells_it_why() {
    for door in [Door::Tcp, Door::WebSocket] {
        let (channel, mut peer) = Peer::stalled(door, narrow(FullPolicy::Disconnect)).await;
        assert_eq!(channel.push(&message(1, 10)), Pushed::Queued);
        assert_eq!(channel.push(&raw(&[2, 3])), Pushed::Closing);
        assert_eq!(channel.closing(), Some(CloseReason::Slow));
        assert_eq!(channel.push(&message(4, 10)), Pushed::Closing);
        let mut got = peer.drain(channel).await;
        if door == Door::WebSocket {
            assert_eq!(got.pop(), Some(Got::Close(4003)));
        }
        assert_eq!(
            got,
            [Got::Proto(MSG, 0, LARGE), Got::Farewell("slow".into())]
        );
        peer.assert_balance(2, 1, "slow");
    }
}

#[tokio::test]
async fn bytes_are_bounded_as_the_door_sends_them() {
    let limits = Limits {
        bytes: LARGE + 16 + 100,
        ..limits()
    };
    let (channel, _peer) = Peer::stalled(Door::Tcp, limits).await;
    assert_eq!(channel.push(&message(1, 85)), Pushed::Full);
    // Two headers and two bodies of 10.
    assert_eq!(channel.push(&raw(&[1, 2])), Pushed::Queued);
    assert_eq!(channel.push(&message(3, 33)), Pushed::Full);
    assert_eq!(channel.push(&message(4, 32)), Pushed::Queued);
    assert_eq!(channel.push(&message(5, 0)), Pushed::Full);
}

#[tokio::test]
async fn the_messages_of_a_raw_count_each() {
    let limits = Limits {
        messages: 4,
        ..limits()
    };
    let (channel, mut peer) = Peer::stalled(Door::WebSocket, limits).await;
    assert_eq!(channel.push(&raw(&[1, 2, 3, 4])), Pushed::Full);
    assert_eq!(channel.push(&raw(&[1, 2, 3])), Pushed::Queued);
    assert_eq!(channel.push(&message(4, 0)), Pushed::Full);
    channel.close(&CloseReason::Kicked.into(), CloseWhen::Now);
    peer.drain(channel).await;
    peer.assert_balance(4, 3, "kicked");
}

#[tokio::test]
async fn any_message_is_taken_where_no_other_waits() {
    let limits = Limits {
        messages: 1,
        bytes: 1024,
        ..limits()
    };
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits).await;
    // An answer that waits is not in its way.
    channel.answer(&answer(Door::Tcp, 9, LARGE), 1);
    assert_eq!(channel.push(&raw(&[1, 2, 3])), Pushed::Queued);
    assert_eq!(channel.push(&message(4, 0)), Pushed::Full);
    let got = peer.drain(channel).await;
    assert_eq!(got.len(), 4);
    assert_eq!(got[0], Got::Proto(support::ANSWER_OP, 9, LARGE));
    peer.assert_balance(3, 0, "internal");
}

#[tokio::test]
async fn answers_have_room_beyond_a_full_backlog() {
    let limits = Limits {
        messages: 1,
        bytes: 1024,
        ..limits()
    };
    let (channel, mut peer) = Peer::stalled(Door::Tcp, limits).await;
    for seq in 0..3 {
        channel.answer(&answer(Door::Tcp, seq, 2000), 1);
        assert!(!channel.is_ring_full());
    }
    channel.answer(&answer(Door::Tcp, 3, 2000), 1);
    assert!(channel.is_ring_full());
    assert_eq!(channel.push(&message(1, 0)), Pushed::Full);
    channel.close(&CloseReason::GoingAway.into(), CloseWhen::AfterQueue);
    let got = peer.drain(channel).await;
    let answers = (0..4).map(|seq| Got::Proto(support::ANSWER_OP, seq, 2000));
    let mut all = vec![Got::Proto(MSG, 0, LARGE)];
    all.extend(answers);
    all.push(Got::Farewell("going_away".into()));
    assert_eq!(got, all);
}
