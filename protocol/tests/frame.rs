//! Messages encoded once, alone and joined.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use protocol::{
    DecodeError, Decoded, Frame, Header, MessageId, Meta, Position, RawError,
    codec::decode,
    frame::{put_websocket_header, websocket_header_len},
    op,
};
use support::hex;

fn meta(id: u8) -> Meta {
    MessageId([id; 16]).into()
}

fn bytes(header: Header, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.encode(body, &mut bytes);
    bytes
}

fn message(id: u8, body: &[u8]) -> Frame {
    Frame::message(Header::push(1000 + i32::from(id)), body, meta(id))
}

/// Frames at the front of each other, as a client walks them.
fn walk(mut rest: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let Ok(Decoded::Frame { header, body, len }) = decode(rest, usize::MAX >> 1) else {
            panic!("not a frame: {rest:?}");
        };
        frames.push((header, body.to_vec()));
        rest = &rest[len..];
    }
    frames
}

#[test]
fn websocket_headers_have_the_shortest_length() {
    for (len, expected) in [
        (0, "82 00"),
        (16, "82 10"),
        (125, "82 7d"),
        (126, "82 7e 007e"),
        (65_535, "82 7e ffff"),
        (65_536, "82 7f 0000000000010000"),
        (16 << 20, "82 7f 0000000001000000"),
    ] {
        let mut out = Vec::new();
        put_websocket_header(&mut out, len);
        assert_eq!(out, hex(expected), "{len}");
        assert_eq!(websocket_header_len(len), out.len(), "{len}");
    }
}

#[test]
fn both_doors_share_the_bytes_of_a_message() {
    for (payload, websocket_header) in [
        (16, "82 10"),
        (125, "82 7d"),
        (126, "82 7e 007e"),
        (65_535, "82 7e ffff"),
        (65_536, "82 7f 0000000000010000"),
    ] {
        let body = vec![7; payload - 16];
        let header = Header {
            ver: 2,
            op: 5,
            seq: 9,
        };
        let frame = Frame::message(header, &body, meta(1));
        assert!(frame.tcp() == bytes(header, &body), "{payload}");
        assert!(
            frame.websocket() == [hex(websocket_header), bytes(header, &body)].concat(),
            "{payload}"
        );
        assert_eq!((frame.meta(), frame.messages()), (&[meta(1)][..], 1));
    }
}

#[test]
fn a_frame_of_known_bytes() {
    let frame = Frame::message(Header::push(5), b"hi", Meta::default());
    assert_eq!(
        frame.websocket(),
        hex("82 12 00000012 0010 0001 00000005 00000000 6869")
    );
}

#[test]
fn a_joined_frame_of_known_bytes() {
    let joined = Frame::join(&[message(0, b"a"), message(1, b"b")]);
    let inner = "00000011 0010 0001 000003e8 00000000 61  00000011 0010 0001 000003e9 00000000 62";
    assert_eq!(joined.tcp(), hex(inner));
    let raw = format!("82 32 00000032 0010 0001 00000009 00000000 {inner}");
    assert_eq!(joined.websocket(), hex(&raw));
}

#[test]
fn one_frame_joined_stays_as_it_is() {
    let one = message(1, b"alone");
    let joined = Frame::join(std::slice::from_ref(&one));
    assert_eq!(joined.websocket(), one.websocket());
    assert_eq!(joined.tcp(), one.tcp());
    assert_eq!(joined.meta(), one.meta());
}

#[test]
fn joined_messages_come_back_in_their_order() {
    // Enough for a WebSocket header of each length.
    for count in [2_u8, 3, 20, 200] {
        let body = vec![b'x'; 400];
        let frames: Vec<_> = (0..count).map(|id| message(id, &body)).collect();
        let joined = Frame::join(&frames);
        let expected: Vec<_> = (0..count)
            .map(|id| (Header::push(1000 + i32::from(id)), body.clone()))
            .collect();
        assert_eq!(walk(joined.tcp()), expected);
        let operations = expected.iter().map(|(header, _)| header.op);
        assert!(joined.operations().eq(operations));
        let payload = &joined.websocket()[websocket_header_len(joined.tcp().len() + 16)..];
        let [(header, body)] = &walk(payload)[..] else {
            panic!("a WebSocket message is one Raw");
        };
        assert_eq!((header, &body[..]), (&Header::push(op::RAW), joined.tcp()));
        let metas: Vec<_> = (0..count).map(meta).collect();
        assert_eq!(
            (joined.meta(), joined.messages()),
            (&metas[..], metas.len())
        );
    }
}

#[test]
fn joins_of_joins_are_flat() {
    let [a, b, c] = [message(1, b"a"), message(2, b"b"), message(3, b"c")];
    let nested = Frame::join(&[Frame::join(&[a.clone(), b.clone()]), c.clone()]);
    let flat = Frame::join(&[a, b, c]);
    assert_eq!(nested.websocket(), flat.websocket());
    assert_eq!(nested.tcp(), flat.tcp());
    assert_eq!(nested.meta(), flat.meta());
}

