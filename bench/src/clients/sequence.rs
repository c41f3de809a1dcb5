//! What one connection has received of its stream: gaps, what came late, what came twice.

/// How many messages back lateness and repetition are told apart.
const WINDOW: u64 = 128;

/// The place of a connection in its stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    /// The index after the greatest that came.
    next: u64,
    /// Which of the indices before `next` came, the latest in the lowest bit.
    came: u128,
    /// Gaps that were not filled.
    missing: u64,
    duplicated: u32,
    reordered: u32,
}

/// What a message is to the connection that gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Later than all before it, which leaves a gap of so many.
    New {
        /// Messages that it has overtaken, or that are lost.
        skipped: u64,
    },
    /// It fills a gap.
    Late,
    /// It had come before. One so late that this is not known counts as such, and stays missing.
    Again,
}

impl Default for Sequence {
    fn default() -> Self {
        Self {
            next: 0,
            // Nothing before the first is waited for.
            came: u128::MAX,
            missing: 0,
            duplicated: 0,
            reordered: 0,
        }
    }
}

impl Sequence {
    /// A message has come.
    pub(super) fn take(&mut self, index: u64) -> Arrival {
        if index >= self.next {
            let skipped = index - self.next;
            self.came = if skipped < WINDOW - 1 {
                self.came << (skipped + 1)
            } else {
                0
            };
            self.came |= 1;
            self.next = index + 1;
            self.missing += skipped;
            return Arrival::New { skipped };
        }
        let back = self.next - 1 - index;
        let bit = 1_u128.checked_shl(u32::try_from(back).unwrap_or(u32::MAX));
        match bit {
            Some(bit) if self.came & bit == 0 => {
                self.came |= bit;
                self.missing -= 1;
                self.reordered = self.reordered.saturating_add(1);
                Arrival::Late
            }
            _ => {
                self.duplicated = self.duplicated.saturating_add(1);
                Arrival::Again
            }
        }
    }

    /// How many of the first `end` messages did not come.
    pub(super) fn lost(&self, end: u64) -> u64 {
        self.missing + end.saturating_sub(self.next)
    }

    /// How many came twice.
    pub(super) fn duplicated(&self) -> u64 {
        self.duplicated.into()
    }

    /// How many came behind one that was sent after them.
    pub(super) fn reordered(&self) -> u64 {
        self.reordered.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(indices: &[u64], end: u64) -> (u64, u64, u64) {
        let mut sequence = Sequence::default();
        for index in indices {
            sequence.take(*index);
        }
        (
            sequence.lost(end),
            sequence.reordered(),
            sequence.duplicated(),
        )
    }

    #[test]
    fn each_fault_is_told() {
        assert_eq!(counts(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(counts(&[0, 1, 2], 4), (1, 0, 0));
        assert_eq!(counts(&[1, 3], 4), (2, 0, 0));
        assert_eq!(counts(&[1, 0, 2], 3), (0, 1, 0));
        assert_eq!(counts(&[0, 0, 1, 1], 2), (0, 0, 2));
        assert_eq!(counts(&[500, 499, 499, 0], 501), (499, 1, 2));
        assert_eq!(counts(&[127, 0, 128, 1], 129), (125, 2, 0));
    }

    proptest! {
        #[test]
        fn any_order_is_counted(indices in prop::collection::vec(0_u64..100, 0..200)) {
            let mut distinct = indices.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let (lost, _, duplicated) = counts(&indices, 100);
            prop_assert_eq!(lost, 100 - distinct.len() as u64);
            prop_assert_eq!(duplicated, (indices.len() - distinct.len()) as u64);
        }
    }
}
