//! The rules one by one, then any splitting and any bytes.

use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 20;
const MASK: [u8; 4] = [0x11, 0x82, 0xf3, 0x5a];

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A client's frame, `first` being its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(&mut bytes[start..], MASK);
    bytes
}

fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        126..65_536 => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes
}

/// [`Incoming`] with its bytes, however they came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<(u16, Vec<u8>)>),
}

/// Everything that comes of `stream` when it arrives in pieces of the given lengths, in turn.
fn run(
    stream: &[u8],
    pieces: &[usize],
    max_message: usize,
) -> (Vec<Event>, Result<usize, WebSocketError>) {
    let mut assembler = Assembler::new();
    let mut events = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut rest = stream;
    let mut pieces = pieces.iter().cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at((*pieces.next().unwrap()).clamp(1, rest.len()));
        rest = later;
        buffer.extend_from_slice(piece);
        loop {
            match assembler.next(&mut buffer, max_message) {
                Ok(Some((consumed, incoming))) => {
                    events.extend(event(&buffer, incoming));
                    buffer.drain(..consumed);
                }
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, Ok(buffer.len()))
}

fn event(buffer: &[u8], incoming: Incoming) -> Option<Event> {
    Some(match incoming {
        Incoming::Message { kind, payload } => Event::Message(
            kind,
            match payload {
                Payload::InPlace(range) => buffer[range].to_vec(),
                Payload::Assembled(bytes) => bytes,
            },
        ),
        Incoming::Ping(range) => Event::Ping(buffer[range].to_vec()),
        Incoming::Pong => Event::Pong,
        Incoming::Fragment => return None,
        Incoming::Close(close) => {
            Event::Close(close.map(|close| (close.code, buffer[close.reason].to_vec())))
        }
    })
}

fn all(frames: &[Vec<u8>]) -> (Vec<Event>, Result<usize, WebSocketError>) {
    run(&frames.concat(), &[usize::MAX], MAX)
}

/// The error that ends a stream of these frames, which must be of the last one.
fn refusal(frames: &[Vec<u8>]) -> WebSocketError {
    let (_, before) = all(&frames[..frames.len() - 1]);
    assert_eq!(before, Ok(0), "an earlier frame is refused");
    all(frames).1.unwrap_err()
}

fn text(payload: &str) -> Event {
    Event::Message(Kind::Text, payload.into())
}

#[test]
fn an_idle_connection_carries_a_pointer() {
    assert_eq!(size_of::<Assembler>(), size_of::<usize>());
}

#[test]
fn messages_of_one_frame_stay_in_place() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![0xfe; len];
        let mut bytes = frame(FIN | BINARY, &payload);
        let whole = bytes.len();
        let (consumed, incoming) = Assembler::new().next(&mut bytes, MAX).unwrap().unwrap();
        assert_eq!(consumed, whole);
        let range = whole - len..whole;
        assert_eq!(
            incoming,
            Incoming::Message {
                kind: Kind::Binary,
                payload: Payload::InPlace(range.clone()),
            }
        );
        assert!(bytes[range] == payload);
    }
}

#[test]
fn an_incomplete_frame_is_left_as_it_is() {
    let whole = frame(FIN | TEXT, b"hello");
    for len in 0..whole.len() {
        let mut bytes = whole[..len].to_vec();
        assert_eq!(Assembler::new().next(&mut bytes, MAX), Ok(None));
        assert_eq!(bytes, whole[..len]);
    }
}

#[test]
fn fragments_make_one_message_around_control_frames() {
    let (events, end) = all(&[
        frame(TEXT, b"one "),
        frame(FIN | PING, b"p"),
        frame(CONTINUE, b"two "),
        frame(FIN | PONG, b""),
        frame(FIN, b"three"),
        frame(FIN | BINARY, b"\xff"),
    ]);
    assert_eq!(end, Ok(0));
    assert_eq!(
        events,
        [
            Event::Ping(b"p".to_vec()),
            Event::Pong,
            text("one two three"),
            Event::Message(Kind::Binary, vec![0xff]),
        ]
    );
}

