//! The maps of a bucket: key to connection, room to connections.

use std::{hash::BuildHasher as _, sync::Arc};

use hashbrown::{HashMap, HashTable};
use protocol::RoomId;
use slab::Slab;
use smallvec::SmallVec;

use crate::{
    channel::Channel,
    logic::Session,
    room::{Room, Rooms},
};

/// Places that are looked at for each connection that may be served: looking costs nanoseconds, serving microseconds.
const SPARSE: usize = 64;

/// A connection in its bucket.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) channel: Arc<Channel>,
    /// Sorted.
    accepts: Box<[i32]>,
    /// Its rooms. One, as in goim; a list, so that there can be more.
    seats: SmallVec<[Seat; 1]>,
    /// The bucket's count of joins when it came.
    joined: u64,
}

/// What became of a login.
#[derive(Debug)]
pub(super) enum Inserted {
    /// Nobody had the key.
    First,
    /// This one had the key.
    Replacing(Member),
    /// One that logged in later has the key.
    TooLate {
        /// As the same user.
        same_mid: bool,
    },
}

/// A member's place in a room.
#[derive(Debug)]
struct Seat {
    room: Arc<Room>,
    /// Its index in the room's list.
    at: usize,
}

/// A room as this bucket has it: members in no order. While a fan-out is under way, three zones: before `cursor` served,
/// from there to `end` to be served, from `end` on joined since.
#[derive(Debug)]
struct LocalRoom {
    seats: Vec<usize>,
    cursor: usize,
    end: usize,
}

/// The maps.
#[derive(Debug)]
pub(super) struct Members {
    bucket: usize,
    rooms: Arc<Rooms>,
    slots: Slab<Member>,
    /// Slots by the hash of their keys.
    by_key: HashTable<usize>,
    /// By the room's serial.
    local: HashMap<u64, LocalRoom>,
    hasher: foldhash::fast::RandomState,
    joins: u64,
}

impl Member {
    pub(super) fn accepts(&self, op: i32) -> bool {
        self.accepts.binary_search(&op).is_ok()
    }
}

impl Members {
    pub(super) fn new(bucket: usize, rooms: Arc<Rooms>) -> Self {
        Self {
            bucket,
            rooms,
            slots: Slab::new(),
            by_key: HashTable::new(),
            local: HashMap::new(),
            hasher: foldhash::fast::RandomState::default(),
            joins: 0,
        }
    }

    /// Puts a connection under its session's key, unless one has it that logged in later. An earlier one is taken out of
    /// everything.
    pub(super) fn insert(
        &mut self,
        session: Arc<Session>,
        channel: Arc<Channel>,
        accepts: Vec<i32>,
    ) -> Inserted {
        let present = self.slot_of(&session.key);
        let later = present.map(|slot| &self.slots[slot]);
        if let Some(later) = later.filter(|later| later.channel.id() > channel.id()) {
            let same_mid = later.session.mid == session.mid;
            return Inserted::TooLate { same_mid };
        }
        let earlier = present.map(|slot| self.remove_slot(slot));
        self.joins += 1;
        let hash = self.hasher.hash_one(&*session.key);
        let slot = self.slots.insert(Member {
            session,
            channel,
            accepts: sorted(accepts),
            seats: SmallVec::new(),
            joined: self.joins,
        });
        let Self {
            by_key,
            slots,
            hasher,
            ..
        } = self;
        by_key.insert_unique(hash, slot, |&slot| {
            hasher.hash_one(&*slots[slot].session.key)
        });
        earlier.map_or(Inserted::First, Inserted::Replacing)
    }

    /// Takes a connection out, if the key is still its own.
    pub(super) fn remove(&mut self, key: &str, id: u64) -> Option<Member> {
        let slot = self.slot_of_connection(key, id)?;
        Some(self.remove_slot(slot))
    }

    /// The connection of a key.
    pub(super) fn find(&self, key: &str) -> Option<&Member> {
        self.slot_of(key).map(|slot| &self.slots[slot])
    }

    /// This connection, if the key is still its own.
    pub(super) fn find_connection(&self, key: &str, id: u64) -> Option<&Member> {
        self.find(key).filter(|member| member.channel.id() == id)
    }

