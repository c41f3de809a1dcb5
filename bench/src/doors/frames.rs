//! The walk over goim's frames: headers and marks are read, bodies are jumped over.

use protocol::{HEADER_LEN, op};
use thiserror::Error;

use crate::{DATA, MARK_LEN};

/// A header and a mark: all of a frame that is looked at.
const PREFIX: usize = HEADER_LEN + MARK_LEN;

/// The longest frame that a server may send, in bytes.
const MAX_FRAME: usize = 64 << 20;

/// What a server got wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WalkError {
    /// No goim frame has these lengths.
    #[error("a frame with packLen {pack_len} and headerLen {header_len}")]
    Frame {
        /// As announced.
        pack_len: i32,
        /// As announced.
        header_len: i16,
    },
    /// No server may send this.
    #[error("a WebSocket message begins with {0:02x?}")]
    Message([u8; 2]),
    /// The server does not open the door.
    #[error("the server answers {0:?}")]
    Refused(String),
}

/// What stands at the start of a pushed body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which stream of messages it belongs to.
    pub group: u32,
    /// Its place in the stream, from 0. Of the 64 bits on the wire the group has the upper 24.
    pub index: u64,
    /// When it was sent, or should have been: nanoseconds of the machine's monotonic clock.
    pub sent: u64,
}

impl Mark {
    /// Bits of the index.
    const INDEX_BITS: u32 = 40;

    /// The bytes of the mark.
    pub fn to_bytes(self) -> [u8; MARK_LEN] {
        let place =
            u64::from(self.group) << Self::INDEX_BITS | self.index & ((1 << Self::INDEX_BITS) - 1);
        let mut bytes = [0; MARK_LEN];
        bytes[..8].copy_from_slice(&place.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sent.to_be_bytes());
        bytes
    }

    /// Reads what a body begins with.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let place = u64::from_be_bytes(*bytes.first_chunk()?);
        let sent = u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
        Some(Self {
            group: u32::try_from(place >> Self::INDEX_BITS).ok()?,
            index: place & ((1 << Self::INDEX_BITS) - 1),
            sent,
        })
    }
}

/// A frame that has come whole, or the header of a Raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its operation.
    pub op: i32,
    /// Of a pushed message.
    pub mark: Option<Mark>,
}

/// Where a connection stands in a stream of frames.
#[derive(Debug)]
pub struct FrameWalk {
    /// Bytes of the frame `due` that have not come.
    skip: usize,
    due: Seen,
    held: [u8; PREFIX],
    held_len: usize,
}

impl Default for FrameWalk {
    fn default() -> Self {
        Self {
            skip: 0,
            due: Seen { op: 0, mark: None },
            held: [0; PREFIX],
            held_len: 0,
        }
    }
}

impl FrameWalk {
    /// Goes on over `input`.
    pub fn feed(&mut self, mut input: &[u8], on: &mut impl FnMut(Seen)) -> Result<(), WalkError> {
        while !input.is_empty() {
            if self.skip > 0 {
                input = self.skip_body(input, on);
            } else if self.held_len > 0 {
                input = self.hold(input, on)?;
            } else if let Some(head) = Head::read(input)? {
                input = self.begin(&head, &input[head.prefix..], on);
            } else {
                self.held[..input.len()].copy_from_slice(input);
                self.held_len = input.len();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds to what is held until it is a prefix.
    fn hold<'a>(
        &mut self,
        input: &'a [u8],
        on: &mut impl FnMut(Seen),
    ) -> Result<&'a [u8], WalkError> {
        // A header first: it says whether a mark follows.
        let wanted = if self.held_len < HEADER_LEN {
            HEADER_LEN
        } else {
            PREFIX
        };
        let taken = input.len().min(wanted - self.held_len);
        let (now, rest) = input.split_at(taken);
        self.held[self.held_len..self.held_len + taken].copy_from_slice(now);
        self.held_len += taken;
        match Head::read(&self.held[..self.held_len])? {
            None => Ok(rest),
            Some(head) => {
                self.held_len = 0;
                Ok(self.begin(&head, rest, on))
            }
        }
    }

    fn begin<'a>(&mut self, head: &Head, rest: &'a [u8], on: &mut impl FnMut(Seen)) -> &'a [u8] {
        if head.body == 0 {
            on(head.seen);
            return rest;
        }
        self.due = head.seen;
        self.skip = head.body;
        self.skip_body(rest, on)
    }

    fn skip_body<'a>(&mut self, input: &'a [u8], on: &mut impl FnMut(Seen)) -> &'a [u8] {
        let taken = self.skip.min(input.len());
        self.skip -= taken;
        if self.skip == 0 {
            on(self.due);
        }
        &input[taken..]
    }
}