#[test]
fn a_client_must_mask() {
    let error = refusal(&[b"\x82\x00".to_vec()]);
    assert_eq!(
        (error, error.close_code()),
        (WebSocketError::Unmasked, 1002)
    );
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            let error = refusal(&[frame(FIN | bit | opcode, b"")]);
            assert_eq!(
                (error, error.close_code()),
                (WebSocketError::ReservedBits, 1002)
            );
        }
    }
}

#[test]
fn unknown_opcodes_are_refused() {
    for opcode in (3..=7).chain(11..=15) {
        let error = refusal(&[frame(FIN | opcode, b"")]);
        assert_eq!(error, WebSocketError::UnknownOpcode(opcode));
        assert_eq!(error.close_code(), 1002);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        let error = refusal(&[frame(FIN | opcode, &[b'a'; 126])]);
        assert_eq!(
            (error, error.close_code()),
            (WebSocketError::ControlTooLong(126), 1002)
        );
        let error = refusal(&[frame(opcode, b"")]);
        assert_eq!(
            (error, error.close_code()),
            (WebSocketError::ControlFragmented, 1002)
        );
    }
    let (events, _) = all(&[frame(FIN | PING, &[b'a'; 125])]);
    assert_eq!(events, [Event::Ping(vec![b'a'; 125])]);
}

#[test]
fn continuations_continue_something() {
    for first in [CONTINUE, FIN | CONTINUE] {
        let error = refusal(&[frame(FIN | TEXT, b"done"), frame(first, b"x")]);
        assert_eq!(
            (error, error.close_code()),
            (WebSocketError::UnexpectedContinuation, 1002)
        );
    }
    for first in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        let error = refusal(&[frame(TEXT, b"begun"), frame(first, b"x")]);
        assert_eq!(
            (error, error.close_code()),
            (WebSocketError::ExpectedContinuation, 1002)
        );
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes() {
    for (len, fits) in [
        (100, true),
        (101, false),
        (70_000, false),
        (u64::MAX, false),
    ] {
        let outcome = Assembler::new().next(&mut header(FIN | BINARY, len), 100);
        let refused = WebSocketError::TooBig { len, max: 100 };
        assert_eq!(outcome, if fits { Ok(None) } else { Err(refused) });
        assert_eq!(refused.close_code(), 1009);
    }
}

#[test]
fn fragments_count_against_the_limit_together() {
    let mut assembler = Assembler::new();
    assembler.next(&mut frame(BINARY, &[0; 60]), 100).unwrap();
    assert!(assembler.is_within_message());
    // Control frames in between count for nothing.
    assembler
        .next(&mut frame(FIN | PING, &[0; 60]), 100)
        .unwrap();
    assert_eq!(assembler.next(&mut header(CONTINUE, 40), 100), Ok(None));
    for len in [41, u64::MAX] {
        assert_eq!(
            assembler.next(&mut header(CONTINUE, len), 100),
            Err(WebSocketError::TooBig {
                len: len.saturating_add(60),
                max: 100
            })
        );
    }
}

#[test]
fn text_is_utf8() {
    // A stray byte, an overlong form, a surrogate, beyond U+10FFFF, a character cut off at the end.
    for bad in [
        &b"a\xff"[..],
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
    ] {
        for frames in [
            vec![frame(FIN | TEXT, bad)],
            vec![frame(TEXT, b"ok"), frame(FIN, bad)],
        ] {
            let error = refusal(&frames);
            assert_eq!(
                (error, error.close_code()),
                (WebSocketError::InvalidUtf8, 1007)
            );
        }
    }
    let (events, end) = all(&[frame(FIN | BINARY, b"\xff")]);
    assert_eq!((events.len(), end), (1, Ok(0)));
}

#[test]
fn characters_may_span_fragments() {
    let word = "κ\u{20ac}\u{1f600}";
    let mut frames: Vec<_> = word.bytes().map(|byte| frame(CONTINUE, &[byte])).collect();
    frames[0] = frame(TEXT, &word.as_bytes()[..1]);
    frames.push(frame(FIN, b""));
    let (events, end) = all(&frames);
    assert_eq!((events, end), (vec![text(word)], Ok(0)));
}

#[test]
fn bad_text_fails_with_its_fragment() {
    let error = refusal(&[frame(TEXT, b"\xf4"), frame(CONTINUE, b"\x90")]);
    assert_eq!(error, WebSocketError::InvalidUtf8);
    let error = refusal(&[frame(TEXT, b"\xe2\x82"), frame(FIN, b"")]);
    assert_eq!(error, WebSocketError::InvalidUtf8);
}

#[test]
fn close_may_carry_a_code_and_a_reason() {
    let (events, _) = all(&[frame(FIN | CLOSE, b"")]);
    assert_eq!(events, [Event::Close(None)]);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999] {
        let payload = [&code.to_be_bytes(), "\u{20ac}".as_bytes()].concat();
        let (events, _) = all(&[frame(FIN | CLOSE, &payload)]);
        assert_eq!(events, [Event::Close(Some((code, "\u{20ac}".into())))]);
    }
}

