//! The answers that a connection owes its client. goim keeps them in a ring of slots and ends the connection when it is full;
//! here a full ring stops the reading until answers are written.

/// How many answers are owed, of how many that may be.
#[derive(Debug)]
pub(super) struct Ring {
    owed: u32,
    size: u32,
}

impl Ring {
    pub(super) fn new(size: u32) -> Self {
        Self { owed: 0, size }
    }

    /// More answers will have to be written.
    pub(super) fn owe(&mut self, replies: u32) {
        self.owed = self.owed.saturating_add(replies);
    }

    /// Answers were written. Returns whether that ended a full ring.
    pub(super) fn pay(&mut self, replies: u32) -> bool {
        let was_full = self.is_full();
        self.owed = self.owed.saturating_sub(replies);
        was_full && !self.is_full()
    }

    pub(super) fn is_full(&self) -> bool {
        self.owed >= self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_full_at_its_size_and_says_when_that_ends() {
        let mut ring = Ring::new(2);
        ring.owe(1);
        assert!(!ring.is_full());
        ring.owe(2);
        assert!(ring.is_full());
        assert!(!ring.pay(1));
        assert!(ring.pay(1));
        assert!(!ring.pay(1));
    }
}
