//! The rooms of this comet: who counts how many are online, and in which order pushes reach the buckets.
//!
//! A room exists while someone is in it. Entering and leaving hold the lock of the room's shard, so a room that empties while
//! another connection enters is either found alive or made anew.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use hashbrown::HashMap as FastMap;
use parking_lot::{Mutex, MutexGuard};
use protocol::RoomId;

/// Buckets that a comet can have: one bit each in [`Room`].
pub const MAX_BUCKETS: usize = 64;

/// Locks over which room names are spread. Entering and leaving are short; 16 make waiting rare on any machine.
const SHARDS: usize = 16;

/// A room with at least one connection in it, in whichever buckets these are.
#[derive(Debug)]
pub struct Room {
    id: RoomId,
    serial: u64,
    online: AtomicU32,
    /// Over all comets, as logic last said; 0: it has not.
    everywhere: AtomicU32,
    /// One bit for each bucket that has a member.
    buckets: AtomicU64,
    order: Mutex<()>,
}

/// All rooms with someone in them.
#[derive(Debug, Default)]
pub struct Rooms {
    shards: [Mutex<FastMap<RoomId, Arc<Room>>>; SHARDS],
    hasher: foldhash::fast::RandomState,
    next_serial: AtomicU64,
    count: AtomicUsize,
    /// 0: no bound.
    max: usize,
}

impl Room {
    /// Its name.
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Tells rooms apart that had the same name one after the other.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// How many are in it: over all comets as logic last said, and no fewer than are here now.
    pub fn online(&self) -> u32 {
        let everywhere = self.everywhere.load(Ordering::Relaxed);
        everywhere.max(self.online.load(Ordering::Relaxed))
    }

    /// Notes whether the bucket of this index has a member. Only that bucket calls it.
    pub fn set_present(&self, bucket: usize, present: bool) {
        let bit = 1 << bucket;
        if present {
            self.buckets.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.buckets.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// The indices of the buckets that have a member, ascending.
    pub fn present(&self) -> impl Iterator<Item = usize> {
        let bits = self.buckets.load(Ordering::SeqCst);
        (0..MAX_BUCKETS).filter(move |bucket| bits & (1 << bucket) != 0)
    }

    /// The one point where pushes to this room get their order: held while a push is handed to all buckets concerned, so that
    /// every member sees one order.
    pub fn sequence(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }
}

impl Rooms {
    /// At most about `max` rooms; 0: no bound.
    pub fn bounded(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Whether someone may enter this room: it is there, or one more may be. Of connections that ask at once in different
    /// buckets, each is told yes; so there may be a room too many for each bucket.
    pub fn may_enter(&self, id: &RoomId) -> bool {
        self.max == 0
            || self.count.load(Ordering::Relaxed) < self.max
            || self.shard(id.as_str()).lock().contains_key(id)
    }

    /// Counts one connection in. The caller leaves as often as it entered.
    pub fn enter(&self, id: &RoomId) -> Arc<Room> {
        let mut shard = self.shard(id.as_str()).lock();
        if let Some(room) = shard.get(id) {
            room.online.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(room);
        }
        let room = Arc::new(Room {
            id: id.clone(),
            serial: self.next_serial.fetch_add(1, Ordering::Relaxed),
            online: AtomicU32::new(1),
            everywhere: AtomicU32::new(0),
            buckets: AtomicU64::new(0),
            order: Mutex::default(),
        });
        shard.insert(id.clone(), Arc::clone(&room));
        self.count.fetch_add(1, Ordering::Relaxed);
        room
    }

    /// Counts one connection out; the last one ends the room.
    pub fn leave(&self, room: &Room) {
        let mut shard = self.shard(room.id.as_str()).lock();
        if room.online.fetch_sub(1, Ordering::Relaxed) == 1 {
            shard.remove(&room.id);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The room of this name, if someone is in it.
    pub fn find(&self, id: &str) -> Option<Arc<Room>> {
        self.shard(id).lock().get(id).cloned()
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are in each room here.
    pub fn counts(&self) -> HashMap<String, i32> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            for room in shard.lock().values() {
                let online = room.online.load(Ordering::Relaxed);
                let online = i32::try_from(online).unwrap_or(i32::MAX);
                counts.insert(room.id.as_str().to_owned(), online);
            }
        }
        counts
    }

    /// Takes the counts over all comets from logic; for rooms that it does not name, the count here stands alone.
    pub fn set_everywhere(&self, counts: &HashMap<String, i32>) {
        for shard in &self.shards {
            for room in shard.lock().values() {
                let count = counts.get(room.id.as_str()).copied().unwrap_or(0);
                let count = u32::try_from(count).unwrap_or(0);
                room.everywhere.store(count, Ordering::Relaxed);
            }
        }
    }

    fn shard(&self, id: &str) -> &Mutex<FastMap<RoomId, Arc<Room>>> {
        use std::hash::BuildHasher as _;
        #[expect(clippy::cast_possible_truncation, reason = "reduced modulo SHARDS")]
        let hash = self.hasher.hash_one(id) as usize;
        &self.shards[hash % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_room_that_empties_and_fills_in_a_race_never_loses_count() {
        let rooms = Rooms::default();
        let id = RoomId::new("live", "1");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let room = rooms.enter(&id);
                        assert!(room.online() >= 1);
                        rooms.leave(&room);
                    }
                });
            }
        });
        assert!(rooms.find("live://1").is_none());
        assert!(rooms.counts().is_empty());
    }

    #[test]
    fn counts_over_all_comets_win_once_logic_has_said_them() {
        let rooms = Rooms::default();
        let room = rooms.enter(&RoomId::new("live", "1"));
        assert_eq!(room.online(), 1);
        rooms.set_everywhere(&HashMap::from([("live://1".to_owned(), 7)]));
        assert_eq!(room.online(), 7);
        rooms.set_everywhere(&HashMap::new());
        assert_eq!(room.online(), 1);
        assert_eq!(rooms.counts(), HashMap::from([("live://1".to_owned(), 1)]));
    }

    #[test]
    fn a_bound_keeps_new_rooms_out_and_lets_into_those_that_are_there() {
        let rooms = Rooms::bounded(1);
        let (one, two) = (RoomId::new("live", "1"), RoomId::new("live", "2"));
        assert!(rooms.may_enter(&one));
        let room = rooms.enter(&one);
        assert!(rooms.may_enter(&one));
        assert!(!rooms.may_enter(&two));
        rooms.leave(&room);
        assert!(rooms.may_enter(&two));
        assert!(Rooms::default().may_enter(&two));
    }

    #[test]
    fn a_bucket_is_present_while_it_says_so() {
        let rooms = Rooms::default();
        let room = rooms.enter(&RoomId::new("live", "1"));
        room.set_present(3, true);
        room.set_present(63, true);
        assert_eq!(room.present().collect::<Vec<_>>(), [3, 63]);
        room.set_present(3, false);
        assert_eq!(room.present().collect::<Vec<_>>(), [63]);
    }
}