#[test]
fn bad_closes_are_refused() {
    let error = refusal(&[frame(FIN | CLOSE, b"\x03")]);
    assert_eq!(
        (error, error.close_code()),
        (WebSocketError::BadClose, 1002)
    );
    for code in [
        0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let error = refusal(&[frame(FIN | CLOSE, &code.to_be_bytes())]);
        assert_eq!(
            (error, error.close_code()),
            (WebSocketError::BadCloseCode(code), 1002)
        );
    }
    let error = refusal(&[frame(FIN | CLOSE, b"\x03\xe8\xff")]);
    assert_eq!(
        (error, error.close_code()),
        (WebSocketError::BadCloseReason, 1007)
    );
}

/// A message or control frame and the frames that carry it.
fn exchange() -> impl Strategy<Value = (Vec<Event>, Vec<Vec<u8>>)> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| (Kind::Binary, bytes)),
        any::<String>().prop_map(|text| (Kind::Text, text.into_bytes())),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..5);
    let small = prop::collection::vec(any::<u8>(), 0..=MAX_CONTROL);
    (body, cuts, prop::option::of(small)).prop_map(|((kind, body), cuts, ping)| {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(body.len());
        let mut frames = Vec::new();
        let mut events = Vec::new();
        let mut from = 0;
        for (i, &to) in cuts.iter().enumerate() {
            let opcode = match (i, kind) {
                (0, Kind::Text) => TEXT,
                (0, Kind::Binary) => BINARY,
                _ => CONTINUE,
            };
            let last = if i + 1 == cuts.len() { FIN } else { 0 };
            if let (1, Some(ping)) = (i, &ping) {
                frames.push(frame(FIN | PING, ping));
                events.push(Event::Ping(ping.clone()));
            }
            frames.push(frame(opcode | last, &body[from..to]));
            from = to;
        }
        events.push(Event::Message(kind, body));
        (events, frames)
    })
}

proptest! {
    #[test]
    fn any_splitting_gives_the_same(
        exchanges in prop::collection::vec(exchange(), 1..6),
        pieces in prop::collection::vec(1..40_usize, 1..10),
    ) {
        let (expected, frames): (Vec<_>, Vec<_>) = exchanges.into_iter().unzip();
        let stream = frames.concat().concat();
        prop_assert_eq!(run(&stream, &pieces, MAX), (expected.concat(), Ok(0)));
    }

    #[test]
    fn random_bytes_never_panic(
        stream in prop::collection::vec(any::<u8>(), 0..600),
        pieces in prop::collection::vec(1..40_usize, 1..10),
    ) {
        let whole = run(&stream, &[usize::MAX], 256);
        prop_assert_eq!(run(&stream, &pieces, 256), whole);
    }

    #[test]
    fn mangled_streams_never_panic(
        exchanges in prop::collection::vec(exchange(), 1..4),
        mangled in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        pieces in prop::collection::vec(1..40_usize, 1..10),
    ) {
        let frames: Vec<_> = exchanges.into_iter().flat_map(|(_, frames)| frames).collect();
        let mut stream = frames.concat();
        for (at, byte) in mangled {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let whole = run(&stream, &[usize::MAX], 256);
        prop_assert_eq!(run(&stream, &pieces, 256), whole);
    }
}
