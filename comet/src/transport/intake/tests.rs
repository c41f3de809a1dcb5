use proptest::prelude::*;
use protocol::frame::put_websocket_header;

use super::*;
use crate::transport::websocket::WebSocketError;

const LIMITS: IntakeLimits = IntakeLimits {
    max_body: 64,
    max_message: 256,
};

/// An event with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Proto(i32, Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
    Error(CloseReason),
}

impl From<Result<Event<'_>, CloseReason>> for Got {
    fn from(event: Result<Event<'_>, CloseReason>) -> Self {
        match event {
            Ok(Event::Proto(header, body)) => Self::Proto(header.seq, body.to_vec()),
            Ok(Event::Ping(payload)) => Self::Ping(payload.to_vec()),
            Ok(Event::Close(code)) => Self::Close(code),
            Err(reason) => Self::Error(reason),
        }
    }
}

/// Feeds `bytes` and takes up to `most` events.
fn take(intake: &mut Intake, bytes: &[u8], most: usize) -> Vec<Got> {
    let mut bytes = bytes.to_vec();
    intake.feed(&mut bytes, |parsing| {
        let mut got = Vec::new();
        while got.len() < most {
            match parsing.next(&LIMITS).transpose() {
                None => break,
                Some(event) => {
                    let is_over = matches!(event, Err(_) | Ok(Event::Close(_)));
                    got.push(event.into());
                    if is_over {
                        break;
                    }
                }
            }
        }
        got
    })
}

fn proto(seq: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header { ver: 1, op: 4, seq };
    header.encode(body, &mut bytes);
    bytes
}

/// A client's frame: masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 250];
    let mut bytes = Vec::new();
    put_websocket_header(&mut bytes, payload.len());
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(0x82, payload)
}

/// How many frames these bytes are.
fn count(intake: &mut Intake, bytes: &[u8]) -> u32 {
    let mut bytes = bytes.to_vec();
    intake.feed(&mut bytes, |parsing| {
        while parsing.next(&LIMITS).unwrap().is_some() {}
        parsing.frames()
    })
}

#[test]
fn each_frame_counts_also_one_that_is_nothing() {
    assert_eq!(count(&mut Intake::tcp(), &tcp_stream().0), 3);
    let pong = frame(0x8a, b"");
    let asking = frame(0x89, b"");
    let two = [proto(1, b""), proto(2, b"")].concat();
    for (expected, bytes) in [
        (2, binary(&two)),
        (3, pong.repeat(3)),
        (2, asking.repeat(2)),
        // Two parts, one of them empty, and the last with two frames.
        (
            4,
            [
                frame(0x02, &two[..3]),
                frame(0, b""),
                frame(0x80, &two[3..]),
            ]
            .concat(),
        ),
    ] {
        assert_eq!(count(&mut Intake::websocket(b""), &bytes), expected);
    }
}

fn tcp_stream() -> (Vec<u8>, Vec<Got>) {
    let bytes = [proto(1, b""), proto(2, b"body"), proto(3, &[9; 64])].concat();
    let got = [(1, vec![]), (2, b"body".to_vec()), (3, vec![9; 64])];
    (bytes, got.map(|(seq, body)| Got::Proto(seq, body)).into())
}

/// Everything that a client may rightly send.
fn websocket_stream() -> (Vec<u8>, Vec<Got>) {
    let three = [proto(2, b"x"), proto(3, b""), proto(4, &[7; 64])].concat();
    let fragmented = [proto(6, b"fragments"), proto(7, b"y")].concat();
    let bytes = [
        binary(&proto(1, b"one")),
        binary(&three),
        frame(0x89, b"ping"),
        // A text message, a Pong without effect.
        frame(0x81, &proto(5, b"text")),
        frame(0x8a, b"pong"),
        // One message in three fragments, with a ping between them.
        frame(0x02, &fragmented[..10]),
        frame(0x89, b""),
        frame(0x00, &fragmented[10..30]),
        frame(0x80, &fragmented[30..]),
        frame(0x88, &4000u16.to_be_bytes()),
    ]
    .concat();
    let proto = |seq, body: &[u8]| Got::Proto(seq, body.to_vec());
    let got = vec![
        proto(1, b"one"),
        proto(2, b"x"),
        proto(3, b""),
        proto(4, &[7; 64]),
        Got::Ping(b"ping".to_vec()),
        proto(5, b"text"),
        Got::Ping(vec![]),
        proto(6, b"fragments"),
        proto(7, b"y"),
        Got::Close(Some(4000)),
    ];
    (bytes, got)
}

