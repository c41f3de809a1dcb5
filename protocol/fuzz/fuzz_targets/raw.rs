//! The body of a Raw: what is accepted goes out unchanged and holds as many messages as it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Decoded, Frame, Meta, codec::decode};

const MAX_BODY: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Ok(frame) = Frame::from_raw(input, MAX_BODY, 20, Meta::default) else {
        return;
    };
    assert_eq!(frame.tcp(), input);
    assert!(frame.websocket().ends_with(input));
    let mut rest = frame.tcp();
    let mut messages = 0;
    while let Ok(Decoded::Frame { len, .. }) = decode(rest, MAX_BODY) {
        rest = &rest[len..];
        messages += 1;
    }
    assert!(rest.is_empty());
    assert_eq!(messages, frame.messages());
});
