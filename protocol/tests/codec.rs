//! The frame, byte by byte.

mod support;

use proptest::prelude::*;
use protocol::{
    DecodeError, Decoded, HEADER_LEN, Header,
    codec::{DEFAULT_MAX_BODY, decode},
    grpc::goim::protocol::Proto,
    op,
};
use support::hex;

/// One frame for each operation.
const VECTORS: [(i32, &str, &str, i32, &[u8]); 19] = [
    (
        op::HANDSHAKE,
        "handshake",
        "00000010 0010 0001 00000000 00000001",
        1,
        b"",
    ),
    (
        op::HANDSHAKE_REPLY,
        "handshake_reply",
        "00000010 0010 0001 00000001 00000001",
        1,
        b"",
    ),
    (
        op::HEARTBEAT,
        "heartbeat",
        "00000010 0010 0001 00000002 00000001",
        1,
        b"",
    ),
    (
        op::HEARTBEAT_REPLY,
        "heartbeat_reply",
        "00000014 0010 0001 00000003 00000001 00000007",
        1,
        &[0, 0, 0, 7],
    ),
    (
        op::SEND_MSG,
        "send_msg",
        "00000012 0010 0001 00000004 00000102 6869",
        258,
        b"hi",
    ),
    (
        op::SEND_MSG_REPLY,
        "send_msg_reply",
        "00000012 0010 0001 00000005 00000000 6869",
        0,
        b"hi",
    ),
    (
        op::DISCONNECT_REPLY,
        "disconnect_reply",
        "00000012 0010 0001 00000006 00000000 7b7d",
        0,
        b"{}",
    ),
    (
        op::AUTH,
        "auth",
        "00000019 0010 0001 00000007 00000001 7b226d6964223a317d",
        1,
        b"{\"mid\":1}",
    ),
    (
        op::AUTH_REPLY,
        "auth_reply",
        "00000010 0010 0001 00000008 00000001",
        1,
        b"",
    ),
    (
        op::RAW,
        "raw",
        "00000021 0010 0001 00000009 00000000 00000011 0010 0001 00000005 00000000 78",
        0,
        &[0, 0, 0, 17, 0, 16, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, b'x'],
    ),
    (
        op::PROTO_READY,
        "proto_ready",
        "00000010 0010 0001 0000000a 00000000",
        0,
        b"",
    ),
    (
        op::PROTO_FINISH,
        "proto_finish",
        "00000010 0010 0001 0000000b 00000000",
        0,
        b"",
    ),
    (
        op::CHANGE_ROOM,
        "change_room",
        "00000018 0010 0001 0000000c 00000002 6c6976653a2f2f31",
        2,
        b"live://1",
    ),
    (
        op::CHANGE_ROOM_REPLY,
        "change_room_reply",
        "00000018 0010 0001 0000000d 00000002 6c6976653a2f2f31",
        2,
        b"live://1",
    ),
    (
        op::SUB,
        "sub",
        "00000019 0010 0001 0000000e 00000003 313030302c31303031",
        3,
        b"1000,1001",
    ),
    (
        op::SUB_REPLY,
        "sub_reply",
        "00000019 0010 0001 0000000f 00000003 313030302c31303031",
        3,
        b"1000,1001",
    ),
    (
        op::UNSUB,
        "unsub",
        "00000014 0010 0001 00000010 00000004 31303031",
        4,
        b"1001",
    ),
    (
        op::UNSUB_REPLY,
        "unsub_reply",
        "00000014 0010 0001 00000011 00000004 31303031",
        4,
        b"1001",
    ),
    (
        1000,
        "application",
        "00000011 0010 0001 000003e8 ffffffff 00",
        -1,
        &[0],
    ),
];

#[test]
fn every_operation_has_its_bytes() {
    for (op, name, bytes, seq, body) in VECTORS {
        let bytes = hex(bytes);
        let header = Header { ver: 1, op, seq };
        let mut encoded = Vec::new();
        header.encode(body, &mut encoded);
        assert_eq!(encoded, bytes, "{name}");
        let len = bytes.len();
        assert_eq!(
            decode(&bytes, DEFAULT_MAX_BODY),
            Ok(Decoded::Frame { header, body, len }),
            "{name}"
        );
        assert_eq!(op::name(op), name);
    }
}

#[test]
fn the_vectors_cover_every_operation_of_goim() {
    let known: Vec<i32> = VECTORS.iter().map(|vector| vector.0).collect();
    let all: Vec<i32> = (0..=17).chain([1000]).collect();
    assert_eq!(known, all);
}

#[test]
fn fields_are_signed_and_any_value_of_them_passes() {
    let bytes = hex("00000010 0010 8000 80000000 ffffffff");
    let header = Header {
        ver: i16::MIN,
        op: i32::MIN,
        seq: -1,
    };
    assert_eq!(
        decode(&bytes, 0),
        Ok(Decoded::Frame {
            header,
            body: b"",
            len: 16
        })
    );
    assert_eq!(header.to_bytes(0)[..], bytes);
}

#[test]
fn a_reply_keeps_version_and_sequence() {
    let request = Header {
        ver: 7,
        op: op::SUB,
        seq: 42,
    };
    let reply = Header {
        ver: 7,
        op: op::SUB_REPLY,
        seq: 42,
    };
    assert_eq!(request.reply(op::SUB_REPLY), reply);
    assert_eq!(
        Header::push(1000),
        Header {
            ver: 1,
            op: 1000,
            seq: 0
        }
    );
}

