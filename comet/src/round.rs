//! Read buffers, shared by all connections: one is borrowed for a read and given back before the task waits again, so as
//! many exist as reads run at once, not as connections are open.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use parking_lot::Mutex;

/// Buffers that one round keeps; what is given back beyond is freed. Far above the number of threads that read at once.
const KEPT: usize = 64;

/// A pool of read buffers of one size.
pub struct Round {
    free: Mutex<Vec<Box<[u8]>>>,
    /// Bytes of a buffer.
    size: usize,
}

/// A borrowed buffer. Its content is whatever was read into it last.
#[derive(Debug)]
pub struct Buffer<'a> {
    round: &'a Round,
    bytes: Option<Box<[u8]>>,
}

impl Round {
    /// A pool of buffers of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self {
            free: Mutex::default(),
            size,
        }
    }

    /// Borrows a buffer.
    pub fn buffer(&self) -> Buffer<'_> {
        let kept = self.free.lock().pop();
        let bytes = kept.unwrap_or_else(|| vec![0; self.size].into_boxed_slice());
        Buffer {
            round: self,
            bytes: Some(bytes),
        }
    }
}

impl fmt::Debug for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Round")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            let mut free = self.round.free.lock();
            if free.len() < KEPT {
                free.push(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_back_is_lent_again() {
        let round = Round::new(16);
        let mut first = round.buffer();
        first[0] = 7;
        assert_eq!(first.len(), 16);
        drop(first);
        assert_eq!(round.buffer()[0], 7);
        let both = (round.buffer(), round.buffer());
        assert_eq!((both.0.len(), both.1.len()), (16, 16));
    }
}
