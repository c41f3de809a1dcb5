//! Instructions of the codec and the frame. A count is of one message, made and freed.

#![allow(clippy::unwrap_used, reason = "all of it is measuring code")]

use std::{hint::black_box, process::ExitCode};

use protocol::{Decoded, Frame, Header, Meta, codec, op};

use self::support::{Bench, counted_section};

mod support;

/// Bytes of a message's body.
const BODY: usize = 100;

/// Messages in one go.
const MANY: usize = 256;

/// Messages in a Raw.
const JOINED: usize = 16;

fn main() -> ExitCode {
    let bench = |name, run| Bench {
        name,
        operations: MANY,
        run,
    };
    support::run(&[
        bench("codec_decode", decode),
        bench("codec_encode", encode),
        bench("frame_message", message),
        bench("frame_join", join),
        bench("frame_from_raw", from_raw),
    ])
}

/// Frames of clients, as TCP brings them.
fn decode() {
    let stream = frames(MANY);
    let mut bodies = 0;
    counted_section(&mut || {
        let mut rest = black_box(&stream[..]);
        while let Decoded::Frame { header, body, len } =
            codec::decode(rest, codec::DEFAULT_MAX_BODY).unwrap()
        {
            bodies += black_box((header, body)).1.len();
            rest = &rest[len..];
        }
    });
    assert_eq!(bodies, MANY * BODY);
}

/// Answers, one behind the other.
fn encode() {
    let mut stream = Vec::with_capacity(frames(MANY).len());
    counted_section(&mut || {
        for _ in 0..MANY {
            black_box(header()).encode(black_box(&[7; BODY]), &mut stream);
        }
    });
    assert_eq!(stream, frames(MANY));
}

/// Pushes, each a frame of its own.
fn message() {
    assert_eq!(one().tcp(), frames(1));
    counted_section(&mut || {
        for _ in 0..MANY {
            black_box(one());
        }
    });
}

/// Sixteen waiting messages become one frame.
fn join() {
    let waiting: Vec<Frame> = (0..JOINED).map(|_| one()).collect();
    assert_eq!(Frame::join(&waiting).tcp(), frames(JOINED));
    counted_section(&mut || {
        for _ in 0..MANY / JOINED {
            black_box(Frame::join(black_box(&waiting)));
        }
    });
}

/// Raws of sixteen messages, as a pusher makes them.
fn from_raw() {
    let body = frames(JOINED);
    let take = || Frame::from_raw(black_box(&body), BODY, JOINED, Meta::default).unwrap();
    assert_eq!(take().messages(), JOINED);
    counted_section(&mut || {
        for _ in 0..MANY / JOINED {
            black_box(take());
        }
    });
}

fn header() -> Header {
    Header::push(op::SEND_MSG_REPLY)
}

fn one() -> Frame {
    Frame::message(
        black_box(header()),
        black_box(&[7; BODY]),
        black_box(Meta::default()),
    )
}

/// The bytes of so many messages.
fn frames(count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        header().encode(&[7; BODY], &mut bytes);
    }
    bytes
}