/// The part of a frame that is looked at.
struct Head {
    seen: Seen,
    /// Bytes of this part.
    prefix: usize,
    /// Bytes behind it.
    body: usize,
}

impl Head {
    /// The head of the frame that begins `input`; nothing while more of it must come.
    fn read(input: &[u8]) -> Result<Option<Self>, WalkError> {
        let Some(header) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [p0, p1, p2, p3, h0, h1, _, _, o0, o1, o2, o3, ..] = *header;
        let pack_len = i32::from_be_bytes([p0, p1, p2, p3]);
        let header_len = i16::from_be_bytes([h0, h1]);
        let op = i32::from_be_bytes([o0, o1, o2, o3]);
        let len = usize::try_from(pack_len)
            .ok()
            .filter(|len| (HEADER_LEN..=MAX_FRAME).contains(len) && header_len == 16)
            .ok_or(WalkError::Frame {
                pack_len,
                header_len,
            })?;
        if op == op::RAW {
            // The frames inside are walked like any others.
            let seen = Seen { op, mark: None };
            return Ok(Some(Self {
                seen,
                prefix: HEADER_LEN,
                body: 0,
            }));
        }
        let marked = op == DATA && len >= PREFIX;
        let prefix = if marked { PREFIX } else { HEADER_LEN };
        let Some(mark) = input.get(HEADER_LEN..prefix) else {
            return Ok(None);
        };
        let seen = Seen {
            op,
            mark: Mark::read(mark),
        };
        Ok(Some(Self {
            seen,
            prefix,
            body: len - prefix,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::codec::Header;

    use super::*;

    fn message(group: u32, index: u64, body: usize) -> Vec<u8> {
        let sent = index * 7;
        let mark = Mark { group, index, sent };
        let mut bytes = mark.to_bytes().to_vec();
        bytes.resize(body.max(MARK_LEN), b'.');
        let mut out = Vec::new();
        Header::push(DATA).encode(&bytes, &mut out);
        out
    }

    fn walked(pieces: &[&[u8]]) -> Result<Vec<Seen>, WalkError> {
        let mut walk = FrameWalk::default();
        let mut seen = Vec::new();
        for piece in pieces {
            walk.feed(piece, &mut |frame| seen.push(frame))?;
        }
        Ok(seen)
    }

    #[test]
    fn a_frame_is_seen_with_its_last_byte() {
        let bytes = message(3, 9, 40);
        let (most, last) = bytes.split_at(bytes.len() - 1);
        assert_eq!(walked(&[most]), Ok(vec![]));
        let mark = Mark {
            group: 3,
            index: 9,
            sent: 63,
        };
        let seen = Seen {
            op: DATA,
            mark: Some(mark),
        };
        assert_eq!(walked(&[most, last]), Ok(vec![seen]));
    }

    #[test]
    fn a_raw_is_walked_into() {
        let inner = [message(0, 1, 32), message(0, 2, 32)].concat();
        let mut bytes = Vec::new();
        Header::push(op::RAW).encode(&inner, &mut bytes);
        let seen = walked(&[&bytes]).unwrap();
        let index = |seen: &Seen| seen.mark.map(|mark| mark.index);
        assert_eq!(
            seen.iter().map(index).collect::<Vec<_>>(),
            [None, Some(1), Some(2)]
        );
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        assert!(walked(&[&[0; 16]]).is_err());
        assert!(walked(&[b"\xff\xff\xff\xff\0\x10\0\x01\0\0\0\x05\0\0\0\0"]).is_err());
        assert!(walked(&[b"\0\0\0\x10\0\x11\0\x01\0\0\0\x05\0\0\0\0"]).is_err());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            frames in prop::collection::vec((0_u32..9, 0_u64..99, 0_usize..90), 1..8),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (group, index, body) in frames {
                bytes.extend(message(group, index, body));
                Header::push(op::HEARTBEAT_REPLY).encode(&[0; 4], &mut bytes);
                Header::push(op::AUTH_REPLY).encode(&[], &mut bytes);
            }
            let whole = walked(&[&bytes]).unwrap();
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            pieces.push(rest);
            prop_assert_eq!(walked(&pieces).unwrap(), whole);
        }

        #[test]
        fn mangled_input_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            drop(walked(&pieces));
        }
    }
}
