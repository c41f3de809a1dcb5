//! goim's frame: a 16-byte big-endian header, then the body.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | packLen: header and body, in bytes |
//! | 4 | 2 | headerLen: always 16 |
//! | 6 | 2 | ver |
//! | 8 | 4 | op |
//! | 12 | 4 | seq |

use bytes::{Buf as _, BufMut as _};
use thiserror::Error;

use crate::grpc::goim::protocol::Proto;

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// [`HEADER_LEN`] as it stands in the header.
const HEADER_LEN_FIELD: u16 = 16;

/// goim's limit for the body of a frame from a client, in bytes.
pub const DEFAULT_MAX_BODY: usize = 4096;

/// What a header says beside lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Chosen by the client; replies carry the request's.
    pub ver: i16,
    /// The operation: see [`crate::op`].
    pub op: i32,
    /// Chosen by the client; replies carry the request's.
    pub seq: i32,
}

/// The outcome of [`decode`] when nothing is wrong with what has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The frame has not arrived whole.
    Incomplete {
        /// Bytes from the frame's start until more can be said: 16 while the header is not there, then the frame's length.
        need: usize,
    },
    /// The first frame of the input.
    Frame {
        /// Its header.
        header: Header,
        /// Its body, within the input.
        body: &'a [u8],
        /// Bytes of the input that it takes.
        len: usize,
    },
}

/// What a peer got wrong in a frame. Nothing after it can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// packLen does not even cover the header.
    #[error("packLen {0} is below the header's 16 bytes")]
    PackLen(i32),
    /// headerLen is not 16.
    #[error("headerLen {0} is not 16")]
    HeaderLen(i16),
    /// The body is longer than this side takes.
    #[error("a body of {len} bytes is over the limit of {max}")]
    BodyTooLong {
        /// The body's length in bytes, as announced.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// Looks at the frame that starts `input`. Lengths are judged as soon as their bytes are there, so a hostile announcement
/// is refused before anything is kept for it.
pub fn decode(input: &[u8], max_body: usize) -> Result<Decoded<'_>, DecodeError> {
    let Some(len) = frame_len(input, max_body)? else {
        return Ok(Decoded::Incomplete { need: HEADER_LEN });
    };
    if let Some(mut field) = input.get(4..6) {
        let header_len = field.get_i16();
        if header_len != 16 {
            return Err(DecodeError::HeaderLen(header_len));
        }
    }
    let Some(mut fields) = input.get(6..HEADER_LEN) else {
        return Ok(Decoded::Incomplete { need: HEADER_LEN });
    };
    let Some(body) = input.get(HEADER_LEN..len) else {
        return Ok(Decoded::Incomplete { need: len });
    };
    let header = Header {
        ver: fields.get_i16(),
        op: fields.get_i32(),
        seq: fields.get_i32(),
    };
    Ok(Decoded::Frame { header, body, len })
}

/// The length of the whole frame, once its bytes are there.
fn frame_len(input: &[u8], max_body: usize) -> Result<Option<usize>, DecodeError> {
    let Some(mut field) = input.get(..4) else {
        return Ok(None);
    };
    let pack_len = field.get_i32();
    let len = usize::try_from(pack_len).map_err(|_| DecodeError::PackLen(pack_len))?;
    let body = len
        .checked_sub(HEADER_LEN)
        .ok_or(DecodeError::PackLen(pack_len))?;
    if body > max_body {
        return Err(DecodeError::BodyTooLong {
            len: body,
            max: max_body,
        });
    }
    Ok(Some(len))
}

impl Header {
    /// The header of a frame that a server sends of itself: version 1, sequence 0, as goim's pushes.
    pub const fn push(op: i32) -> Self {
        Self { ver: 1, op, seq: 0 }
    }

    /// The header of an answer to this one, under `op`.
    #[must_use]
    pub const fn reply(self, op: i32) -> Self {
        Self { op, ..self }
    }

    /// The 16 bytes before a body of `body_len` bytes. A length that the field cannot hold (2 GiB) is written as its
    /// maximum: callers bound bodies far below.
    pub fn to_bytes(self, body_len: usize) -> [u8; HEADER_LEN] {
        let pack_len = i32::try_from(HEADER_LEN.saturating_add(body_len)).unwrap_or(i32::MAX);
        let mut bytes = [0; HEADER_LEN];
        let mut out = &mut bytes[..];
        out.put_i32(pack_len);
        out.put_u16(HEADER_LEN_FIELD);
        out.put_i16(self.ver);
        out.put_i32(self.op);
        out.put_i32(self.seq);
        bytes
    }

    /// Appends the frame of this header and `body`.
    pub fn encode(self, body: &[u8], out: &mut Vec<u8>) {
        out.reserve(HEADER_LEN + body.len());
        out.extend_from_slice(&self.to_bytes(body.len()));
        out.extend_from_slice(body);
    }
}

impl Proto {
    /// The frame's header for this message. As in goim, `ver` is cut to the 16 bits that the frame has.
    #[expect(clippy::cast_possible_truncation, reason = "goim's own conversion")]
    pub fn header(&self) -> Header {
        Header {
            ver: self.ver as i16,
            op: self.op,
            seq: self.seq,
        }
    }
}
