//! What a message costs at one channel.

use std::hint::black_box;

use comet::channel::Pushed;

use crate::{
    sockets::{channel, context, message, runtime},
    support::{Bench, counted_section},
};

const MANY: usize = 256;

/// Messages before the peer reads.
const ROUND: usize = 32;

pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "channel_push_written",
        operations: MANY,
        run: written,
    },
    Bench {
        name: "channel_push_queued",
        operations: MANY,
        run: queued,
    },
    Bench {
        name: "channel_flush",
        operations: MANY,
        run: flush,
    },
];

/// Nothing waits: each push is a write.
fn written() {
    let runtime = runtime();
    runtime.block_on(async {
        let frame = message();
        let (channel, mut peer) = channel(1, &context());
        channel.socket().unwrap().writable().await.unwrap();
        for _ in 0..MANY / ROUND {
            counted_section(&mut || {
                for _ in 0..ROUND {
                    assert_eq!(channel.push(black_box(&frame)), Pushed::Written);
                }
            });
            peer.read(ROUND);
        }
    });
}

/// The socket is not writable: each push waits.
fn queued() {
    let runtime = runtime();
    let _within = runtime.enter();
    let frame = message();
    let (channel, _peer) = channel(1, &context());
    counted_section(&mut || {
        for _ in 0..MANY {
            assert_eq!(channel.push(black_box(&frame)), Pushed::Queued);
        }
    });
}

/// The socket takes all that waits.
fn flush() {
    let runtime = runtime();
    runtime.block_on(async {
        let context = context();
        let frame = message();
        let (channel, mut peer) = channel(1, &context);
        for _ in 0..MANY {
            assert_eq!(channel.push(&frame), Pushed::Queued);
        }
        channel.socket().unwrap().writable().await.unwrap();
        counted_section(&mut || channel.write_waiting().unwrap());
        // 64 parts are one write.
        assert_eq!(context.metrics.writes.count(), MANY as u64 / 64);
        assert_eq!(context.metrics.delivered.get(), MANY as u64);
        peer.read(MANY);
    });
}
