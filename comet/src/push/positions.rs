//! What was taken of ordered stores that may send a message again after a break or a change of hands: the last position of
//! each stream.
//!
//! A message holds its stream's turn from the check until it is taken or refused, also while it waits for room in the inboxes.
//! So when a connection breaks and its messages come again over the next one, each is taken over one of the two, and none
//! before the one ahead of it.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{Position, grpc::comet::v1::Refusal};
use tokio::sync::OwnedMutexGuard;

/// The last positions taken, by stream.
#[derive(Debug)]
pub(super) struct Positions {
    state: Mutex<State>,
    /// Streams remembered; beyond, the one that had a turn longest ago is forgotten.
    max: usize,
}

/// The right to take the message at a position; nothing else of its stream is taken meanwhile.
#[derive(Debug)]
pub(super) struct Turn {
    last: OwnedMutexGuard<Last>,
    next: Last,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<String, Stream>,
    turns: u64,
}

#[derive(Debug)]
struct Stream {
    last: Arc<tokio::sync::Mutex<Last>>,
    /// The count of all turns then: tells which was longest ago.
    turn: u64,
}

/// The last position that was taken; before the first, zeros, which no message is refused for.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    epoch: u64,
    number: u64,
    any: bool,
}

impl Positions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            state: Mutex::default(),
            max,
        }
    }

    /// Waits for the stream's turn, and says whether the message at this position may be taken.
    pub(super) async fn turn(&self, position: &Position) -> Result<Turn, Refusal> {
        let stream = self.stream(&position.stream);
        let last = stream.lock_owned().await;
        if last.any && position.epoch < last.epoch {
            return Err(Refusal::StaleEpoch);
        }
        if last.any && position.number <= last.number {
            return Err(Refusal::Repeated);
        }
        let next = Last {
            epoch: position.epoch,
            number: position.number,
            any: true,
        };
        Ok(Turn { last, next })
    }

    fn stream(&self, name: &str) -> Arc<tokio::sync::Mutex<Last>> {
        let State { streams, turns } = &mut *self.state.lock();
        *turns += 1;
        if let Some(stream) = streams.get_mut(name) {
            stream.turn = *turns;
            return Arc::clone(&stream.last);
        }
        if streams.len() >= self.max {
            // One whose turn is taken stays: it would come again as a second one.
            let idle = streams
                .iter()
                .filter(|(_, stream)| Arc::strong_count(&stream.last) == 1);
            let oldest = idle.min_by_key(|(_, stream)| stream.turn);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                streams.remove(&oldest);
            }
        }
        let last = Arc::default();
        let stream = Stream {
            last: Arc::clone(&last),
            turn: *turns,
        };
        streams.insert(name.to_owned(), stream);
        last
    }
}

impl Turn {
    /// Notes that the message is taken. A turn that is dropped leaves the stream as it was.
    pub(super) fn take(mut self) {
        *self.last = self.next;
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

    #[tokio::test]
    async fn what_was_taken_is_not_taken_again() {
        let positions = Positions::new(2);
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
        let positions = Positions::new(2);
        for (stream, number) in [("a", 8), ("b", 9), ("a", 9), ("c", 9)] {
            take(&positions, at(stream, 1, number)).await;
        }
        let repeated = Err(Refusal::Repeated);
        assert_eq!(check(&positions, at("a", 1, 9)).await, repeated);
        assert_eq!(check(&positions, at("b", 1, 9)).await, Ok(()));
    }

    #[tokio::test]
    async fn a_position_that_is_being_taken_is_waited_for() {
        let positions = Positions::new(1);
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
}
