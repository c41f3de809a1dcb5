//! The maps against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    channel::{ChannelContext, FullPolicy, Limits, Outlet},
    clock::Clock,
    transport::Door,
};

const KEYS: usize = 8;
const ROOMS: usize = 3;
const BUCKETS: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A login, which may replace.
    Insert { key: usize, room: Option<usize> },
    /// A goodbye; a late one is that of an older connection of the key.
    Remove { key: usize, is_late: bool },
    /// A change of room, of this connection or an older one.
    ChangeRoom {
        key: usize,
        room: Option<usize>,
        is_late: bool,
    },
    /// A fan-out to a room or to all begins, unless one is under way.
    Begin { bucket: usize, room: Option<usize> },
    /// A slice of the one under way.
    Serve { bucket: usize, count: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    let room = || proptest::option::weighted(0.8, 0..ROOMS);
    let is_late = proptest::bool::weighted(0.1);
    let bucket = 0..BUCKETS;
    prop_oneof![
        4 => (key.clone(), room()).prop_map(|(key, room)| Step::Insert { key, room }),
        2 => (key.clone(), is_late).prop_map(|(key, is_late)| Step::Remove { key, is_late }),
        3 => (key, room(), is_late).prop_map(|(key, room, is_late)| Step::ChangeRoom { key, room, is_late }),
        2 => (bucket.clone(), room()).prop_map(|(bucket, room)| Step::Begin { bucket, room }),
        4 => (bucket, 1..4usize).prop_map(|(bucket, count)| Step::Serve { bucket, count }),
    ]
}

/// A fan-out under way, and who must still get it.
#[derive(Debug)]
enum Running {
    Room(Arc<Room>, BTreeSet<u64>),
    All(Option<usize>, u64, BTreeSet<u64>),
}

struct World {
    rooms: Arc<Rooms>,
    buckets: [Members; BUCKETS],
    running: [Option<Running>; BUCKETS],
    context: Arc<ChannelContext>,
    next_id: u64,
    /// By key: the connection's id and its room.
    model: BTreeMap<usize, (u64, Option<usize>)>,
}

fn room_id(room: usize) -> RoomId {
    RoomId::new("live", &room.to_string())
}

fn channel(id: u64, context: &Arc<ChannelContext>) -> Arc<Channel> {
    let context = Arc::clone(context);
    Arc::new(Channel::new(id, Door::Tcp, Outlet::Woken, context))
}

fn context() -> Arc<ChannelContext> {
    Arc::new(ChannelContext {
        limits: Limits {
            messages: 1,
            bytes: 1,
            policy: FullPolicy::DropNewest,
            ring: 1,
        },
        metrics: Arc::default(),
        clock: Clock::start(),
        whitelist: Arc::default(),
    })
}

impl World {
    fn new() -> Self {
        let rooms = Arc::new(Rooms::default());
        Self {
            buckets: std::array::from_fn(|index| Members::new(index, Arc::clone(&rooms))),
            rooms,
            running: [None, None],
            context: context(),
            next_id: 0,
            model: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Insert { key, room } => self.insert(key, room),
            Step::Remove { key, is_late } => {
                let id = self.id_of(key, is_late);
                let removed = self.buckets[key % BUCKETS].remove(&key.to_string(), id);
                assert_eq!(
                    removed.map(|member| member.channel.id()),
                    self.live(key, id)
                );
                if self.live(key, id).is_some() {
                    self.model.remove(&key);
                    self.gone(key, id, true);
                }
            }
            Step::ChangeRoom { key, room, is_late } => {
                let id = self.id_of(key, is_late);
                let is_there = self.change_room(key, id, room);
                assert_eq!(is_there, self.live(key, id).is_some());
                if let Some((live, old)) = self.model.get_mut(&key)
                    && *live == id
                    && std::mem::replace(old, room) != room
                {
                    self.gone(key, id, false);
                }
            }
            Step::Begin { bucket, room } => self.begin(bucket, room),
            Step::Serve { bucket, count } => self.serve(bucket, count),
        }
    }

