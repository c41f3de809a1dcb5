//! What a connection's task is told to do, and when it is woken.

use std::{
    future::poll_fn,
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    support::{LARGE, Peer, answer, limits, message},
    *,
};

/// Counts how often a task is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

async fn turn(channel: &Channel, has_rest: bool) -> Turn {
    let turn = poll_fn(|cx| channel.poll_turn(cx, has_rest));
    timeout(Duration::from_secs(20), turn).await.unwrap()
}

#[tokio::test]
async fn what_changes_the_turn_wakes_the_task() {
    let (channel, _peer) = Peer::pair(Door::Tcp, limits()).await;
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(channel.poll_turn(&mut cx, false).is_pending());
    assert_eq!(channel.push(&message(0, 10)), Pushed::Written);
    assert_eq!(count.take(), 0, "nothing waits");
    assert_eq!(channel.push(&message(1, LARGE)), Pushed::Queued);
    assert_eq!(count.take(), 1, "something waits");
    channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue);
    assert_eq!(count.take(), 1, "it closes");
    assert_eq!(channel.poll_turn(&mut cx, false), Poll::Ready(Turn::Close));
}

#[tokio::test]
async fn a_full_ring_stops_the_reading_until_an_answer_is_written() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    peer.socket.write_all(b"more").await.unwrap();
    assert_eq!(turn(&channel, false).await, Turn::Read);
    for _ in 0..4 {
        assert!(!channel.is_ring_full());
        channel.owe();
    }
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    for has_rest in [false, true] {
        assert!(channel.poll_turn(&mut cx, has_rest).is_pending());
    }
    channel.answer_owed(&answer(Door::Tcp, 1, 0));
    assert_eq!(count.take(), 1);
    assert_eq!(channel.poll_turn(&mut cx, false), Poll::Ready(Turn::Read));
    // Every other answer still counts.
    channel.owe();
    assert!(channel.poll_turn(&mut cx, false).is_pending());
}

#[tokio::test]
async fn answers_that_wait_keep_the_ring_full_until_the_client_reads() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, limits()).await;
    peer.socket.write_all(b"more").await.unwrap();
    for seq in 0..4 {
        channel.owe();
        channel.answer_owed(&answer(Door::Tcp, seq, 0));
    }
    assert!(channel.is_ring_full());
    let reading = async {
        let (header, _) = peer.read_frame().await;
        assert_eq!(header.seq, 0);
        for _ in 0..4 {
            peer.read_frame().await;
        }
    };
    let writing = async {
        while channel.is_ring_full() {
            assert_eq!(turn(&channel, false).await, Turn::Write);
            channel.write_waiting().unwrap();
        }
        assert_eq!(turn(&channel, false).await, Turn::Read);
    };
    tokio::join!(reading, writing);
}

#[tokio::test]
async fn what_is_left_to_parse_needs_no_socket() {
    let (channel, _peer) = Peer::pair(Door::Tcp, limits()).await;
    assert_eq!(turn(&channel, true).await, Turn::Read);
}

#[tokio::test]
async fn the_end_of_the_stream_is_there_to_be_read() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    peer.socket.shutdown().await.unwrap();
    assert_eq!(turn(&channel, false).await, Turn::Read);
}

#[tokio::test]
async fn silence_counts_only_while_we_read() {
    let (channel, mut peer) = Peer::pair(Door::Tcp, limits()).await;
    assert!(!channel.is_overdue(Tick(u32::MAX)), "nobody set a limit");
    channel.set_silence(Tick(100));
    channel.hear(Tick(10));
    assert!(!channel.is_overdue(Tick(110)));
    assert!(channel.is_overdue(Tick(111)));
    for _ in 0..4 {
        channel.owe();
    }
    assert!(!channel.is_overdue(Tick(1000)), "answers are yet to come");
    assert!(!channel.is_overdue(Tick(1100)), "the time starts again");
    channel.answer_owed(&answer(Door::Tcp, 0, 0));
    assert!(channel.is_overdue(Tick(1101)));
    // A client that does not take its answers is silent by its own choice.
    channel.push(&message(1, LARGE));
    channel.owe();
    assert!(channel.is_ring_full());
    assert!(channel.is_overdue(Tick(2000)));
    peer.read_frame().await;
}

#[tokio::test]
async fn a_client_is_stuck_while_it_takes_nothing_and_no_longer() {
    let (channel, mut peer) = Peer::stalled(Door::Tcp, limits()).await;
    let is_stuck = |tick| channel.is_stuck(Tick(tick), Tick(5));
    assert_eq!([10, 14, 15, 20].map(is_stuck), [false, false, true, true]);
    // It reads until the socket takes more. The time begins anew then.
    let mut waste = vec![0; LARGE];
    while is_stuck(30) {
        tokio::select! {
            read = peer.socket.read(&mut waste) => assert!(read.unwrap() > 0),
            next = turn(&channel, false) => {
                assert_eq!(next, Turn::Write);
                channel.write_waiting().unwrap();
            }
        }
    }
    assert_eq!([34, 35].map(is_stuck), [false, true]);
}

#[tokio::test]
async fn a_client_for_which_nothing_waits_is_not_stuck() {
    let (channel, _peer) = Peer::pair(Door::Tcp, limits()).await;
    assert_eq!(
        [10, 1000].map(|tick| channel.is_stuck(Tick(tick), Tick(5))),
        [false, false]
    );
}
