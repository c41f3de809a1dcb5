use std::time::Duration;

use protocol::{Frame, Header, Meta, RoomId};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{sleep, timeout},
};

use super::*;
use crate::logic::Session;
use crate::{
    bucket::{
        Bucket, Kicked, Target, Whom,
        tally::{self, Outcome},
    },
    channel::{ChannelContext, FullPolicy, Limits, Outlet},
    clock::{Clock, Tick},
    metrics::Metrics,
    room::Rooms,
    transport::Door,
};

const OP: i32 = 1000;
const SLICE: usize = 2;

/// A bucket whose turns are taken by the test.
struct Stage {
    actor: Actor,
    bucket: Bucket,
    inboxes: Inboxes,
    channels: Arc<ChannelContext>,
    metrics: Arc<Metrics>,
    rooms: Arc<Rooms>,
    next_id: u64,
}

impl Stage {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::default());
        let rooms = Arc::new(Rooms::default());
        let clock = Clock::start();
        let context = BucketContext {
            rooms: Arc::clone(&rooms),
            metrics: Arc::clone(&metrics),
            clock,
            sweep: Duration::from_millis(1),
            max_accepts: 4,
            write_timeout: Duration::from_mins(1),
        };
        let limits = Limits {
            messages: 3,
            bytes: 1 << 20,
            policy: FullPolicy::DropNewest,
            ring: 8,
        };
        let joins = JoinLimits {
            messages: 1,
            bytes: 1 << 20,
        };
        let (bucket, inboxes) = Bucket::new(1000, 1000);
        Self {
            actor: Actor::new(0, context, SLICE, joins),
            bucket,
            inboxes,
            channels: Arc::new(ChannelContext {
                limits,
                metrics: Arc::clone(&metrics),
                clock,
                whitelist: Arc::default(),
            }),
            metrics,
            rooms,
            next_id: 0,
        }
    }

    fn turn(&mut self) -> bool {
        self.actor.turn(&mut self.inboxes)
    }

    fn rest(&mut self) {
        while self.turn() {}
    }

    fn control(&self, control: Control) {
        self.bucket.control.try_send(control).unwrap();
    }

    /// Sends a login; it counts when the bucket has had its turn.
    fn join(&mut self, key: &str, mid: i64, room: &str) -> Arc<Channel> {
        self.next_id += 1;
        let context = Arc::clone(&self.channels);
        let channel = Channel::new(self.next_id, Door::Tcp, Outlet::Woken, context);
        let channel = Arc::new(channel);
        channel.owe();
        self.control(Control::Join(Box::new(Join {
            session: Session::of(key, mid, self.next_id),
            channel: Arc::clone(&channel),
            room: (!room.is_empty()).then(|| RoomId::new("live", room)),
            accepts: vec![OP],
            auth: Header::default(),
            joined: oneshot::channel().0,
        })));
        channel
    }

    fn to_keys(&self, keys: &[&str], op: i32) -> oneshot::Receiver<Outcome> {
        let (mut parts, outcome) = tally::split(1, 10);
        let single = Single::Keys {
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            op,
            frame: frame(),
            part: parts.pop().unwrap(),
        };
        self.bucket.singles.try_send(single).unwrap();
        outcome
    }

    fn to_many(&self, target: Target) -> oneshot::Receiver<Outcome> {
        let (mut parts, outcome) = tally::split(1, 0);
        let fanout = Fanout {
            target,
            frame: frame(),
            part: parts.pop().unwrap(),
        };
        self.bucket.fanouts.try_send(fanout).unwrap();
        outcome
    }

    /// How many, and who is not there.
    fn kick(&mut self, whom: Whom) -> (u32, Vec<String>) {
        let (answer, mut kicked) = oneshot::channel();
        self.control(Control::Kick(whom, CloseReason::Kicked.into(), answer));
        self.rest();
        let Kicked { count, absent } = kicked.try_recv().unwrap();
        (count, absent)
    }

    fn taken(&mut self, keys: &[&str]) -> u64 {
        let mut outcome = self.to_keys(keys, OP);
        self.rest();
        outcome.try_recv().unwrap().counts.taken
    }
}

fn frame() -> Frame {
    Frame::message(Header::push(OP), b"x", Meta::default())
}

fn key_identity(key: &str, id: u64) -> Identity {
    Identity {
        key: key.into(),
        id,
    }
}

