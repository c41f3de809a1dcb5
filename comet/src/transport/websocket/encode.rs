//! The frames of a server: never masked, never fragmented. What is pushed to many is a `protocol::Frame`; these are the
//! frames of one connection.

use protocol::frame::{put_websocket_header, websocket_header_len};

use super::assembler::{Kind, MAX_CONTROL};

/// FIN and the opcode for text.
const FINAL_TEXT: u8 = 0x81;
/// FIN and the opcode for Close.
const FINAL_CLOSE: u8 = 0x88;
/// FIN and the opcode for Pong.
const FINAL_PONG: u8 = 0x8a;

/// A Close frame with its code and a reason, of which at most 123 bytes are sent, cut between characters.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL - 2)];
    control(FINAL_CLOSE, &[&code.to_be_bytes(), reason.as_bytes()])
}

/// The answer to a Ping, with its payload: at most 125 bytes, as every control frame's.
pub fn pong(payload: &[u8]) -> Vec<u8> {
    control(FINAL_PONG, &[&payload[..payload.len().min(MAX_CONTROL)]])
}

/// A whole message.
pub fn message(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(websocket_header_len(payload.len()) + payload.len());
    put_websocket_header(&mut frame, payload.len());
    if kind == Kind::Text {
        frame[0] = FINAL_TEXT;
    }
    frame.extend_from_slice(payload);
    frame
}

/// `parts` are at most 125 bytes together.
fn control(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(2 + len);
    put_websocket_header(&mut frame, len);
    frame[0] = first;
    for part in parts {
        frame.extend_from_slice(part);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_carries_code_and_reason() {
        assert_eq!(close_frame(1002, "why"), b"\x88\x05\x03\xeawhy");
        assert_eq!(close_frame(1000, ""), b"\x88\x02\x03\xe8");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(1000, &"a".repeat(200));
        assert_eq!((frame[1], frame.len()), (125, 127));
        // 122 bytes, then a character of two that would end at 124.
        let frame = close_frame(1000, &("a".repeat(122) + "\u{e9}"));
        assert_eq!((frame[1], frame.len()), (124, 126));
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    #[test]
    fn pong_repeats_the_payload() {
        assert_eq!(pong(b"hi"), b"\x8a\x02hi");
        assert_eq!(pong(&[7; 125]).len(), 127);
        assert_eq!(pong(&[7; 300])[1], 125);
    }

    #[test]
    fn messages_have_their_kind_and_shortest_length() {
        assert_eq!(message(Kind::Text, b"hi"), b"\x81\x02hi");
        assert_eq!(message(Kind::Binary, b""), b"\x82\x00");
        assert_eq!(&message(Kind::Text, &[b'a'; 126])[..4], b"\x81\x7e\x00\x7e");
        let long = message(Kind::Binary, &vec![0; 65_536]);
        assert_eq!(&long[..10], b"\x82\x7f\0\0\0\0\0\x01\0\0");
    }
}
