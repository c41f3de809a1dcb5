//! A message of which not every fragment has come.

use super::{Kind, WebSocketError};

/// Fragments of one message. A fragment costs its handling and no memory of its own, and one that is not empty counts
/// against the message's length; so this bounds work only. Conformance suites send 4 MiB in pieces of 64 bytes: 65,536.
const MAX_FRAGMENTS: u32 = 1 << 17;

/// Fragments of one message that hold nothing: no limit on bytes would ever end a stream of them. Clients that flush a
/// writer send one or two.
const MAX_EMPTY_FRAGMENTS: u32 = 64;

#[derive(Debug)]
pub(super) struct Partial {
    kind: Kind,
    payload: Vec<u8>,
    /// Bytes at the payload's start that are whole UTF-8 characters; text only.
    valid: usize,
    fragments: u32,
    empty: u32,
}

impl Partial {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            payload: Vec::new(),
            valid: 0,
            fragments: 0,
            empty: 0,
        }
    }

    /// Bytes that have come.
    pub(super) fn len(&self) -> usize {
        self.payload.len()
    }

    /// Takes the next fragment, unmasked. Text is judged as it comes: only a character that may still be completed waits.
    pub(super) fn push(&mut self, fragment: &[u8]) -> Result<(), WebSocketError> {
        self.fragments += 1;
        self.empty += u32::from(fragment.is_empty());
        if self.fragments > MAX_FRAGMENTS || self.empty > MAX_EMPTY_FRAGMENTS {
            return Err(WebSocketError::TooManyFragments);
        }
        self.payload.extend_from_slice(fragment);
        if self.kind == Kind::Text {
            self.valid += valid_prefix(&self.payload[self.valid..])?;
        }
        Ok(())
    }

    /// The whole message, after its last fragment.
    pub(super) fn finish(self) -> Result<(Kind, Vec<u8>), WebSocketError> {
        if self.kind == Kind::Text && self.valid != self.payload.len() {
            return Err(WebSocketError::InvalidUtf8);
        }
        Ok((self.kind, self.payload))
    }
}

/// How many bytes of `text` are whole characters, when the rest may still become one.
fn valid_prefix(text: &[u8]) -> Result<usize, WebSocketError> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(text.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(WebSocketError::InvalidUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_of_fragments_end() {
        let mut partial = Partial::new(Kind::Binary);
        for _ in 0..MAX_EMPTY_FRAGMENTS {
            partial.push(b"").unwrap();
        }
        assert_eq!(partial.push(b""), Err(WebSocketError::TooManyFragments));

        let mut partial = Partial::new(Kind::Binary);
        for _ in 0..MAX_FRAGMENTS {
            partial.push(b"x").unwrap();
        }
        assert_eq!(partial.push(b"x"), Err(WebSocketError::TooManyFragments));
    }
}
