//! What a bucket does: logins into its maps, and deliveries.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use comet::{
    bucket::{
        Bucket, BucketContext, Buckets, Control, Fanout, Join, Single, Target,
        tally::{self, Outcome},
    },
    channel::{Channel, ChannelContext, Outlet},
    config,
    logic::Session,
    room::{Room, Rooms},
    transport::Door,
};
use protocol::{Header, RoomId};
use tokio::{runtime::Runtime, sync::oneshot};

use crate::{
    sockets::{OP, Peer, channel, context, message, runtime},
    support::{Bench, counted_section},
};

/// Logins of one bench. Many, since a map that grows moves all that is in it.
const LOGINS: usize = 1024;

/// Connections that are pushed to.
const MEMBERS: usize = 128;

const ROUNDS: usize = 16;

/// Messages that wait for the same room.
const WAITING: usize = 16;

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "bucket_join",
        operations: LOGINS,
        run: join,
    },
    Bench {
        name: "bucket_push_keys",
        operations: ROUNDS * MEMBERS,
        run: push_keys,
    },
    Bench {
        name: "bucket_fanout_room",
        operations: ROUNDS * MEMBERS,
        run: fanout_room,
    },
    Bench {
        name: "bucket_fanout_all",
        operations: ROUNDS * MEMBERS,
        run: fanout_all,
    },
    Bench {
        name: "bucket_fanout_joined",
        operations: ROUNDS * WAITING * MEMBERS,
        run: fanout_joined,
    },
];

/// One bucket, and who is in it.
struct Stage {
    runtime: Runtime,
    buckets: Buckets,
    rooms: Arc<Rooms>,
    context: Arc<ChannelContext>,
    peers: Vec<Peer>,
}

/// Logins with a room and an operation, whose answers wait: a write is counted elsewhere.
fn join() {
    let stage = Stage::new();
    let mut joins: Vec<_> = (0..LOGINS)
        .map(|at| {
            let context = Arc::clone(&stage.context);
            let channel = Channel::new(id(at), Door::Tcp, Outlet::Woken, context);
            login(at, Arc::new(channel))
        })
        .collect();
    counted_section(&mut || {
        stage.runtime.block_on(async {
            for (join, joined) in joins.drain(..) {
                let sent = stage.bucket().control.send(Control::Join(join)).await;
                sent.unwrap();
                joined.await.unwrap();
            }
        });
    });
    assert_eq!(stage.room().online(), u32::try_from(LOGINS).unwrap());
}

/// Each key a push of its own, all in the inbox at once.
fn push_keys() {
    let mut stage = Stage::with_members();
    let frame = message();
    for _ in 0..ROUNDS {
        let (parts, outcome) = tally::split(MEMBERS, 0);
        let mut pushes: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| Single::Keys {
                keys: vec![key(at)],
                op: OP,
                frame: frame.clone(),
                part,
            })
            .collect();
        let singles = stage.bucket().singles.clone();
        stage.deliver(1, outcome, || {
            for push in pushes.drain(..) {
                singles.try_send(push).unwrap();
            }
        });
    }
}

fn fanout_room() {
    let mut stage = Stage::with_members();
    let target = Target::Room(stage.room());
    for _ in 0..ROUNDS {
        stage.fan_out(&target, 1);
    }
}

fn fanout_all() {
    let mut stage = Stage::with_members();
    for _ in 0..ROUNDS {
        stage.fan_out(&Target::All { op: OP }, 1);
    }
}

/// Sixteen messages wait, and go to each connection as one write.
fn fanout_joined() {
    let mut stage = Stage::with_members();
    let target = Target::Room(stage.room());
    for _ in 0..ROUNDS {
        stage.fan_out(&target, WAITING);
    }
}

impl Stage {
    fn new() -> Self {
        let runtime = runtime();
        let context = context();
        let rooms = Arc::new(Rooms::default());
        let bucket = config::Bucket {
            size: 1,
            ..config::Bucket::default()
        };
        let buckets = {
            let _within = runtime.enter();
            let context = BucketContext {
                rooms: Arc::clone(&rooms),
                metrics: Arc::clone(&context.metrics),
                clock: context.clock,
                sweep: Duration::from_hours(1),
                max_accepts: 4,
                write_timeout: Duration::from_mins(1),
            };
            Buckets::start(&bucket, &context)
        };
        Self {
            runtime,
            buckets,
            rooms,
            context,
            peers: Vec::new(),
        }
    }

    /// With connections in one room that were written to before.
    fn with_members() -> Self {
        let mut stage = Self::new();
        let joining = async {
            let mut peers = Vec::new();
            for at in 0..MEMBERS {
                let (channel, mut peer) = channel(id(at), &stage.context);
                channel.socket().unwrap().writable().await.unwrap();
                let (join, joined) = login(at, channel);
                stage
                    .bucket()
                    .control
                    .try_send(Control::Join(join))
                    .unwrap();
                joined.await.unwrap();
                peer.read_auth_reply();
                peers.push(peer);
            }
            peers
        };
        stage.peers = stage.runtime.block_on(joining);
        stage
    }

    fn bucket(&self) -> &Bucket {
        &self.buckets.all()[0]
    }

    fn room(&self) -> Arc<Room> {
        self.rooms.find(room_id().as_str()).unwrap()
    }

    /// Pushes so many messages to many, counted.
    fn fan_out(&mut self, target: &Target, messages: usize) {
        let frame = message();
        let (parts, outcome) = tally::split(messages, 0);
        let mut pushes: Vec<_> = parts
            .into_iter()
            .map(|part| Fanout {
                target: target.clone(),
                frame: frame.clone(),
                part,
            })
            .collect();
        let fanouts = self.bucket().fanouts.clone();
        self.deliver(messages, outcome, || {
            for push in pushes.drain(..) {
                fanouts.try_send(push).unwrap();
            }
        });
    }

    /// Counts from `send` until the outcome is there, and has each peer read its messages.
    fn deliver(
        &mut self,
        messages: usize,
        outcome: oneshot::Receiver<Outcome>,
        mut send: impl FnMut(),
    ) {
        let before = self.context.metrics.delivered.get();
        let mut outcome = Some(outcome);
        counted_section(&mut || {
            self.runtime.block_on(async {
                send();
                outcome.take().unwrap().await.unwrap();
            });
        });
        let delivered = self.context.metrics.delivered.get() - before;
        assert_eq!(delivered, (messages * MEMBERS) as u64);
        for peer in &mut self.peers {
            peer.read(messages);
        }
    }
}

fn id(at: usize) -> u64 {
    at as u64 + 1
}

fn key(at: usize) -> String {
    format!("key-{at}")
}

fn room_id() -> RoomId {
    RoomId::new("live", "1")
}

fn login(at: usize, channel: Arc<Channel>) -> (Box<Join>, oneshot::Receiver<()>) {
    channel.owe();
    let session = Session {
        mid: 1,
        key: key(at).into(),
        id: channel.id(),
        door: Door::Tcp,
        client: SocketAddr::from(([127, 0, 0, 1], 1)),
        platform: Box::default(),
        renew_at: AtomicU32::default(),
    };
    let (joined, answered) = oneshot::channel();
    let join = Join {
        session: Arc::new(session),
        channel,
        room: Some(room_id()),
        accepts: vec![OP],
        auth: Header::default(),
        joined,
    };
    (Box::new(join), answered)
}
