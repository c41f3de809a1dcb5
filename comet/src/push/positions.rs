//! What was taken of ordered stores that may send a message again after a break or a change of hands: the last position of
//! each stream, and the names of what was taken last where positions do not tell.
//!
//! A stream's last position tells what was taken only as far as everything of the stream comes here. Of stored pushes, those
//! to rooms and to all do. One to a key goes to the comet that has the key at that time: sent again, it may be for another
//! comet, which has taken later ones. So those are told apart by message and key. A name takes 8 bytes in a queue and, at
//! worst, 18 in a set: 16,384 of each of 32 streams are 14 MiB.
//!
//! A message holds its stream's turn from the check until it is taken or refused, also while it waits for room in the inboxes.
//! So when a connection breaks and its messages come again over the next one, each is taken over one of the two, and none
//! before the one ahead of it.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use protocol::{MessageId, Position, grpc::comet::v1::Refusal};
use tokio::sync::OwnedMutexGuard;

/// What was taken, by stream.
#[derive(Debug)]
pub(super) struct Positions {
    state: Mutex<State>,
    /// Streams remembered; beyond, the one that had a turn longest ago is forgotten.
    max: usize,
    /// Names remembered of each; beyond, the oldest is forgotten.
    max_names: usize,
    /// Makes names. With 64 bits and random keys, two among millions are not the same.
    names: RandomState,
}

/// The right to take the message at a position; nothing else of its stream is taken meanwhile.
#[derive(Debug)]
pub(super) struct Turn {
    taken: OwnedMutexGuard<Taken>,
    epoch: u64,
    /// None if it is taken by names.
    number: Option<u64>,
    names: Vec<u64>,
    max_names: usize,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<String, Stream>,
    turns: u64,
}

#[derive(Debug)]
struct Stream {
    taken: Arc<tokio::sync::Mutex<Taken>>,
    /// The count of all turns then: tells which was longest ago.
    turn: u64,
}

/// What was taken of one stream.
#[derive(Debug, Default)]
struct Taken {
    /// The last one.
    epoch: u64,
    /// The last one of what is not taken by names.
    number: Option<u64>,
    /// Oldest first.
    names: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Positions {
    /// Remembers `max` streams and `max_names` names of each.
    pub(super) fn new(max: usize, max_names: usize) -> Self {
        Self {
            state: Mutex::default(),
            max,
            max_names,
            names: RandomState::new(),
        }
    }

    /// Waits for the stream's turn, and says whether the message at this position may be taken.
    pub(super) async fn turn(&self, position: &Position) -> Result<Turn, Refusal> {
        let mut turn = self.turn_of(position).await?;
        let last = turn.taken.number;
        if last.is_some_and(|last| position.number <= last) {
            return Err(Refusal::Repeated);
        }
        turn.number = Some(position.number);
        Ok(turn)
    }

    /// Waits for the stream's turn, and removes those of `keys` for whom the message of this id was taken. Refused if
    /// none is left.
    pub(super) async fn turn_for(
        &self,
        position: &Position,
        id: MessageId,
        keys: &mut Vec<String>,
    ) -> Result<Turn, Refusal> {
        let mut turn = self.turn_of(position).await?;
        let count = keys.len();
        keys.retain(|key| {
            let name = self.names.hash_one((id.0, key));
            let is_new = !turn.taken.known.contains(&name);
            if is_new {
                turn.names.push(name);
            }
            is_new
        });
        if keys.is_empty() && count > 0 {
            return Err(Refusal::Repeated);
        }
        Ok(turn)
    }

    async fn turn_of(&self, position: &Position) -> Result<Turn, Refusal> {
        let taken = self.stream(&position.stream).lock_owned().await;
        if position.epoch < taken.epoch {
            return Err(Refusal::StaleEpoch);
        }
        Ok(Turn {
            taken,
            epoch: position.epoch,
            number: None,
            names: Vec::new(),
            max_names: self.max_names,
        })
    }

    fn stream(&self, name: &str) -> Arc<tokio::sync::Mutex<Taken>> {
        let State { streams, turns } = &mut *self.state.lock();
        *turns += 1;
        if let Some(stream) = streams.get_mut(name) {
            stream.turn = *turns;
            return Arc::clone(&stream.taken);
        }
        if streams.len() >= self.max {
            // One whose turn is taken stays: it would come again as a second one.
            let idle = streams
                .iter()
                .filter(|(_, stream)| Arc::strong_count(&stream.taken) == 1);
            let oldest = idle.min_by_key(|(_, stream)| stream.turn);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                streams.remove(&oldest);
            }
        }
        let taken = Arc::default();
        let stream = Stream {
            taken: Arc::clone(&taken),
            turn: *turns,
        };
        streams.insert(name.to_owned(), stream);
        taken
    }
}

