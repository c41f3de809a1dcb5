//! What a client's frame costs until it is understood.

use std::hint::black_box;

use comet::transport::intake::{Event, Intake, IntakeLimits};
use protocol::{HEADER_LEN, Header};

use crate::{
    sockets::{BODY, OP},
    support::{Bench, counted_section},
};

/// Frames that one read brings.
const ROUND: usize = 16;

const MANY: usize = 16 * ROUND;

const LIMITS: IntakeLimits = IntakeLimits {
    max_body: 4096,
    max_message: 65_536,
};

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "intake_tcp",
        operations: MANY,
        run: tcp,
    },
    Bench {
        name: "intake_websocket",
        operations: MANY,
        run: websocket,
    },
];

fn tcp() {
    let mut frame = Vec::new();
    Header::push(OP).encode(&[7; BODY], &mut frame);
    feed(Intake::tcp(), &frame);
}

/// Masked, each in a message of its own.
fn websocket() {
    const MASK: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];
    let mut proto = Vec::new();
    Header::push(OP).encode(&[7; BODY], &mut proto);
    let len = u8::try_from(HEADER_LEN + BODY).unwrap();
    // FIN and binary, then MASK and the length (RFC 6455 section 5.2).
    let mut frame = vec![0x82, 0x80 | len];
    frame.extend(MASK);
    frame.extend(
        proto
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    feed(Intake::websocket(&[]), &frame);
}

fn feed(mut intake: Intake, frame: &[u8]) {
    let mut bodies = 0;
    for _ in 0..MANY / ROUND {
        let mut read = frame.repeat(ROUND);
        counted_section(&mut || {
            intake.feed(black_box(&mut read), |parsing| {
                while let Some(event) = parsing.next(&LIMITS).unwrap() {
                    let Event::Proto(header, body) = black_box(event) else {
                        panic!("no proto");
                    };
                    assert_eq!(header.op, OP);
                    bodies += body.len();
                }
            });
        });
    }
    assert_eq!(bodies, MANY * BODY);
}
