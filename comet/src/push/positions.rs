//! What was taken of ordered stores that may send a message again after a change of hands: the last position of each stream.

use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{Position, grpc::comet::v1::Refusal};

/// The last positions taken, by stream.
#[derive(Debug)]
pub(super) struct Positions {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
    /// Streams remembered; beyond, the one that was taken from longest ago is forgotten.
    max: usize,
}

#[derive(Debug, Default)]
struct State {
    taken: HashMap<String, Taken>,
    turns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    epoch: u64,
    number: u64,
    /// The count of all takings then: tells which was longest ago.
    turn: u64,
}

impl Positions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            max,
        }
    }

    /// Waits until no other message is between [`Self::check`] and [`Self::take`].
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Whether a message at this position may be taken.
    pub(super) fn check(&self, position: &Position) -> Result<(), Refusal> {
        match self.state.lock().taken.get(&position.stream) {
            Some(last) if position.epoch < last.epoch => Err(Refusal::StaleEpoch),
            Some(last) if position.number <= last.number => Err(Refusal::Repeated),
            _ => Ok(()),
        }
    }

    /// Notes that the message at this position is taken.
    pub(super) fn take(&self, position: &Position) {
        let State { taken, turns } = &mut *self.state.lock();
        *turns += 1;
        if !taken.contains_key(&position.stream) && taken.len() >= self.max {
            let oldest = taken.iter().min_by_key(|(_, last)| last.turn);
            if let Some(oldest) = oldest.map(|(stream, _)| stream.clone()) {
                taken.remove(&oldest);
            }
        }
        let Position {
            stream,
            epoch,
            number,
        } = position.clone();
        taken.insert(
            stream,
            Taken {
                epoch,
                number,
                turn: *turns,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stream: &str, epoch: u64, number: u64) -> Position {
        Position {
            stream: stream.into(),
            epoch,
            number,
        }
    }

    #[test]
    fn what_was_taken_is_not_taken_again() {
        let positions = Positions::new(2);
        assert_eq!(positions.check(&at("a", 1, 5)), Ok(()));
        positions.take(&at("a", 1, 5));
        assert_eq!(positions.check(&at("a", 1, 5)), Err(Refusal::Repeated));
        assert_eq!(positions.check(&at("a", 2, 4)), Err(Refusal::Repeated));
        assert_eq!(positions.check(&at("a", 2, 6)), Ok(()));
        positions.take(&at("a", 2, 6));
        assert_eq!(positions.check(&at("a", 1, 7)), Err(Refusal::StaleEpoch));
        assert_eq!(positions.check(&at("b", 1, 1)), Ok(()));
    }

    #[test]
    fn the_stream_that_was_longest_silent_is_forgotten() {
        let positions = Positions::new(2);
        for stream in ["a", "b", "a", "c"] {
            positions.take(&at(stream, 1, 9));
        }
        assert_eq!(positions.check(&at("a", 1, 9)), Err(Refusal::Repeated));
        assert_eq!(positions.check(&at("b", 1, 9)), Ok(()));
    }
}