#[tokio::test]
async fn the_newer_connection_of_a_key_replaces_the_older_whose_goodbye_removes_nothing() {
    let mut stage = Stage::new();
    let older = stage.join("a", 1, "r");
    let newer = stage.join("a", 1, "r");
    let stranger = stage.join("a", 2, "");
    stage.rest();
    assert_eq!(
        older.closing(),
        Some(CloseReason::Replaced { same_mid: true })
    );
    assert_eq!(
        newer.closing(),
        Some(CloseReason::Replaced { same_mid: false })
    );
    assert_eq!(stranger.closing(), None);
    assert!(stage.rooms.counts().is_empty());
    stage.control(Control::Leave(key_identity("a", older.id())));
    stage.rest();
    assert_eq!(stage.taken(&["a"]), 1);
    stage.control(Control::Leave(key_identity("a", stranger.id())));
    stage.rest();
    assert_eq!(stage.taken(&["a"]), 0);
}

#[tokio::test]
async fn every_outcome_is_counted_once_and_told() {
    let mut stage = Stage::new();
    stage.join("open", 1, "");
    let closed = stage.join("closed", 1, "");
    stage.join("full", 1, "");
    stage.rest();
    closed.close(&CloseReason::GoingAway.into(), CloseWhen::AfterQueue);
    for _ in 0..3 {
        assert_eq!(stage.taken(&["full"]), 1);
    }
    let mut outcome = stage.to_keys(&["open", "absent", "closed", "full"], OP);
    let mut unwanted = stage.to_keys(&["open", "absent"], OP + 1);
    stage.rest();
    let outcome = outcome.try_recv().unwrap();
    let counts = Counts {
        taken: 1,
        written: 0,
        absent: 1,
        filtered: 0,
        full: 1,
        closing: 1,
    };
    assert_eq!(
        (outcome.counts, outcome.absent_keys),
        (counts, vec!["absent".to_owned()])
    );
    let unwanted = unwanted.try_recv().unwrap().counts;
    assert_eq!((unwanted.filtered, unwanted.absent), (1, 1));
    let metrics = &stage.metrics;
    assert_eq!(metrics.taken.get(), 4);
    assert_eq!(metrics.absent.get(), 2);
    assert_eq!(metrics.filtered.get(), 1);
    assert_eq!(metrics.dropped("backlog_full").get(), 1);
    assert_eq!(metrics.dropped("closing").get(), 1);
}

#[tokio::test]
async fn no_kind_of_work_starves_another() {
    let mut stage = Stage::new();
    for key in ["a", "b", "c"] {
        stage.join(key, 1, "r");
    }
    stage.rest();
    let room = stage.rooms.find("live://r").unwrap();
    // More of each kind than one turn takes.
    for _ in 0..10 * BATCH {
        stage.control(Control::Sub(
            key_identity("a", 1),
            vec![OP],
            Reply {
                header: Header::default(),
                body: Box::default(),
            },
        ));
    }
    let mut singles: Vec<_> = (0..20).map(|_| stage.to_keys(&["a"], OP)).collect();
    let mut many = stage.to_many(Target::Room(room));
    assert!(stage.turn());
    assert_eq!(stage.inboxes.control.len(), 9 * BATCH);
    assert!(stage.inboxes.singles.len() < 20);
    assert_eq!(
        many.try_recv().unwrap_err(),
        TryRecvError::Empty,
        "two of three"
    );
    assert!(stage.turn());
    assert_eq!(many.try_recv().unwrap().counts.taken, 3);
    assert_eq!(stage.inboxes.control.len(), 8 * BATCH);
    stage.rest();
    let done = singles
        .iter_mut()
        .filter_map(|single| single.try_recv().ok());
    assert_eq!(done.count(), 20);
}

#[tokio::test]
async fn a_push_to_many_keys_leaves_turns_to_others() {
    let mut stage = Stage::new();
    let keys = ["a", "b", "c", "d", "e"];
    let channels = keys.map(|key| stage.join(key, 1, ""));
    stage.rest();
    let mut outcome = stage.to_keys(&keys, OP);
    assert!(stage.turn());
    stage.control(Control::Leave(key_identity("e", channels[4].id())));
    let late = stage.to_keys(&["a"], OP);
    stage.rest();
    let outcome = outcome.try_recv().unwrap();
    assert_eq!(
        (outcome.counts.taken, outcome.absent_keys),
        (4, vec!["e".to_owned()])
    );
    assert_eq!(late.await.unwrap().counts.taken, 1);
}

#[tokio::test]
async fn who_joins_during_a_fan_out_gets_the_next_one() {
    let mut stage = Stage::new();
    for key in ["a", "b", "c"] {
        stage.join(key, 1, "r");
    }
    stage.rest();
    let room = stage.rooms.find("live://r").unwrap();
    for target in [Target::Room(room), Target::All { op: OP }] {
        let mut first = stage.to_many(target.clone());
        let mut second = stage.to_many(target);
        assert!(stage.turn());
        stage.join("d", 1, "r");
        stage.rest();
        assert_eq!(first.try_recv().unwrap().counts.taken, 3);
        assert_eq!(second.try_recv().unwrap().counts.taken, 4);
        stage.kick(Whom::Keys(vec!["d".to_owned()]));
        // Their backlogs hold three.
        for key in ["a", "b", "c"] {
            stage.join(key, 1, "r");
        }
        stage.rest();
    }
}