    fn insert(&mut self, key: usize, room: Option<usize>) {
        self.next_id += 1;
        let id = self.next_id;
        let channel = channel(id, &self.context);
        let older = self.buckets[key % BUCKETS].insert(
            Session::of(&key.to_string(), 1, id),
            channel,
            vec![1000],
        );
        let known = self.model.insert(key, (id, room)).map(|(id, _)| id);
        let older = match older {
            Inserted::First => None,
            Inserted::Replacing(member) => Some(member.channel.id()),
            Inserted::TooLate { .. } => panic!("ids grow here"),
        };
        assert_eq!(older, known);
        if let Some(older) = known {
            self.gone(key, older, true);
        }
        if room.is_some() {
            assert!(self.change_room(key, id, room));
        }
    }

    fn change_room(&mut self, key: usize, id: u64, room: Option<usize>) -> bool {
        let room = room.map(room_id);
        self.buckets[key % BUCKETS].change_room(&key.to_string(), id, room.as_ref())
    }

    fn begin(&mut self, bucket: usize, room: Option<usize>) {
        if self.running[bucket].is_some() {
            return;
        }
        let owed = self
            .model
            .iter()
            .filter(|(key, (_, at))| **key % BUCKETS == bucket && (room.is_none() || *at == room));
        let owed = owed.map(|(_, (id, _))| *id).collect();
        let members = &mut self.buckets[bucket];
        self.running[bucket] = match room {
            None => Some(Running::All(Some(0), members.joins(), owed)),
            Some(room) => self.rooms.find(room_id(room).as_str()).map(|room| {
                members.begin_room(&room);
                Running::Room(room, owed)
            }),
        };
    }

    fn serve(&mut self, bucket: usize, count: usize) {
        let members = &mut self.buckets[bucket];
        let Some(running) = &mut self.running[bucket] else {
            return;
        };
        let mut served = 0;
        let is_done = match running {
            Running::Room(room, owed) => members.serve_room(room, count, |member| {
                assert!(
                    owed.remove(&member.channel.id()),
                    "served one who is not owed"
                );
                served += 1;
            }),
            Running::All(at, joins, owed) => {
                *at = members.serve_all(at.unwrap(), count, *joins, |member| {
                    assert!(
                        owed.remove(&member.channel.id()),
                        "served one who is not owed"
                    );
                    served += 1;
                });
                at.is_none()
            }
        };
        assert!(served <= count);
        if is_done {
            let (Running::Room(_, owed) | Running::All(_, _, owed)) = running;
            assert!(owed.is_empty(), "{owed:?} got nothing");
            self.running[bucket] = None;
        }
    }

    /// A connection that left its room, or altogether, need not be served.
    fn gone(&mut self, key: usize, id: u64, is_altogether: bool) {
        match &mut self.running[key % BUCKETS] {
            Some(Running::Room(_, owed)) => drop(owed.remove(&id)),
            Some(Running::All(_, _, owed)) if is_altogether => drop(owed.remove(&id)),
            _ => {}
        }
    }

    fn id_of(&self, key: usize, is_late: bool) -> u64 {
        let id = self.model.get(&key).map_or(0, |(id, _)| *id);
        if is_late { id.wrapping_sub(1) } else { id }
    }

    fn live(&self, key: usize, id: u64) -> Option<u64> {
        let (live, _) = self.model.get(&key)?;
        (*live == id).then_some(id)
    }

    fn check(&self) {
        let mut counts = std::collections::HashMap::new();
        for (_, room) in self.model.values() {
            if let Some(room) = room {
                *counts
                    .entry(room_id(*room).as_str().to_owned())
                    .or_insert(0) += 1;
            }
        }
        assert_eq!(self.rooms.counts(), counts);
        for (key, (id, room)) in &self.model {
            let member = self.buckets[key % BUCKETS].find(&key.to_string()).unwrap();
            assert_eq!(member.channel.id(), *id);
            let online = room.map_or(0, |room| counts[room_id(room).as_str()]);
            assert_eq!(i64::from(member.channel.room_online()), i64::from(online));
        }
        for (index, members) in self.buckets.iter().enumerate() {
            self.check_bucket(index, members);
        }
    }