impl Turn {
    /// Notes that the message is taken. A turn that is dropped leaves the stream as it was.
    pub(super) fn take(mut self) {
        let taken = &mut *self.taken;
        taken.epoch = self.epoch;
        taken.number = self.number.or(taken.number);
        for name in self.names {
            if taken.known.insert(name) {
                taken.names.push_back(name);
            }
        }
        while taken.names.len() > self.max_names {
            if let Some(oldest) = taken.names.pop_front() {
                taken.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn at(stream: &str, epoch: u64, number: u64) -> Position {
        Position {
            stream: stream.into(),
            epoch,
            number,
        }
    }

    async fn check(positions: &Positions, position: Position) -> Result<(), Refusal> {
        positions.turn(&position).await.map(drop)
    }

    async fn take(positions: &Positions, position: Position) {
        positions.turn(&position).await.unwrap().take();
    }

    /// The keys that a message is taken for.
    async fn take_for(
        positions: &Positions,
        position: Position,
        id: u8,
        keys: &[&str],
    ) -> Result<Vec<String>, Refusal> {
        let mut keys = keys.iter().map(|&key| key.to_owned()).collect();
        let id = MessageId([id; 16]);
        let turn = positions.turn_for(&position, id, &mut keys).await?;
        turn.take();
        Ok(keys)
    }

    #[tokio::test]
    async fn what_was_taken_is_not_taken_again() {
        let positions = Positions::new(2, 4);
        assert_eq!(check(&positions, at("a", 1, 5)).await, Ok(()));
        take(&positions, at("a", 1, 5)).await;
        let repeated = Err(Refusal::Repeated);
        assert_eq!(check(&positions, at("a", 1, 5)).await, repeated);
        assert_eq!(check(&positions, at("a", 2, 4)).await, repeated);
        assert_eq!(check(&positions, at("a", 2, 6)).await, Ok(()));
        take(&positions, at("a", 2, 6)).await;
        let stale = Err(Refusal::StaleEpoch);
        assert_eq!(check(&positions, at("a", 1, 7)).await, stale);
        assert_eq!(check(&positions, at("b", 1, 1)).await, Ok(()));
        take(&positions, at("c", 0, 0)).await;
        assert_eq!(check(&positions, at("c", 0, 0)).await, repeated);
    }

    #[tokio::test]
    async fn the_stream_that_was_longest_silent_is_forgotten() {
        let positions = Positions::new(2, 4);
        for (stream, number) in [("a", 8), ("b", 9), ("a", 9), ("c", 9)] {
            take(&positions, at(stream, 1, number)).await;
        }
        let repeated = Err(Refusal::Repeated);
        assert_eq!(check(&positions, at("a", 1, 9)).await, repeated);
        assert_eq!(check(&positions, at("b", 1, 9)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_position_that_is_being_taken_is_waited_for() {
        let positions = Positions::new(1, 4);
        let (first, again) = (at("a", 1, 1), at("a", 1, 1));
        let turn = positions.turn(&first).await.unwrap();
        let mut second = Box::pin(positions.turn(&again));
        assert!(poll!(&mut second).is_pending());
        // Another stream neither waits for it nor has it forgotten.
        take(&positions, at("b", 1, 1)).await;
        turn.take();
        assert_eq!(second.await.map(drop), Err(Refusal::Repeated));

        let turn = positions.turn(&at("a", 1, 2)).await.unwrap();
        let again = at("a", 1, 2);
        let mut second = Box::pin(positions.turn(&again));
        assert!(poll!(&mut second).is_pending());
        // Refused for lack of room: whoever comes next may take it.
        drop(turn);
        assert_eq!(second.await.map(drop), Ok(()));
    }

    #[tokio::test]
    async fn what_is_for_keys_known_once_for_each_in_whatever_order() {
        let positions = Positions::new(2, 4);
        take(&positions, at("a", 1, 9)).await;
        let taken = take_for(&positions, at("a", 2, 5), 5, &["k", "l"]).await;
        assert_eq!(taken.unwrap(), ["k", "l"]);
        let taken = take_for(&positions, at("a", 2, 5), 5, &["m", "k"]).await;
        assert_eq!(taken.unwrap(), ["m"], "in a part of other keys");
        let repeated = take_for(&positions, at("a", 2, 12), 5, &["l"]).await;
        assert_eq!(repeated, Err(Refusal::Repeated));
        let stale = take_for(&positions, at("a", 1, 12), 6, &["l"]).await;
        assert_eq!(stale, Err(Refusal::StaleEpoch));
        // Rooms keep their order whatever keys were taken.
        assert_eq!(
            check(&positions, at("a", 2, 9)).await,
            Err(Refusal::Repeated)
        );
        take_for(&positions, at("a", 2, 30), 7, &["k"])
            .await
            .unwrap();
        assert_eq!(check(&positions, at("a", 2, 10)).await, Ok(()));
        let nobody = take_for(&positions, at("a", 2, 11), 8, &[]).await;
        assert_eq!(nobody, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn names_are_bounded() {
        let positions = Positions::new(1, 2);
        for key in ["k", "l", "m"] {
            take_for(&positions, at("a", 1, 1), 1, &[key])
                .await
                .unwrap();
        }
        let repeated = take_for(&positions, at("a", 1, 1), 1, &["l", "m"]).await;
        assert_eq!(repeated, Err(Refusal::Repeated));
        let forgotten = take_for(&positions, at("a", 1, 1), 1, &["k"]).await;
        assert_eq!(forgotten.unwrap(), ["k"]);
        let stream = positions.stream("a");
        let taken = stream.lock().await;
        assert_eq!((taken.names.len(), taken.known.len()), (2, 2));
    }
}
