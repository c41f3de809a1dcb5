//! What a client's bytes amount to, behind either door: protos, and WebSocket's own pings and Closes.

use protocol::{DecodeError, Decoded, Header, codec};

use super::websocket::{Assembler, Incoming, Payload};
use crate::close::CloseReason;

/// The bounds of what a client sends.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    /// Bytes of a frame's body.
    pub max_body: usize,
    /// Bytes of a WebSocket message.
    pub max_message: usize,
}

/// One thing that a client sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A frame.
    Proto(Header, &'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// The client closes, with its code.
    Close(Option<u16>),
}

/// The reading state of one connection. It keeps nothing but the bytes of what has not come whole.
#[derive(Debug)]
pub struct Intake {
    parser: Parser,
    /// Bytes that came and are not parsed yet.
    rest: Vec<u8>,
}

/// The bytes at hand during one turn of reading.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a mut [u8],
    at: usize,
    /// What was taken, one by one.
    frames: u32,
}

#[derive(Debug)]
enum Parser {
    Tcp,
    WebSocket(WebSocket),
}

#[derive(Debug, Default)]
struct WebSocket {
    assembler: Assembler,
    /// Bytes at the front of what is not parsed that belong to a message already unmasked.
    unmasked: usize,
    /// A message that came in fragments, and how much of it is parsed.
    assembled: Option<Box<(Vec<u8>, usize)>>,
}

impl Intake {
    /// For a TCP client.
    pub fn tcp() -> Self {
        Self::tcp_after(Vec::new())
    }

    /// For a TCP client behind TLS; `early` came with the end of its handshake.
    pub fn tcp_after(early: Vec<u8>) -> Self {
        Self {
            parser: Parser::Tcp,
            rest: early,
        }
    }

    /// For a WebSocket client after its handshake; `early` came behind the handshake.
    pub fn websocket(early: &[u8]) -> Self {
        Self {
            parser: Parser::WebSocket(WebSocket::default()),
            rest: early.to_vec(),
        }
    }

    /// Whether bytes wait that may hold something whole: early ones, or what a full ring left unparsed.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty() || self.parser.has_assembled()
    }

    /// Parses what waits followed by `fresh`: calls `handle` with a view of the bytes, from which it takes what it wants by
    /// [`Parsing::next`]; what it leaves is kept.
    pub fn feed<R>(&mut self, fresh: &mut [u8], handle: impl FnOnce(&mut Parsing<'_>) -> R) -> R {
        let mut rest = std::mem::take(&mut self.rest);
        let bytes = if rest.is_empty() {
            &mut *fresh
        } else {
            rest.extend_from_slice(fresh);
            &mut rest[..]
        };
        let mut parsing = Parsing {
            parser: &mut self.parser,
            bytes: Input {
                bytes,
                at: 0,
                frames: 0,
            },
        };
        let result = handle(&mut parsing);
        let at = parsing.bytes.at;
        self.parser.drop_parsed();
        if rest.is_empty() {
            self.rest = fresh[at..].to_vec();
        } else if at < rest.len() {
            rest.drain(..at);
            rest.shrink_to_fit();
            self.rest = rest;
        }
        result
    }
}

/// One turn of parsing.
#[derive(Debug)]
pub struct Parsing<'a> {
    parser: &'a mut Parser,
    bytes: Input<'a>,
}

impl Parsing<'_> {
    /// The next thing that is there whole. The client is at fault for every error, and nothing can be parsed after one.
    pub fn next(&mut self, limits: &IntakeLimits) -> Result<Option<Event<'_>>, CloseReason> {
        match self.parser {
            Parser::Tcp => self.bytes.proto(limits),
            Parser::WebSocket(websocket) => websocket.next(&mut self.bytes, limits),
        }
    }

    /// Bytes that were taken so far.
    pub fn taken(&self) -> usize {
        self.bytes.at
    }

    /// What was taken so far, one by one: goim's frames, and of WebSocket's own those that carry none or a part of one.
    pub fn frames(&self) -> u32 {
        self.bytes.frames
    }
}

impl Parser {
    fn has_assembled(&self) -> bool {
        matches!(self, Self::WebSocket(websocket) if websocket.assembled.is_some())
    }

    /// Frees an assembled message of which nothing is left to parse.
    fn drop_parsed(&mut self) {
        if let Self::WebSocket(websocket) = self {
            websocket
                .assembled
                .take_if(|assembled| assembled.1 == assembled.0.len());
        }
    }
}

impl Input<'_> {
    /// A frame from the stream.
    fn proto(&mut self, limits: &IntakeLimits) -> Result<Option<Event<'_>>, CloseReason> {
        match codec::decode(&self.bytes[self.at..], limits.max_body)? {
            Decoded::Incomplete { .. } => Ok(None),
            Decoded::Frame { header, body, len } => {
                self.at += len;
                self.frames += 1;
                Ok(Some(Event::Proto(header, body)))
            }
        }
    }
}

impl WebSocket {
    fn next<'a>(
        &'a mut self,
        input: &'a mut Input<'_>,
        limits: &IntakeLimits,
    ) -> Result<Option<Event<'a>>, CloseReason> {
        self.assembled
            .take_if(|assembled| assembled.1 == assembled.0.len());
        while self.unmasked == 0 && self.assembled.is_none() {
            let start = input.at;
            let next = self
                .assembler
                .next(&mut input.bytes[start..], limits.max_message);
            let Some((consumed, incoming)) = next.map_err(CloseReason::WebSocket)? else {
                return Ok(None);
            };
            input.at += consumed;
            match incoming {
                Incoming::Message {
                    payload: Payload::InPlace(range),
                    ..
                } => {
                    if range.is_empty() {
                        return Err(CloseReason::Malformed);
                    }
                    self.unmasked = range.len();
                    input.at = start + range.start;
                }
                Incoming::Message {
                    payload: Payload::Assembled(message),
                    ..
                } => {
                    if message.is_empty() {
                        return Err(CloseReason::Malformed);
                    }
                    self.assembled = Some(Box::new((message, 0)));
                }
                Incoming::Ping(range) => {
                    input.frames += 1;
                    return Ok(Some(Event::Ping(&input.bytes[start..][range])));
                }
                Incoming::Pong | Incoming::Fragment => input.frames += 1,
                Incoming::Close(frame) => {
                    return Ok(Some(Event::Close(frame.map(|frame| frame.code))));
                }
            }
        }
        if self.unmasked > 0 {
            let message = &input.bytes[input.at..input.at + self.unmasked];
            let (event, len) = proto_of_message(message, limits)?;
            self.unmasked -= len;
            input.at += len;
            input.frames += 1;
            return Ok(Some(event));
        }
        let Some(assembled) = &mut self.assembled else {
            return Ok(None);
        };
        let (message, at) = &mut **assembled;
        let (event, len) = proto_of_message(&message[*at..], limits)?;
        *at += len;
        input.frames += 1;
        Ok(Some(event))
    }
}

/// The first frame of a message: a message holds whole frames.
fn proto_of_message<'a>(
    message: &'a [u8],
    limits: &IntakeLimits,
) -> Result<(Event<'a>, usize), CloseReason> {
    match codec::decode(message, limits.max_body)? {
        Decoded::Incomplete { .. } => Err(CloseReason::Malformed),
        Decoded::Frame { header, body, len } => Ok((Event::Proto(header, body), len)),
    }
}

impl From<DecodeError> for CloseReason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::BodyTooLong { .. } => Self::TooBig,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
