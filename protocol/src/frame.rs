//! A message encoded once, for every connection that gets it.
//!
//! A [`Frame`] is one immutable buffer, `[WebSocket header][goim header][body]`, shared by reference. WebSocket writes all
//! of it; TCP writes it from the goim header on. Several messages joined are a Raw (operation 9):
//! `[WebSocket header][Raw header][frame][frame]...`, of which TCP writes the inner frames alone, as goim does.

use std::sync::Arc;

use bytes::BufMut as _;
use thiserror::Error;

use crate::{
    codec::{self, DecodeError, Decoded, HEADER_LEN, Header},
    message::Meta,
    op,
};

/// The longest WebSocket header of a server: 2 bytes and a 64-bit length (RFC 6455 section 5.2).
pub const MAX_WEBSOCKET_HEADER: usize = 10;

/// FIN and the opcode for binary (RFC 6455 section 5.2).
const FINAL_BINARY: u8 = 0x82;

/// One or more messages in the bytes that go to clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Frame(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    bytes: Box<[u8]>,
    /// Where TCP's part starts.
    tcp_from: usize,
    /// One for each message inside.
    meta: Box<[Meta]>,
}

/// Why the body of a Raw that a pusher made is refused: the pusher is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RawError {
    /// There is no frame inside.
    #[error("the Raw is empty")]
    Empty,
    /// One of its frames is malformed.
    #[error("frame {index} of the Raw: {error}")]
    Frame {
        /// Counted from 0.
        index: usize,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The last frame is cut off.
    #[error("frame {index} of the Raw is cut off: it needs {need} bytes and has {have}")]
    Truncated {
        /// Counted from 0.
        index: usize,
        /// Bytes that it announces (at least a header's).
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// There are too many frames inside.
    #[error("the Raw holds more than {max} frames")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

impl Frame {
    /// The frame of one message.
    pub fn message(header: Header, body: &[u8], meta: Meta) -> Self {
        Self::build(&[&header.to_bytes(body.len()), body], 0, Box::new([meta]))
    }

    /// Joins the messages of `frames` into one, in their order. A single frame stays as it is.
    pub fn join(frames: &[Self]) -> Self {
        if let [one] = frames {
            return one.clone();
        }
        let len = frames.iter().map(|frame| frame.tcp().len()).sum();
        let header = Header::push(op::RAW).to_bytes(len);
        let mut parts: Vec<&[u8]> = Vec::with_capacity(frames.len() + 1);
        parts.push(&header);
        parts.extend(frames.iter().map(Self::tcp));
        let meta = frames.iter().flat_map(|frame| frame.meta().iter().cloned());
        Self::build(&parts, HEADER_LEN, meta.collect())
    }

    /// Takes the body of a Raw that a pusher made, checking every frame inside once; `meta` names each of them. A Raw of one
    /// message becomes that message.
    ///
    /// `max_body` bounds each inner body in bytes, `max_frames` their number.
    pub fn from_raw(
        body: &[u8],
        max_body: usize,
        max_frames: usize,
        meta: impl FnMut() -> Meta,
    ) -> Result<Self, RawError> {
        let count = count_frames(body, max_body, max_frames)?;
        let meta: Box<[Meta]> = std::iter::repeat_with(meta).take(count).collect();
        if count == 1 {
            return Ok(Self::build(&[body], 0, meta));
        }
        let header = Header::push(op::RAW).to_bytes(body.len());
        Ok(Self::build(&[&header, body], HEADER_LEN, meta))
    }

    /// What a WebSocket connection is sent: one binary message.
    pub fn websocket(&self) -> &[u8] {
        &self.0.bytes
    }

    /// What a TCP connection is sent.
    pub fn tcp(&self) -> &[u8] {
        &self.0.bytes[self.0.tcp_from..]
    }

    /// The identity of each message inside, in their order.
    pub fn meta(&self) -> &[Meta] {
        &self.0.meta
    }

    /// How many messages are inside: what every bound and counter counts.
    pub fn messages(&self) -> usize {
        self.0.meta.len()
    }

    /// The operation of each message inside, in their order.
    pub fn operations(&self) -> impl Iterator<Item = i32> {
        let mut rest = self.tcp();
        std::iter::from_fn(move || {
            let head = rest.first_chunk::<HEADER_LEN>()?;
            let [l0, l1, l2, l3, _, _, _, _, o0, o1, o2, o3, ..] = *head;
            let len = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).ok()?;
            rest = rest.get(len.max(HEADER_LEN)..).unwrap_or_default();
            Some(i32::from_be_bytes([o0, o1, o2, o3]))
        })
    }

    /// `skip`: bytes of the payload that TCP is not sent.
    fn build(payload: &[&[u8]], skip: usize, meta: Box<[Meta]>) -> Self {
        let len = payload.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(websocket_header_len(len) + len);
        put_websocket_header(&mut bytes, len);
        let tcp_from = bytes.len() + skip;
        for part in payload {
            bytes.extend_from_slice(part);
        }
        Self(Arc::new(Encoded {
            bytes: bytes.into_boxed_slice(),
            tcp_from,
            meta,
        }))
    }
}

/// Appends the header of an unmasked, final, binary WebSocket message of `len` payload bytes.
pub fn put_websocket_header(out: &mut Vec<u8>, len: usize) {
    out.put_u8(FINAL_BINARY);
    if len < 126 {
        #[expect(clippy::cast_possible_truncation, reason = "below 126")]
        out.put_u8(len as u8);
    } else if let Ok(len) = u16::try_from(len) {
        out.put_u8(126);
        out.put_u16(len);
    } else {
        out.put_u8(127);
        out.put_u64(len as u64);
    }
}

/// Bytes of the header that [`put_websocket_header`] writes.
pub fn websocket_header_len(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..65_536 => 4,
        _ => MAX_WEBSOCKET_HEADER,
    }
}

fn count_frames(body: &[u8], max_body: usize, max_frames: usize) -> Result<usize, RawError> {
    let mut rest = body;
    let mut count = 0;
    while !rest.is_empty() {
        if count == max_frames {
            return Err(RawError::TooMany { max: max_frames });
        }
        let decoded = codec::decode(rest, max_body).map_err(|error| RawError::Frame {
            index: count,
            error,
        })?;
        match decoded {
            Decoded::Frame { len, .. } => rest = &rest[len..],
            Decoded::Incomplete { need } => {
                let have = rest.len();
                return Err(RawError::Truncated {
                    index: count,
                    need,
                    have,
                });
            }
        }
        count += 1;
    }
    if count == 0 {
        Err(RawError::Empty)
    } else {
        Ok(count)
    }
}