#[test]
fn positions_travel_with_their_messages() {
    let position = Arc::new(Position {
        stream: "s".into(),
        epoch: 1,
        number: 7,
    });
    let placed = Meta {
        id: MessageId([9; 16]),
        position: Some(position),
    };
    let frame = Frame::message(Header::push(5), b"", placed.clone());
    assert_eq!(
        Frame::join(&[message(1, b""), frame]).meta(),
        [meta(1), placed]
    );
}

/// Reads a Raw of `parts`, naming its messages 0, 1, ...
fn raw(parts: &[&[u8]], max_body: usize, max_frames: usize) -> Result<Frame, RawError> {
    let mut next = 0;
    Frame::from_raw(&parts.concat(), max_body, max_frames, || {
        next += 1;
        meta(next - 1)
    })
}

#[test]
fn a_raw_of_one_message_is_that_message() {
    let one = message(0, b"hi");
    let frame = raw(&[one.tcp()], 2, 1).unwrap();
    assert_eq!(frame.websocket(), one.websocket());
    assert_eq!(frame.tcp(), one.tcp());
    assert_eq!(frame.meta(), one.meta());
}

#[test]
fn a_raw_of_several_is_their_join() {
    let frames = [message(0, b"a"), message(1, b""), message(2, b"c")];
    let parts: Vec<_> = frames.iter().map(Frame::tcp).collect();
    let frame = raw(&parts, 1, 3).unwrap();
    let joined = Frame::join(&frames);
    assert_eq!(frame.websocket(), joined.websocket());
    assert_eq!(frame.tcp(), joined.tcp());
    assert_eq!(frame.meta(), joined.meta());
}

#[test]
fn bad_raws_are_refused_with_the_frame_that_is_wrong() {
    let good = message(0, b"hi");
    let good = good.tcp();
    assert_eq!(raw(&[], 9, 9).unwrap_err(), RawError::Empty);
    assert_eq!(
        raw(&[good, good, good], 9, 2).unwrap_err(),
        RawError::TooMany { max: 2 }
    );
    assert_eq!(
        raw(&[good], 9, 0).unwrap_err(),
        RawError::TooMany { max: 0 }
    );
    assert_eq!(
        raw(&[good, &[0; 3]], 9, 9).unwrap_err(),
        RawError::Truncated {
            index: 1,
            need: 16,
            have: 3
        }
    );
    assert_eq!(
        raw(&[good, good, &good[..17]], 9, 9).unwrap_err(),
        RawError::Truncated {
            index: 2,
            need: 18,
            have: 17
        }
    );
    let cases = [
        ("0000000f 0010", DecodeError::PackLen(15)),
        ("00000010 0011", DecodeError::HeaderLen(17)),
        (
            "0000001a 0010",
            DecodeError::BodyTooLong { len: 10, max: 9 },
        ),
    ];
    for (bad, error) in cases {
        let refused = raw(&[good, &hex(bad)], 9, 9).unwrap_err();
        assert_eq!(refused, RawError::Frame { index: 1, error });
    }
}

proptest! {
    #[test]
    fn walking_a_raw_gives_the_messages_back(
        messages in prop::collection::vec(
            (any::<(i16, i32, i32)>(), prop::collection::vec(any::<u8>(), 0..80)),
            1..12,
        ),
    ) {
        let messages: Vec<_> = messages
            .into_iter()
            .map(|((ver, op, seq), body)| (Header { ver, op, seq }, body))
            .collect();
        let frames: Vec<_> = messages
            .iter()
            .map(|(header, body)| Frame::message(*header, body, Meta::default()))
            .collect();
        let joined = Frame::join(&frames);
        prop_assert_eq!(&walk(joined.tcp()), &messages);
        let read = Frame::from_raw(joined.tcp(), 80, 12, Meta::default).unwrap();
        prop_assert_eq!(read.websocket(), joined.websocket());
        prop_assert_eq!(read.tcp(), joined.tcp());
    }

    #[test]
    fn raws_that_are_mangled_or_cut_never_panic(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5),
        mangled in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut raw: Vec<u8> = bodies
            .iter()
            .flat_map(|body| bytes(Header::push(5), body))
            .collect();
        for (at, byte) in mangled {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        raw.truncate(cut.index(raw.len() + 1));
        if let Ok(frame) = Frame::from_raw(&raw, 32, 4, Meta::default) {
            prop_assert_eq!(frame.tcp(), &raw[..]);
            prop_assert_eq!(walk(frame.tcp()).len(), frame.messages());
        }
    }

    #[test]
    fn random_raws_never_panic(raw in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(frame) = Frame::from_raw(&raw, 64, 4, Meta::default) {
            prop_assert_eq!(frame.tcp(), &raw[..]);
        }
    }
}
