//! WebSocket as a client needs it here: the upgrade, masked messages out, and the walk over the headers of messages in.

use std::net::SocketAddr;

use super::frames::{FrameWalk, Seen, WalkError};

/// goim's path.
const PATH: &str = "/sub";

/// The longest answer to an upgrade, in bytes.
const MAX_WELCOME: usize = 8192;

/// The longest header of a server's message: never masked.
const MAX_HEADER: usize = 10;

/// The request that upgrades a connection.
pub(super) fn hello(server: SocketAddr) -> Vec<u8> {
    // Servers do not compare keys, so one serves all.
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// Bytes of the answer, once it is there whole.
pub(super) fn welcome(input: &[u8]) -> Result<Option<usize>, WalkError> {
    let refused = || {
        let line = input
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        WalkError::Refused(String::from_utf8_lossy(line).chars().take(100).collect())
    };
    match input.windows(4).position(|four| four == b"\r\n\r\n") {
        Some(at) if input.starts_with(b"HTTP/1.1 101") => Ok(Some(at + 4)),
        Some(_) => Err(refused()),
        None if input.len() > MAX_WELCOME => Err(refused()),
        None => Ok(None),
    }
}

/// A frame as a binary message of a client, under a mask of zeros: servers must unmask, whatever the mask.
pub(super) fn wrap(frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(frame.len() + MAX_HEADER + 4);
    protocol::frame::put_websocket_header(&mut out, frame.len());
    out[1] |= 0x80;
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(frame);
    out
}

/// Where a connection stands in a stream of messages.
#[derive(Debug, Default)]
pub(super) struct MessageWalk {
    /// Bytes of the message that have not come.
    left: u64,
    /// Whether they are a control frame's, which nobody looks at.
    control: bool,
    held: [u8; MAX_HEADER],
    held_len: usize,
}

impl MessageWalk {
    /// Goes on over `input` and hands payloads to `frames`.
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        frames: &mut FrameWalk,
        on: &mut impl FnMut(Seen),
    ) -> Result<(), WalkError> {
        while !input.is_empty() {
            if self.left == 0 {
                input = self.header(input)?;
                continue;
            }
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (payload, rest) = input.split_at(left.min(input.len()));
            self.left -= payload.len() as u64;
            if !self.control {
                frames.feed(payload, on)?;
            }
            input = rest;
        }
        Ok(())
    }

    /// Takes what belongs to a message's header off `input`.
    fn header<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], WalkError> {
        let wanted = match self.held[..self.held_len] {
            [_, 126, ..] => 4,
            [_, 127, ..] => MAX_HEADER,
            _ => 2,
        };
        let taken = input.len().min(wanted - self.held_len);
        let (now, rest) = input.split_at(taken);
        self.held[self.held_len..self.held_len + taken].copy_from_slice(now);
        self.held_len += taken;
        let len = match self.held[..self.held_len] {
            // Extensions were not asked for, and servers must not mask.
            [first, second, ..] if second & 0x80 != 0 || first & 0x70 != 0 => {
                return Err(WalkError::Message([first, second]));
            }
            [_, len] if len < 126 => u64::from(len),
            [_, 126, a, b] => u64::from(u16::from_be_bytes([a, b])),
            [_, 127, ref len @ ..] if len.len() == 8 => {
                len.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
            _ => return Ok(rest),
        };
        self.left = len;
        self.control = self.held[0] & 0x08 != 0;
        self.held_len = 0;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::{codec::Header, op};

    use super::*;

    fn walked(pieces: &[&[u8]]) -> Result<Vec<i32>, WalkError> {
        let mut walk = MessageWalk::default();
        let mut frames = FrameWalk::default();
        let mut seen = Vec::new();
        for piece in pieces {
            walk.feed(piece, &mut frames, &mut |frame| seen.push(frame.op))?;
        }
        Ok(seen)
    }

    fn message(op: i32, body: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        Header::push(op).encode(&vec![1; body], &mut frame);
        let mut out = Vec::new();
        protocol::frame::put_websocket_header(&mut out, frame.len());
        out.extend(frame);
        out
    }

    #[test]
    fn messages_of_each_length_are_walked_in_any_pieces() {
        let bytes = [
            message(op::AUTH_REPLY, 0),
            message(5, 300),
            b"\x89\x02hi".to_vec(),
            message(6, 70_000),
            message(7, 1),
        ]
        .concat();
        let whole = [op::AUTH_REPLY, 5, 6, 7];
        assert_eq!(walked(&[&bytes]).unwrap(), whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(walked(&single).unwrap(), whole);
    }

    #[test]
    fn a_masked_message_is_an_error() {
        assert_eq!(
            walked(&[b"\x82\x81zzzz"]),
            Err(WalkError::Message([0x82, 0x81]))
        );
    }

    #[test]
    fn the_upgrade_is_taken_off_and_a_refusal_is_told() {
        let input = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n\x82";
        assert_eq!(welcome(&input[..20]), Ok(None));
        assert_eq!(welcome(input), Ok(Some(input.len() - 1)));
        let refusal = welcome(b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(
            refusal,
            Err(WalkError::Refused("HTTP/1.1 404 Not Found".into()))
        );
    }

    #[test]
    fn a_wrapped_frame_is_masked() {
        assert_eq!(wrap(b"ab"), b"\x82\x82\0\0\0\0ab");
        assert_eq!(wrap(&[7; 200])[..8], [0x82, 0xfe, 0, 200, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn mangled_input_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            drop(walked(&pieces));
        }
    }
}