#[tokio::test]
async fn a_kick_hits_those_meant_and_frees_their_keys_at_once() {
    let mut stage = Stage::new();
    let one = stage.join("one", 1, "r");
    let two = stage.join("two", 1, "r");
    let three = stage.join("three", 1, "");
    stage.rest();
    let connection = |key: &str, id| (key.to_owned(), id);
    let others = vec![
        connection("three", three.id() + 1),
        connection("nobody", three.id()),
    ];
    let absent = vec!["three".to_owned(), "nobody".to_owned()];
    assert_eq!(stage.kick(Whom::Connections(others)), (0, absent));
    let three_alone = || Whom::Connections(vec![connection("three", three.id())]);
    assert_eq!(stage.kick(three_alone()), (1, vec![]));
    assert_eq!(stage.kick(three_alone()), (0, vec!["three".to_owned()]));
    let room = stage.rooms.find("live://r").unwrap();
    assert_eq!(stage.kick(Whom::Room(room)), (2, vec![]));
    for channel in [one, two, three] {
        assert_eq!(channel.closing(), Some(CloseReason::Kicked));
    }
    assert!(stage.rooms.find("live://r").is_none());
    assert_eq!(stage.taken(&["one", "two", "three"]), 0);
    let again = stage.join("one", 1, "");
    let keys = vec!["one".to_owned(), "two".to_owned(), "one".to_owned()];
    assert_eq!(stage.kick(Whom::Keys(keys)), (1, vec!["two".to_owned()]));
    assert_eq!(again.closing(), Some(CloseReason::Kicked));
}

#[tokio::test]
async fn accepted_operations_are_counted_as_a_set() {
    let mut stage = Stage::new();
    let channel = stage.join("a", 1, "");
    let reply = || Reply {
        header: Header::default(),
        body: Box::default(),
    };
    let identity = key_identity("a", channel.id());
    stage.control(Control::Sub(
        identity.clone(),
        vec![OP, 1, 2, 2, 3, 1],
        reply(),
    ));
    stage.rest();
    assert_eq!(channel.closing(), None);
    stage.control(Control::Unsub(identity.clone(), vec![OP, 9], reply()));
    stage.rest();
    let mut outcome = stage.to_keys(&["a"], OP);
    stage.rest();
    assert_eq!(outcome.try_recv().unwrap().counts.filtered, 1);
    stage.control(Control::Sub(identity, vec![4, 5], reply()));
    stage.rest();
    assert_eq!(channel.closing(), Some(CloseReason::TooManyAccepts));
}

#[tokio::test]
async fn a_paced_slice_says_where_the_next_one_starts() {
    let mut stage = Stage::new();
    for key in ["a", "b", "c"] {
        stage.join(key, 1, "");
    }
    stage.rest();
    let mut from = Some(0);
    let mut slices = 0;
    while let Some(at) = from {
        let (next, mut answer) = oneshot::channel();
        let slice = PacedSlice {
            op: OP,
            frame: frame(),
            from: at,
            count: 2,
        };
        stage
            .bucket
            .singles
            .try_send(Single::Some { slice, next })
            .unwrap();
        stage.rest();
        let (counts, next) = answer.try_recv().unwrap();
        assert!(counts.taken <= 2);
        from = next;
        slices += 1;
    }
    assert!(slices >= 2);
    assert_eq!(stage.metrics.taken.get(), 3);
}

#[tokio::test]
async fn the_task_serves_until_the_last_handle_is_gone_and_sweeps_the_silent() {
    let mut stage = Stage::new();
    let silent = stage.join("silent", 1, "");
    silent.set_silence(Tick(0));
    let outcome = stage.to_keys(&["silent"], OP);
    let Stage {
        actor,
        bucket,
        inboxes,
        ..
    } = stage;
    let task = tokio::spawn(actor.run(inboxes));
    let patience = Duration::from_secs(20);
    assert_eq!(
        timeout(patience, outcome)
            .await
            .unwrap()
            .unwrap()
            .counts
            .taken,
        1
    );
    let swept = async {
        while silent.closing().is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(patience, swept).await.unwrap();
    assert_eq!(silent.closing(), Some(CloseReason::HeartbeatTimeout));
    drop(bucket);
    timeout(patience, task).await.unwrap().unwrap();
}