    /// Everyone.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().map(|(_, member)| member)
    }

    /// Moves a connection from its rooms to this one, or to none; where it is already, it keeps its seat. Returns whether it
    /// is there.
    pub(super) fn change_room(&mut self, key: &str, id: u64, room: Option<&RoomId>) -> bool {
        let Some(slot) = self.slot_of_connection(key, id) else {
            return false;
        };
        if let ([seat], Some(room)) = (&self.slots[slot].seats[..], room)
            && seat.room.id() == room
        {
            return true;
        }
        self.leave_rooms(slot);
        let room = room.map(|room| self.enter(slot, room));
        self.slots[slot].channel.set_room(room);
        true
    }

    /// Replaces the accepted operations by what `change` makes of them. Returns the connection, if it is there.
    pub(super) fn change_accepts(
        &mut self,
        key: &str,
        id: u64,
        change: impl FnOnce(&[i32]) -> Vec<i32>,
    ) -> Option<&Member> {
        let slot = self.slot_of_connection(key, id)?;
        let member = &mut self.slots[slot];
        member.accepts = sorted(change(&member.accepts));
        Some(member)
    }

    /// The connections of a room.
    pub(super) fn in_room(&self, room: &Room) -> impl Iterator<Item = &Member> {
        let seats = self
            .local
            .get(&room.serial())
            .map(|local| local.seats.as_slice());
        seats
            .unwrap_or_default()
            .iter()
            .map(|&slot| &self.slots[slot])
    }

    /// Begins a fan-out to all who are in the room now. The one before must have ended.
    pub(super) fn begin_room(&mut self, room: &Room) {
        if let Some(local) = self.local.get_mut(&room.serial()) {
            local.cursor = 0;
            local.end = local.seats.len();
        }
    }

    /// Serves up to `count` more of the fan-out that was begun; returns whether that was the last.
    pub(super) fn serve_room(
        &mut self,
        room: &Room,
        count: usize,
        mut serve: impl FnMut(&Member),
    ) -> bool {
        let Some(local) = self.local.get_mut(&room.serial()) else {
            return true;
        };
        let to = local.end.min(local.cursor.saturating_add(count));
        for &slot in &local.seats[local.cursor..to] {
            serve(&self.slots[slot]);
        }
        local.cursor = to;
        to == local.end
    }

    /// The count of joins so far: who joins later has a greater one.
    pub(super) fn joins(&self) -> u64 {
        self.joins
    }

    /// Serves up to `count` connections that joined no later than `joins`, from the place `from` on; returns the place
    /// to go on from, if there is one. Where many places are empty it stops earlier.
    pub(super) fn serve_all(
        &self,
        from: usize,
        count: usize,
        joins: u64,
        mut serve: impl FnMut(&Member),
    ) -> Option<usize> {
        let places = self.slots.capacity();
        let last = places.min(from.saturating_add(count.saturating_mul(SPARSE)));
        let (mut at, mut left) = (from, count);
        while at < last && left > 0 {
            if let Some(member) = self.slots.get(at).filter(|member| member.joined <= joins) {
                serve(member);
                left -= 1;
            }
            at += 1;
        }
        (at < places).then_some(at)
    }

    fn slot_of(&self, key: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.by_key
            .find(hash, |&slot| &*self.slots[slot].session.key == key)
            .copied()
    }

    fn slot_of_connection(&self, key: &str, id: u64) -> Option<usize> {
        self.slot_of(key)
            .filter(|&slot| self.slots[slot].channel.id() == id)
    }

    fn remove_slot(&mut self, slot: usize) -> Member {
        self.leave_rooms(slot);
        let hash = self.hasher.hash_one(&*self.slots[slot].session.key);
        if let Ok(entry) = self.by_key.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.slots.remove(slot)
    }

    fn enter(&mut self, slot: usize, id: &RoomId) -> Arc<Room> {
        let room = self.rooms.enter(id);
        let local = self.local.entry(room.serial()).or_insert_with(|| {
            room.set_present(self.bucket, true);
            LocalRoom {
                seats: Vec::new(),
                cursor: 0,
                end: 0,
            }
        });
        let at = local.seats.len();
        local.seats.push(slot);
        self.slots[slot].seats.push(Seat {
            room: Arc::clone(&room),
            at,
        });
        room
    }

    fn leave_rooms(&mut self, slot: usize) {
        for Seat { room, at } in std::mem::take(&mut self.slots[slot].seats) {
            let Some(local) = self.local.get_mut(&room.serial()) else {
                continue;
            };
            for (moved, to) in local.vacate(at) {
                let seats = &mut self.slots[moved].seats;
                if let Some(seat) = seats.iter_mut().find(|seat| Arc::ptr_eq(&seat.room, &room)) {
                    seat.at = to;
                }
            }
            if local.seats.is_empty() {
                self.local.remove(&room.serial());
                room.set_present(self.bucket, false);
            }
            self.rooms.leave(&room);
        }
    }
}

impl LocalRoom {
    /// Takes the seat at `at` out, keeping the zones: the hole moves from zone to zone to the end. Returns who moved, and
    /// to where.
    fn vacate(&mut self, at: usize) -> SmallVec<[(usize, usize); 3]> {
        let mut moves = SmallVec::new();
        let mut hole = at;
        if hole < self.cursor {
            self.cursor -= 1;
            self.fill(&mut hole, self.cursor, &mut moves);
        }
        if hole < self.end {
            self.end -= 1;
            self.fill(&mut hole, self.end, &mut moves);
        }
        let last = self.seats.len() - 1;
        self.fill(&mut hole, last, &mut moves);
        self.seats.pop();
        moves
    }

    fn fill(&mut self, hole: &mut usize, from: usize, moves: &mut SmallVec<[(usize, usize); 3]>) {
        if *hole != from {
            self.seats[*hole] = self.seats[from];
            moves.push((self.seats[from], *hole));
            *hole = from;
        }
    }
}

fn sorted(mut accepts: Vec<i32>) -> Box<[i32]> {
    accepts.sort_unstable();
    accepts.dedup();
    accepts.into_boxed_slice()
}

#[cfg(test)]
mod tests;
