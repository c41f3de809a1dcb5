//! Channels whose task takes what waits.

use std::{sync::atomic::AtomicUsize, task::Wake};

use protocol::MessageId;

use super::*;

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn woken(limits: Limits) -> (Channel, Arc<Metrics>) {
    let (context, metrics) = support::context(limits);
    (Channel::new(1, Door::Poll, Outlet::Woken, context), metrics)
}

#[test]
fn what_waits_is_taken_once_and_the_task_is_woken_for_it() {
    let (channel, metrics) = woken(limits());
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut cx = Context::from_waker(&waker);
    assert!(channel.poll_waiting(&mut cx).is_pending());
    channel.owe();
    assert_eq!(channel.push(&raw(&[1, 2, 3])), Pushed::Queued);
    channel.answer_owed(&answer(Door::Poll, 7, 0));
    assert!(alarm.0.load(Ordering::Relaxed) > 0);
    assert!(channel.poll_waiting(&mut cx).is_ready() && channel.is_waiting());
    let taken = channel.take_all_waiting();
    assert_eq!(taken.iter().map(Taken::count).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(taken[0].protos(), raw(&[1, 2, 3]).tcp());
    assert!(taken[0].frame().is_some() && taken[1].frame().is_none());
    assert!(channel.poll_waiting(&mut cx).is_pending() && channel.take_all_waiting().is_empty());
    assert_eq!(metrics.delivered.get(), 0);
    channel.delivered(&[MessageId::default(); 3]);
    assert_eq!(metrics.delivered.get(), 3);
}

#[test]
fn what_was_taken_makes_room_and_pays_the_ring() {
    let limits = Limits {
        messages: 2,
        ring: 1,
        ..limits()
    };
    let (channel, _) = woken(limits);
    assert_eq!(channel.push(&message(1, 10)), Pushed::Queued);
    assert_eq!(channel.push(&message(2, 10)), Pushed::Queued);
    assert_eq!(channel.push(&message(3, 10)), Pushed::Full);
    channel.answer(&answer(Door::Poll, 1, 0), 1);
    assert!(channel.is_ring_full());
    assert_eq!(channel.take_all_waiting().len(), 3);
    assert!(!channel.is_ring_full());
    assert_eq!(channel.push(&message(4, 10)), Pushed::Queued);
}

#[test]
fn a_close_is_told_behind_what_waits_and_what_is_lost_is_counted() {
    let (channel, metrics) = woken(limits());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(channel.poll_closing(&mut cx).is_pending());
    channel.push(&message(1, 10));
    assert_eq!(channel.take_all_waiting().len(), 1);
    channel.push(&message(2, 10));
    channel.close(&CloseReason::Kicked.into(), CloseWhen::AfterQueue);
    assert!(channel.poll_closing(&mut cx).is_ready());
    assert_eq!(channel.push(&message(3, 10)), Pushed::Closing);
    let rest = channel.take_all_waiting();
    assert!(matches!(rest[..], [Taken::Messages(_), Taken::Farewell(_)]));
    channel.delivered(&[MessageId::default()]);
    channel.lose(&[MessageId::default()]);
    channel.finish();
    assert_eq!(
        (metrics.delivered.get(), metrics.lost("kicked").get()),
        (1, 1)
    );
}

#[test]
fn a_client_between_two_requests_is_not_stuck() {
    let (channel, _) = woken(limits());
    channel.push(&message(1, 10));
    let is_stuck = |tick| channel.is_stuck(Tick(tick), Tick(5));
    assert_eq!([10, 1000].map(is_stuck), [false, false]);
}
