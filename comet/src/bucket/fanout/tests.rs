use std::sync::Arc;

use protocol::{Decoded, Header, Meta, RoomId, codec, op};
use tokio::sync::oneshot;

use super::*;
use crate::{
    bucket::tally::{self, Outcome},
    room::{Room, Rooms},
};

const WIDE: JoinLimits = JoinLimits {
    messages: 100,
    bytes: 100_000,
};

fn frame(seq: i32, len: usize) -> Frame {
    let header = Header {
        ver: 1,
        op: 1000,
        seq,
    };
    Frame::message(header, &vec![0; len], Meta::default())
}

fn fanout(target: &Target, frame: Frame) -> (Fanout, oneshot::Receiver<Outcome>) {
    let (mut parts, outcome) = tally::split(1, 0);
    let fanout = Fanout {
        target: target.clone(),
        frame,
        part: parts.pop().unwrap(),
    };
    (fanout, outcome)
}

fn fanouts(pushes: &[(&Target, i32)]) -> Vec<Fanout> {
    let fanouts = pushes
        .iter()
        .map(|(target, seq)| fanout(target, frame(*seq, 4)).0);
    fanouts.collect()
}

fn rooms() -> (Arc<Room>, Arc<Room>) {
    let rooms = Rooms::default();
    let enter = |room| rooms.enter(&RoomId::new("live", room));
    (enter("a"), enter("b"))
}

/// The sequences of the messages in a frame.
fn seqs(frame: &Frame) -> Vec<i32> {
    let mut bytes = frame.tcp();
    let mut seqs = Vec::new();
    while !bytes.is_empty() {
        let Decoded::Frame { header, len, .. } = codec::decode(bytes, usize::MAX / 2).unwrap()
        else {
            panic!("a frame is cut");
        };
        seqs.push(header.seq);
        bytes = &bytes[len..];
    }
    assert_eq!(seqs.len(), frame.messages());
    seqs
}

fn all_seqs(joined: &VecDeque<Joined>) -> Vec<Vec<i32>> {
    joined.iter().map(|joined| seqs(&joined.frame)).collect()
}

#[test]
fn what_is_for_the_same_receivers_is_joined_in_its_order() {
    let (a, b) = rooms();
    let (a, b) = (Target::Room(a), Target::Room(b));
    let (all, others) = (Target::All { op: 1 }, Target::All { op: -1 });
    let pushes = [
        (&a, 1),
        (&b, 2),
        (&a, 3),
        (&all, 4),
        (&others, 5),
        (&all, 6),
        (&b, 7),
        (&a, 8),
    ];
    let joined = join(fanouts(&pushes), &WIDE);
    assert_eq!(
        all_seqs(&joined),
        [vec![1, 3, 8], vec![2, 7], vec![4, 6], vec![5]]
    );
}

#[test]
fn rooms_that_had_one_name_after_the_other_are_two() {
    let rooms = Rooms::default();
    let id = RoomId::new("live", "a");
    let old = rooms.enter(&id);
    rooms.leave(&old);
    let (old, new) = (Target::Room(old), Target::Room(rooms.enter(&id)));
    assert_eq!(
        all_seqs(&join(fanouts(&[(&old, 1), (&new, 2)]), &WIDE)),
        [[1], [2]]
    );
}

#[test]
fn a_single_message_goes_as_its_own_frame() {
    let target = Target::All { op: 1 };
    let joined = join(fanouts(&[(&target, 7)]), &WIDE);
    assert_eq!(joined[0].frame.websocket(), frame(7, 4).websocket());
}

#[test]
fn joins_are_bounded_in_messages_and_keep_the_order_beyond() {
    let target = Target::All { op: 1 };
    let limits = JoinLimits {
        messages: 2,
        ..WIDE
    };
    let pushes: Vec<_> = (0..5).map(|seq| (&target, seq)).collect();
    assert_eq!(
        all_seqs(&join(fanouts(&pushes), &limits)),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
    // A Raw that is over the bound by itself goes alone, and nothing overtakes it.
    let raw = Frame::join(&[frame(1, 0), frame(2, 0), frame(3, 0)]);
    let pushes = [frame(0, 0), raw, frame(4, 0), frame(5, 0)];
    let pushes = pushes.map(|frame| fanout(&target, frame).0).into();
    assert_eq!(
        all_seqs(&join(pushes, &limits)),
        [vec![0], vec![1, 2, 3], vec![4, 5]]
    );
}

#[test]
fn joins_are_bounded_in_bytes() {
    let target = Target::All { op: 1 };
    let each = frame(0, 100).websocket().len();
    let limits = JoinLimits {
        bytes: 2 * each,
        ..WIDE
    };
    let pushes = (0..3)
        .map(|seq| fanout(&target, frame(seq, 100)).0)
        .collect();
    assert_eq!(all_seqs(&join(pushes, &limits)), [vec![0, 1], vec![2]]);
    // A smaller one later does not slip into an earlier join.
    let pushes = [(0, 100), (1, 200), (2, 0)].map(|(seq, len)| fanout(&target, frame(seq, len)).0);
    let joined = all_seqs(&join(pushes.into(), &limits));
    assert_eq!(joined.concat(), [0, 1, 2]);
    assert_eq!(joined[0], [0]);
}

#[test]
fn a_raw_among_others_is_taken_apart_again() {
    let target = Target::All { op: 1 };
    let pushes = [
        frame(0, 3),
        Frame::join(&[frame(1, 0), frame(2, 5)]),
        frame(3, 1),
    ];
    let joined = join(pushes.map(|frame| fanout(&target, frame).0).into(), &WIDE);
    assert_eq!(all_seqs(&joined), [[0, 1, 2, 3]]);
    // What WebSocket gets is one Raw with its own header.
    let frame = joined[0].frame.websocket();
    let Decoded::Frame { header, body, .. } = codec::decode(&frame[2..], 1000).unwrap() else {
        panic!("the Raw is cut");
    };
    assert_eq!((header.op, body), (op::RAW, joined[0].frame.tcp()));
}

#[test]
fn every_push_inside_a_join_has_its_outcome() {
    let target = Target::All { op: 1 };
    let (first, mut one) = fanout(&target, frame(0, 0));
    let (second, mut two) = fanout(&target, frame(1, 0));
    let joined = join(vec![first, second], &WIDE).pop_front().unwrap();
    let mut members = Members::new(0, Arc::new(Rooms::default()));
    let mut running = Running::begin(joined, &mut members);
    assert_eq!(running.serve(&mut members, 10), (0, true));
    assert!(one.try_recv().is_err());
    assert_eq!(running.frame().messages(), 2);
    let metrics = Metrics::default();
    running.finish(&metrics);
    assert_eq!(metrics.nobody.get(), 2);
    assert_eq!(one.try_recv().unwrap(), Outcome::default());
    assert_eq!(two.try_recv().unwrap(), Outcome::default());
}
