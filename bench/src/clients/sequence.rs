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
    /// Later than all before it.
    New,
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
            return Arrival::New;
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

    /// The index after the greatest that came.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Since `self`, which was before `index` came, what has been overtaken by `reach` and had not come: it is taken as
    /// lost. At most `most`, the last ones.
    pub(super) fn given_up(self, index: u64, reach: u64, most: u64) -> impl Iterator<Item = u64> {
        let end = self.next.max(index + 1).saturating_sub(reach);
        let start = self
            .next
            .saturating_sub(reach)
            .max(end.saturating_sub(most));
        (start..end).filter(move |&lost| lost != index && !self.has(lost))
    }

    /// Whether this came, as far back as that is known.
    fn has(&self, index: u64) -> bool {
        let Some(back) = self.next.checked_sub(index + 1) else {
            return false;
        };
        let bit = 1_u128.checked_shl(u32::try_from(back).unwrap_or(u32::MAX));
        bit.is_some_and(|bit| self.came & bit != 0)
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

    #[test]
    fn what_is_overtaken_by_as_many_as_the_reach_is_given_up() {
        let given_up = |indices: &[u64], reach| {
            let mut sequence = Sequence::default();
            let mut lost = Vec::new();
            for &index in indices {
                lost.extend(sequence.given_up(index, reach, 1000));
                sequence.take(index);
            }
            lost
        };
        assert_eq!(given_up(&[0, 2, 1], 0), [1]);
        assert_eq!(given_up(&[0, 2, 1, 3], 2), [0_u64; 0]);
        assert_eq!(given_up(&[0, 2], 2), [0_u64; 0]);
        assert_eq!(given_up(&[0, 2, 3, 4], 2), [1]);
        assert_eq!(given_up(&[4], 2), [0, 1, 2]);
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