#[test]
fn a_message_of_grpc_has_a_header_with_a_cut_version() {
    let proto = Proto {
        ver: 0x0001_0002,
        op: 5,
        seq: 9,
        body: "x".into(),
    };
    assert_eq!(
        proto.header(),
        Header {
            ver: 2,
            op: 5,
            seq: 9
        }
    );
}

#[test]
fn a_truncated_frame_says_what_it_needs() {
    for (_, name, bytes, _, _) in VECTORS {
        let bytes = hex(bytes);
        for have in 0..bytes.len() {
            let need = if have < HEADER_LEN {
                HEADER_LEN
            } else {
                bytes.len()
            };
            assert_eq!(
                decode(&bytes[..have], DEFAULT_MAX_BODY),
                Ok(Decoded::Incomplete { need }),
                "{name}, {have} bytes"
            );
        }
    }
}

#[test]
fn only_the_first_frame_is_taken() {
    let mut bytes = hex("00000012 0010 0001 00000004 00000001 6869");
    bytes.extend_from_slice(&[0xff; 20]);
    let Ok(Decoded::Frame { body, len, .. }) = decode(&bytes, DEFAULT_MAX_BODY) else {
        panic!("no frame");
    };
    assert_eq!((body, len), (&b"hi"[..], 18));
}

/// `bytes` are refused with `error` as soon as `known_at` of them are there, and not before.
fn refused(bytes: &[u8], max_body: usize, known_at: usize, error: DecodeError) {
    for have in 0..=bytes.len() {
        let outcome = decode(&bytes[..have], max_body);
        if have < known_at {
            assert_eq!(
                outcome,
                Ok(Decoded::Incomplete { need: HEADER_LEN }),
                "{have} bytes"
            );
        } else {
            assert_eq!(outcome, Err(error), "{have} bytes");
        }
    }
}

#[test]
fn a_pack_len_below_the_header_is_refused_with_its_last_byte() {
    for pack_len in [15, 1, 0, -1, i32::MIN] {
        let mut bytes = hex("00000000 0010 0001 00000002 00000001");
        bytes[..4].copy_from_slice(&pack_len.to_be_bytes());
        refused(&bytes, DEFAULT_MAX_BODY, 4, DecodeError::PackLen(pack_len));
    }
}

#[test]
fn a_body_over_the_limit_is_refused_with_the_last_byte_of_pack_len() {
    for (pack_len, max) in [(17, 0), (16 + 4097, 4096), (i32::MAX, 1 << 20)] {
        let mut bytes = hex("00000000 0010 0001 00000002 00000001");
        bytes[..4].copy_from_slice(&pack_len.to_be_bytes());
        let len = usize::try_from(pack_len).unwrap() - HEADER_LEN;
        refused(&bytes, max, 4, DecodeError::BodyTooLong { len, max });
    }
    let mut largest = Vec::new();
    Header::push(4).encode(&[1; 4096], &mut largest);
    let outcome = decode(&largest, 4096);
    assert!(
        matches!(outcome, Ok(Decoded::Frame { len: 4112, .. })),
        "{outcome:?}"
    );
}

#[test]
fn another_header_len_is_refused_with_its_last_byte() {
    for header_len in [0, 15, 17, -1, 0x1000, i16::MIN] {
        let mut bytes = hex("00000014 0010 0001 00000002 00000001 00000000");
        bytes[4..6].copy_from_slice(&header_len.to_be_bytes());
        refused(
            &bytes,
            DEFAULT_MAX_BODY,
            6,
            DecodeError::HeaderLen(header_len),
        );
    }
}

#[test]
fn a_length_that_the_field_cannot_hold_is_written_as_its_maximum() {
    assert_eq!(
        Header::push(4).to_bytes(usize::MAX)[..4],
        i32::MAX.to_be_bytes()
    );
}

/// Whatever is accepted encodes to the bytes that it came from.
fn consistent(bytes: &[u8], max_body: usize) -> Result<(), TestCaseError> {
    if let Ok(Decoded::Frame { header, body, len }) = decode(bytes, max_body) {
        let mut again = Vec::new();
        header.encode(body, &mut again);
        prop_assert_eq!(&again, &bytes[..len]);
        prop_assert!(body.len() <= max_body);
    }
    Ok(())
}

fn header() -> impl Strategy<Value = Header> {
    any::<(i16, i32, i32)>().prop_map(|(ver, op, seq)| Header { ver, op, seq })
}

proptest! {
    #[test]
    fn frames_survive_the_round_trip(
        header in header(),
        body in prop::collection::vec(any::<u8>(), 0..300),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        header.encode(&body, &mut bytes);
        let len = bytes.len();
        bytes.extend_from_slice(&behind);
        let body = &body[..];
        prop_assert_eq!(decode(&bytes, 300), Ok(Decoded::Frame { header, body, len }));
    }

    #[test]
    fn random_bytes_are_judged_the_same_at_every_length(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        consistent(&bytes, 64)?;
        // Once something is known it does not change with what comes after.
        let mut known = None;
        for have in 0..=bytes.len() {
            let outcome = decode(&bytes[..have], 64);
            match known {
                Some(known) => prop_assert_eq!(outcome, known),
                None if matches!(outcome, Ok(Decoded::Incomplete { .. })) => {}
                None => known = Some(outcome),
            }
        }
    }

    #[test]
    fn mangled_frames_never_panic(
        header in header(),
        body in prop::collection::vec(any::<u8>(), 0..60),
        mangled in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = Vec::new();
        header.encode(&body, &mut bytes);
        for (at, byte) in mangled {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        consistent(&bytes, 64)?;
    }
}
