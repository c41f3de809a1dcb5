//! Channels against real sockets: what is taken, in which order it arrives, and what becomes of the rest.

mod closing;
mod policies;
mod sealed;
mod support;
mod turns;
mod woken;

use std::task::Context;

use self::support::{LARGE, Peer, answer, flushed, limits, message, raw};
use super::*;

#[test]
fn an_idle_channel_is_small() {
    // With its counts in an Arc that is 160 bytes, which allocators have as a size. Each connection has one of these.
    let size = size_of::<Channel>();
    assert!(size + 16 <= 160, "{size} bytes");
}

#[tokio::test]
async fn a_message_is_written_at_once_while_nothing_waits() {
    for door in [Door::Tcp, Door::WebSocket] {
        let (channel, mut peer) = Peer::pair(door, limits()).await;
        let frame = message(1, 10);
        assert_eq!(channel.push(&frame), Pushed::Written);
        let mut bytes = vec![0; door.bytes(&frame).len()];
        peer.read_exact(&mut bytes).await;
        assert_eq!(bytes, door.bytes(&frame));
        // Whoever pushes counts, all that it pushes to together.
        assert_eq!(peer.metrics.writes.count(), 0);
    }
}

#[tokio::test]
async fn what_the_socket_does_not_take_waits_and_arrives_whole_and_in_order() {
    for door in [Door::Tcp, Door::WebSocket] {
        let (channel, mut peer) = Peer::pair(door, limits()).await;
        let frames = [
            message(0, LARGE),
            message(1, 10),
            raw(&[2, 3]),
            message(4, 10),
        ];
        assert_eq!(channel.push(&frames[0]), Pushed::Queued);
        for frame in &frames[1..] {
            assert_eq!(channel.push(frame), Pushed::Queued);
        }
        assert_eq!(peer.metrics.delivered.get(), 0);
        let sent = frames.iter().flat_map(|frame| door.bytes(frame)).copied();
        let sent: Vec<u8> = sent.collect();
        let mut bytes = vec![0; sent.len()];
        let (flushed, ()) = tokio::join!(flushed(&channel), peer.read_exact(&mut bytes));
        flushed.unwrap();
        assert!(bytes == sent, "other bytes arrived");
        assert_eq!(peer.metrics.delivered.get(), 5);
        // Nothing waits: the next one goes out at once again.
        assert_eq!(channel.push(&message(5, 10)), Pushed::Written);
    }
}

#[tokio::test]
async fn several_pushers_and_answers_mix_without_loss_and_each_keeps_its_order() {
    const EACH: i32 = 3000;
    let (channel, mut peer) = Peer::pair(
        Door::Tcp,
        Limits {
            messages: usize::MAX,
            bytes: usize::MAX,
            ..limits()
        },
    )
    .await;
    let channel = Arc::new(channel);
    let task = tokio::spawn(support::serve(Arc::clone(&channel)));
    let pushers: Vec<_> = (0..2)
        .map(|pusher| {
            let channel = Arc::clone(&channel);
            std::thread::spawn(move || {
                let mut written = 0;
                for n in 0..EACH {
                    match channel.push(&message(pusher * EACH + n, 300)) {
                        Pushed::Written => written += 1,
                        pushed => assert_eq!(pushed, Pushed::Queued),
                    }
                    if n % 10 == 0 {
                        channel.answer(&answer(Door::Tcp, n, 20), 1);
                    }
                }
                written
            })
        })
        .collect();
    // A wake-up that is lost leaves messages behind, and this waits in vain.
    let mut next = [0, EACH];
    let mut answers = 0;
    while next != [EACH, 2 * EACH] || answers < 2 * EACH / 10 {
        let (header, body) = peer.read_frame().await;
        if header.op == support::ANSWER_OP {
            answers += 1;
            continue;
        }
        assert_eq!(body.len(), 300);
        let pusher = usize::from(header.seq >= EACH);
        assert_eq!(header.seq, next[pusher]);
        next[pusher] += 1;
    }
    let written: u64 = pushers.into_iter().map(|one| one.join().unwrap()).sum();
    assert_eq!(
        peer.metrics.delivered.get() + written,
        2 * u64::from(EACH.cast_unsigned())
    );
    channel.close(&CloseReason::Kicked.into(), CloseWhen::Now);
    task.await.unwrap();
}

#[tokio::test]
async fn a_woken_outlet_only_queues_and_says_what_it_lost() {
    let (context, metrics) = support::context(limits());
    let channel = Channel::new(1, Door::Tcp, Outlet::Woken, context);
    assert_eq!(channel.push(&message(1, 10)), Pushed::Queued);
    assert_eq!(channel.push(&raw(&[2, 3])), Pushed::Queued);
    channel.answer(&answer(Door::Tcp, 1, 0), 1);
    assert!(channel.socket().is_none());
    channel.write_waiting().unwrap();
    assert_eq!(metrics.delivered.get(), 0);
    let waker = Waker::noop();
    assert!(
        channel
            .poll_turn(&mut Context::from_waker(waker), true)
            .is_pending()
    );
    assert!(channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue));
    assert_eq!(metrics.lost("kicked").get(), 0);
    channel.finish();
    assert_eq!(metrics.lost("kicked").get(), 3);
    assert_eq!(channel.push(&message(4, 10)), Pushed::Closing);
}
