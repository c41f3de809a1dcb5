//! A client's bytes on either door. No I/O.

use protocol::{Decoded, HEADER_LEN, codec, op};

use super::client::{Packet, Received};

/// The largest frame that a test makes a server send.
const MAX_BODY: usize = 16 << 20;

/// The mask of this client's frames. Any will do, but one of zeros would not be seen.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The bit beside a frame's length that says so.
const MASKED: u8 = 0x80;

/// By which a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Tcp,
    WebSocket,
}

/// How frames go over a door.
pub trait Wire: Send {
    /// What is sent for some frames.
    fn encode(&self, frames: &[u8]) -> Vec<u8>;

    /// Takes the first thing that is there whole off `input`.
    fn decode(&mut self, input: &mut Vec<u8>) -> Option<Received>;

    /// How many Raw headers came.
    fn raws(&self) -> usize;
}

/// goim's frames as they are.
pub struct Tcp;

/// goim's frames in binary messages.
#[derive(Default)]
pub struct WebSocket {
    /// Frames of the last message, the last of them first.
    rest: Vec<Packet>,
    raws: usize,
}

impl Door {
    /// How this door's bytes look.
    pub fn wire(self) -> Box<dyn Wire> {
        match self {
            Self::Tcp => Box::new(Tcp),
            Self::WebSocket => Box::<WebSocket>::default(),
        }
    }

    /// The door in comet's metrics.
    pub fn label(self) -> comet::transport::Door {
        match self {
            Self::Tcp => comet::transport::Door::Tcp,
            Self::WebSocket => comet::transport::Door::WebSocket,
        }
    }
}

impl Wire for Tcp {
    fn encode(&self, frames: &[u8]) -> Vec<u8> {
        frames.to_vec()
    }

    fn decode(&mut self, input: &mut Vec<u8>) -> Option<Received> {
        let (packet, len) = first_packet(input)?;
        assert_ne!(packet.op, op::RAW, "a Raw has no header over TCP");
        input.drain(..len);
        Some(Received::Packet(packet))
    }

    fn raws(&self) -> usize {
        0
    }
}

impl Wire for WebSocket {
    fn encode(&self, frames: &[u8]) -> Vec<u8> {
        message(0x82, frames)
    }

    fn decode(&mut self, input: &mut Vec<u8>) -> Option<Received> {
        loop {
            if let Some(packet) = self.rest.pop() {
                return Some(Received::Packet(packet));
            }
            let (first, start, len) = head(input)?;
            let end = start + len;
            if input.len() < end {
                return None;
            }
            let payload = input[start..end].to_vec();
            input.drain(..end);
            match first {
                0x82 => {
                    let (packets, raws) = walk(&payload);
                    self.rest = packets;
                    self.rest.reverse();
                    self.raws += raws;
                }
                0x8a => return Some(Received::Pong(payload)),
                0x88 => return Some(closed(&payload)),
                other => panic!("a frame of the server begins with {other:#x}"),
            }
        }
    }

    fn raws(&self) -> usize {
        self.raws
    }
}

/// One masked frame that is a whole message or a control frame; `first` has FIN and the opcode.
pub fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(MASKED + u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            bytes.push(MASKED + 126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(MASKED + 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let masked = payload.iter().zip(MASK.into_iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The first byte, where the payload starts, and its length.
fn head(input: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (input.first()?, input.get(1)?);
    let (start, len) = match second {
        126 => (
            4,
            u64::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)),
        ),
        127 => (10, u64::from_be_bytes(*input.get(2..)?.first_chunk()?)),
        len @ 0..126 => (2, u64::from(len)),
        masked => panic!("the server masks: {masked:#x}"),
    };
    Some((first, start, usize::try_from(len).unwrap()))
}

fn closed(payload: &[u8]) -> Received {
    let (code, reason) = payload.split_first_chunk::<2>().expect("a close code");
    Received::Close {
        code: u16::from_be_bytes(*code),
        reason: String::from_utf8(reason.to_vec()).unwrap(),
    }
}

/// The frames of a message, those of a Raw in its place, and how many Raws there were.
fn walk(mut payload: &[u8]) -> (Vec<Packet>, usize) {
    let mut packets = Vec::new();
    let mut raws = 0;
    while !payload.is_empty() {
        let (packet, len) = first_packet(payload).expect("a message holds whole frames");
        payload = &payload[len..];
        if packet.op == op::RAW {
            let (inner, deeper) = walk(&packet.body);
            assert_eq!(deeper, 0, "no Raw within a Raw");
            packets.extend(inner);
            raws += 1;
        } else {
            packets.push(packet);
        }
    }
    (packets, raws)
}

fn first_packet(input: &[u8]) -> Option<(Packet, usize)> {
    match codec::decode(input, MAX_BODY).expect("the server's frames are whole") {
        Decoded::Incomplete { need } => {
            assert!(need >= HEADER_LEN);
            None
        }
        Decoded::Frame { header, body, len } => Some((
            Packet {
                ver: header.ver,
                op: header.op,
                seq: header.seq,
                body: body.to_vec(),
            },
            len,
        )),
    }
}