/// How a door's intake begins, what it is sent, and what that means.
type Case = (fn() -> Intake, Vec<u8>, Vec<Got>);

fn both() -> [Case; 2] {
    let (tcp, tcp_events) = tcp_stream();
    let (websocket, websocket_events) = websocket_stream();
    [
        (Intake::tcp, tcp, tcp_events),
        (|| Intake::websocket(b""), websocket, websocket_events),
    ]
}

#[test]
fn a_stream_split_anywhere_means_the_same() {
    for (new, bytes, events) in both() {
        for at in 0..=bytes.len() {
            let mut intake = new();
            let mut got = take(&mut intake, &bytes[..at], usize::MAX);
            // Nothing comes after a Close.
            if !matches!(got.last(), Some(Got::Close(_))) {
                got.extend(take(&mut intake, &bytes[at..], usize::MAX));
            }
            assert_eq!(got, events, "split at {at}");
            assert!(!intake.has_rest());
        }
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_means_the_same() {
    for (new, bytes, events) in both() {
        let mut intake = new();
        let each = bytes
            .chunks(1)
            .flat_map(|byte| take(&mut intake, byte, usize::MAX));
        assert_eq!(each.collect::<Vec<_>>(), events);
        assert!(!intake.has_rest());
    }
}

#[test]
fn what_a_handler_leaves_is_there_the_next_time() {
    for (new, bytes, events) in both() {
        for most in 1..4 {
            let mut intake = new();
            let mut got = take(&mut intake, &bytes, most);
            while intake.has_rest() {
                let more = take(&mut intake, b"", most);
                assert!(!more.is_empty(), "stuck after {} events", got.len());
                got.extend(more);
            }
            assert_eq!(got, events);
        }
    }
}

#[test]
fn what_is_left_goes_before_what_comes() {
    for (new, bytes, events) in both() {
        for at in 0..bytes.len() {
            let mut intake = new();
            let mut got = take(&mut intake, &bytes[..at], 1);
            got.extend(take(&mut intake, &bytes[at..], 1));
            while intake.has_rest() {
                let more = take(&mut intake, b"", 1);
                assert!(
                    !more.is_empty(),
                    "stuck after {} events, split at {at}",
                    got.len()
                );
                got.extend(more);
            }
            assert_eq!(got, events, "split at {at}");
        }
    }
}

#[test]
fn bytes_behind_the_handshake_come_first() {
    let (bytes, events) = websocket_stream();
    for at in 0..=bytes.len() {
        let mut intake = Intake::websocket(&bytes[..at]);
        assert_eq!(intake.has_rest(), at > 0);
        assert_eq!(take(&mut intake, &bytes[at..], usize::MAX), events);
    }
}

#[test]
fn only_what_is_incomplete_is_kept() {
    for (new, bytes, _) in both() {
        let mut intake = new();
        for end in 1..=bytes.len() {
            take(&mut intake, &bytes[end - 1..end], usize::MAX);
            // The longest frame here has a head of 8 bytes, a header of 16 and two bodies of which one is 64.
            assert!(intake.rest.len() < 160, "{} bytes kept", intake.rest.len());
            assert_eq!(intake.rest.capacity(), intake.rest.len());
        }
        assert_eq!((intake.rest.len(), intake.rest.capacity()), (0, 0));
    }
    // A whole stream at once leaves nothing but the part of its last frame.
    let mut intake = Intake::tcp();
    let bytes = [
        proto(1, b"whole").repeat(100),
        proto(2, b"part")[..17].to_vec(),
    ]
    .concat();
    assert_eq!(take(&mut intake, &bytes, usize::MAX).len(), 100);
    assert_eq!((intake.rest.len(), intake.rest.capacity()), (17, 17));
}

#[test]
fn nothing_is_kept_for_what_is_only_announced() {
    let mut intake = Intake::websocket(b"");
    let mut head = binary(&[0; 200]);
    head.truncate(8);
    assert_eq!(take(&mut intake, &head, usize::MAX), []);
    assert_eq!(intake.rest.capacity(), 8);
    let mut intake = Intake::tcp();
    assert_eq!(take(&mut intake, &proto(1, &[0; 64])[..16], usize::MAX), []);
    assert_eq!(intake.rest.capacity(), 16);
}

#[test]
fn lengths_that_lie_end_the_connection() {
    let with_len = |len: i32, body: &[u8]| {
        let mut bytes = proto(1, body);
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        bytes
    };
    let malformed = [Got::Error(CloseReason::Malformed)];
    let too_big = [Got::Error(CloseReason::TooBig)];
    for len in [0, 15, -1, i32::MIN] {
        let bytes = with_len(len, b"");
        assert_eq!(take(&mut Intake::tcp(), &bytes, 9), malformed, "{len}");
        assert_eq!(take(&mut Intake::tcp(), &bytes[..4], 9), malformed, "{len}");
        let bytes = binary(&bytes);
        assert_eq!(
            take(&mut Intake::websocket(b""), &bytes, 9),
            malformed,
            "{len}"
        );
    }
    for len in [16 + 65, i32::MAX] {
        assert_eq!(
            take(&mut Intake::tcp(), &with_len(len, b"")[..4], 9),
            too_big
        );
        let bytes = binary(&with_len(len, b""));
        assert_eq!(take(&mut Intake::websocket(b""), &bytes, 9), too_big);
    }
    let mut header_len = proto(1, b"");
    header_len[5] = 17;
    assert_eq!(take(&mut Intake::tcp(), &header_len, 9), malformed);
    // In a message, packLen must end where the message or the next frame does.
    for len in [20, 22] {
        let bytes = binary(&with_len(len, b"five!"));
        let got = take(&mut Intake::websocket(b""), &bytes, 9);
        assert_eq!(got.last(), malformed.last(), "{len}");
    }
    let cut = [proto(1, b"whole"), proto(2, b"part")[..15].to_vec()].concat();
    for bytes in [
        binary(&cut),
        [frame(0x02, &cut[..9]), frame(0x80, &cut[9..])].concat(),
    ] {
        let got = take(&mut Intake::websocket(b""), &bytes, 9);
        assert_eq!(
            got,
            [Got::Proto(1, b"whole".to_vec()), malformed[0].clone()]
        );
    }
    for empty in [
        binary(b""),
        frame(0x81, b""),
        [frame(0x02, b""), frame(0x80, b"")].concat(),
    ] {
        assert_eq!(take(&mut Intake::websocket(b""), &empty, 9), malformed);
    }
}

#[test]
fn a_message_never_reaches_into_the_next_one() {
    let whole = proto(1, b"a body of some length");
    let bytes = [binary(&whole[..20]), binary(&whole[20..])].concat();
    let got = take(&mut Intake::websocket(b""), &bytes, 9);
    assert_eq!(got, [Got::Error(CloseReason::Malformed)]);
}

#[test]
fn violations_of_the_websocket_protocol_are_named() {
    let too_big = WebSocketError::TooBig { len: 257, max: 256 };
    let cases = [
        (b"\x82\x01x".to_vec(), WebSocketError::Unmasked),
        (frame(0xc2, b"x"), WebSocketError::ReservedBits),
        (frame(0x80, b"x"), WebSocketError::UnexpectedContinuation),
        (frame(0x81, b"\xff"), WebSocketError::InvalidUtf8),
        (binary(&[0; 257])[..8].to_vec(), too_big),
    ];
    for (bytes, error) in cases {
        let got = take(&mut Intake::websocket(b""), &bytes, 9);
        assert_eq!(got, [Got::Error(CloseReason::WebSocket(error))]);
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece in 1..40usize,
        most in 1..5usize,
        is_websocket: bool,
    ) {
        let mut intake = if is_websocket { Intake::websocket(b"") } else { Intake::tcp() };
        for piece in bytes.chunks(piece) {
            let got = take(&mut intake, piece, most);
            if matches!(got.last(), Some(Got::Error(_) | Got::Close(_))) {
                break;
            }
        }
    }

    #[test]
    fn a_mangled_stream_in_any_pieces_is_survived(
        at in any::<proptest::sample::Index>(),
        flip in 1..=255u8,
        piece in 1..40usize,
        most in 1..5usize,
    ) {
        for (new, mut bytes, _) in both() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut intake = new();
            for piece in bytes.chunks(piece) {
                let got = take(&mut intake, piece, most);
                if matches!(got.last(), Some(Got::Error(_) | Got::Close(_))) {
                    break;
                }
            }
        }
    }
}
