//! What a client's frames amount to: whole messages and control frames.

use std::{io::Cursor, ops::Range};

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::{WebSocketError, mask, partial::Partial};

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL: usize = 125;

/// How a message is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its payload is UTF-8.
    Text,
    /// Its payload is any bytes.
    Binary,
}

/// Where a message's payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In the input, unmasked.
    InPlace(Range<usize>),
    /// Put together from fragments.
    Assembled(Vec<u8>),
}

/// What the client says with a Close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// One that a Close frame may carry (RFC 6455 section 7.4).
    pub code: u16,
    /// The reason within the input: UTF-8, at most 123 bytes.
    pub reason: Range<usize>,
}

/// One message or control frame of the client. Ranges are within the input that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message {
        /// Text or binary.
        kind: Kind,
        /// Its bytes.
        payload: Payload,
    },
    /// To be answered with a Pong of the same payload: at most 125 bytes.
    Ping(Range<usize>),
    /// Needs nothing.
    Pong,
    /// A part of a message that has not ended: taken in, needs nothing.
    Fragment,
    /// The client is done: nothing after it counts. `None`: it gave no code.
    Close(Option<CloseFrame>),
}

/// Puts a client's fragments together. One pointer as long as there are none.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
}

/// A frame whose header obeys the rules, at the front of the input.
struct Head {
    opcode: OpCode,
    last: bool,
    mask: [u8; 4],
    /// Where the payload starts.
    start: usize,
    /// Of the payload, as announced.
    len: usize,
}

impl Assembler {
    /// One for a new connection.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// Looks at the front of `input`, the client's bytes as they came. Answers what the first frame amounts to and how many
    /// bytes it took, its payload now unmasked in place; `None`: it has not come whole, and nothing has changed.
    ///
    /// `max_message` bounds a whole message in bytes. A frame is refused as soon as its header is there, before its
    /// payload comes.
    pub fn next(
        &mut self,
        input: &mut [u8],
        max_message: usize,
    ) -> Result<Option<(usize, Incoming)>, WebSocketError> {
        let Some(head) = self.head(input, max_message)? else {
            return Ok(None);
        };
        let end = head.start.saturating_add(head.len);
        let Some(payload) = input.get_mut(head.start..end) else {
            return Ok(None);
        };
        mask::apply(payload, head.mask);
        let incoming = self.frame(&head, payload, head.start..end)?;
        Ok(Some((end, incoming)))
    }

    /// Whether a message has begun and not ended.
    pub const fn is_within_message(&self) -> bool {
        self.partial.is_some()
    }

    /// The first frame's head, once it is there.
    fn head(&self, input: &[u8], max_message: usize) -> Result<Option<Head>, WebSocketError> {
        let mut cursor = Cursor::new(input);
        // Over bytes in memory, the opcode in the first of them is all that it refuses.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| {
            WebSocketError::UnknownOpcode(input.first().map_or(0, |first| first & 0x0f))
        })?;
        let Some((header, announced)) = parsed else {
            return Ok(None);
        };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(WebSocketError::ReservedBits);
        }
        let mask = header.mask.ok_or(WebSocketError::Unmasked)?;
        let len = match header.opcode {
            OpCode::Control(_) => control_len(header.is_final, announced)?,
            OpCode::Data(data) => self.data_len(data, announced, max_message)?,
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most 14")]
        let start = cursor.position() as usize;
        Ok(Some(Head {
            opcode: header.opcode,
            last: header.is_final,
            mask,
            start,
            len,
        }))
    }

    /// The payload's length of a data frame that may come now and is not too long.
    fn data_len(
        &self,
        data: Data,
        announced: u64,
        max_message: usize,
    ) -> Result<usize, WebSocketError> {
        let before = match (data, &self.partial) {
            (Data::Continue, None) => return Err(WebSocketError::UnexpectedContinuation),
            (Data::Continue, Some(partial)) => partial.len(),
            (_, Some(_)) => return Err(WebSocketError::ExpectedContinuation),
            (_, None) => 0,
        };
        let room = max_message.saturating_sub(before);
        match usize::try_from(announced) {
            Ok(len) if len <= room => Ok(len),
            _ => Err(WebSocketError::TooBig {
                len: announced.saturating_add(before as u64),
                max: max_message,
            }),
        }
    }

    /// What a frame amounts to. `payload` is unmasked and at `range` of the input.
    fn frame(
        &mut self,
        head: &Head,
        payload: &[u8],
        range: Range<usize>,
    ) -> Result<Incoming, WebSocketError> {
        let data = match head.opcode {
            OpCode::Control(Control::Ping) => return Ok(Incoming::Ping(range)),
            OpCode::Control(Control::Close) => return close(payload, range),
            OpCode::Control(_) => return Ok(Incoming::Pong),
            OpCode::Data(data) => data,
        };
        let kind = match data {
            Data::Text => Kind::Text,
            _ => Kind::Binary,
        };
        let mut partial = match self.partial.take() {
            None if head.last => return whole(kind, payload, range),
            None => Box::new(Partial::new(kind)),
            Some(partial) => partial,
        };
        partial.push(payload)?;
        if !head.last {
            self.partial = Some(partial);
            return Ok(Incoming::Fragment);
        }
        let (kind, payload) = partial.finish()?;
        Ok(Incoming::Message {
            kind,
            payload: Payload::Assembled(payload),
        })
    }
}

/// The payload's length of a control frame that obeys section 5.5.
fn control_len(last: bool, announced: u64) -> Result<usize, WebSocketError> {
    if !last {
        return Err(WebSocketError::ControlFragmented);
    }
    usize::try_from(announced)
        .ok()
        .filter(|len| *len <= MAX_CONTROL)
        .ok_or(WebSocketError::ControlTooLong(announced))
}

/// A message of one frame.
fn whole(kind: Kind, payload: &[u8], range: Range<usize>) -> Result<Incoming, WebSocketError> {
    if kind == Kind::Text {
        std::str::from_utf8(payload).map_err(|_| WebSocketError::InvalidUtf8)?;
    }
    Ok(Incoming::Message {
        kind,
        payload: Payload::InPlace(range),
    })
}

fn close(payload: &[u8], range: Range<usize>) -> Result<Incoming, WebSocketError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Incoming::Close(None)),
            _ => Err(WebSocketError::BadClose),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(WebSocketError::BadCloseCode(code));
    }
    std::str::from_utf8(reason).map_err(|_| WebSocketError::BadCloseReason)?;
    Ok(Incoming::Close(Some(CloseFrame {
        code,
        reason: range.start + 2..range.end,
    })))
}

/// Whether a Close frame may carry `code`: those of section 7.4.1 and of its registry that are not for local use only, and
/// those of libraries and applications.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests;