    fn check_bucket(&self, index: usize, members: &Members) {
        let here = || {
            self.model
                .iter()
                .filter(|(key, _)| **key % BUCKETS == index)
        };
        assert_eq!(members.all().count(), here().count());
        assert_eq!(members.by_key.len(), here().count());
        for (slot, member) in &members.slots {
            for seat in &member.seats {
                let local = &members.local[&seat.room.serial()];
                assert_eq!(
                    local.seats[seat.at], slot,
                    "a seat is not where it is noted"
                );
            }
        }
        let mut taken = 0;
        for room in 0..ROOMS {
            let expected: BTreeSet<u64> = here()
                .filter(|(_, (_, at))| *at == Some(room))
                .map(|(_, (id, _))| *id)
                .collect();
            let Some(room) = self.rooms.find(room_id(room).as_str()) else {
                assert!(expected.is_empty());
                continue;
            };
            let found: Vec<u64> = members.in_room(&room).map(|m| m.channel.id()).collect();
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
            let is_present = room.present().any(|bucket| bucket == index);
            assert_eq!(is_present, !expected.is_empty(), "the present bit is wrong");
            taken += usize::from(!expected.is_empty());
        }
        assert_eq!(members.local.len(), taken, "empty rooms are kept");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn who_was_there_is_served_once_and_the_maps_agree(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        for bucket in 0..BUCKETS {
            while world.running[bucket].is_some() {
                world.serve(bucket, 2);
            }
        }
    }
}

#[test]
fn the_same_room_again_keeps_the_place_in_a_fan_out() {
    let mut members = Members::new(0, Arc::new(Rooms::default()));
    let context = context();
    let room = room_id(0);
    for id in 0..2 {
        members.insert(
            Session::of(&id.to_string(), 1, id),
            channel(id, &context),
            vec![],
        );
        members.change_room(&id.to_string(), id, Some(&room));
    }
    let found = members.rooms.find(room.as_str()).unwrap();
    members.begin_room(&found);
    assert!(members.change_room("1", 1, Some(&room)));
    let mut served = Vec::new();
    assert!(members.serve_room(&found, 9, |member| served.push(member.channel.id())));
    assert_eq!(served, [0, 1]);
}

#[test]
fn accepts_are_a_set() {
    let mut members = Members::new(0, Arc::new(Rooms::default()));
    members.insert(
        Session::of("a", 1, 1),
        channel(1, &context()),
        vec![7, 5, 7],
    );
    let accepted = |members: &Members| members.find("a").unwrap().accepts.to_vec();
    assert_eq!(accepted(&members), [5, 7]);
    assert!(members.change_accepts("a", 2, |_| vec![]).is_none());
    let member = members.change_accepts("a", 1, |accepts| [accepts, &[6, 5]].concat());
    let member = member.unwrap();
    assert!(member.accepts(6) && !member.accepts(8));
    assert_eq!(accepted(&members), [5, 6, 7]);
}

#[test]
fn empty_places_are_passed_in_bounded_steps() {
    let mut members = Members::new(0, Arc::new(Rooms::default()));
    let context = context();
    for id in 0..500 {
        members.insert(
            Session::of(&id.to_string(), 1, id),
            channel(id, &context),
            vec![],
        );
    }
    for id in 0..499 {
        members.remove(&id.to_string(), id);
    }
    let (mut at, mut steps, mut served) = (Some(0), 0, Vec::new());
    while let Some(from) = at {
        at = members.serve_all(from, 1, u64::MAX, |member| served.push(member.channel.id()));
        assert!(at.is_none_or(|at| at > from && at <= from + SPARSE));
        steps += 1;
    }
    assert_eq!(served, [499]);
    assert!(steps >= 500 / SPARSE);
}

#[test]
fn a_login_that_comes_after_a_later_one_changes_nothing() {
    let mut members = Members::new(0, Arc::default());
    let context = context();
    members.insert(Session::of("a", 7, 2), channel(2, &context), vec![]);
    let mut insert =
        |mid, id| members.insert(Session::of("a", mid, id), channel(id, &context), vec![]);
    assert!(matches!(insert(7, 1), Inserted::TooLate { same_mid: true }));
    assert!(matches!(
        insert(8, 1),
        Inserted::TooLate { same_mid: false }
    ));
    assert!(matches!(insert(7, 3), Inserted::Replacing(older) if older.channel.id() == 2));
}
