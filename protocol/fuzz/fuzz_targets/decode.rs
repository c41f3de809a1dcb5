//! Frames one after the other: what is accepted encodes to the same bytes, and a frame that is cut says what it needs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Decoded, codec::decode};

const MAX_BODY: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    while let Ok(Decoded::Frame { header, body, len }) = decode(rest, MAX_BODY) {
        let mut again = Vec::new();
        header.encode(body, &mut again);
        assert_eq!(again, &rest[..len]);
        for have in [0, 3, 4, 5, 6, 15, 16, len - 1] {
            if have < len {
                let need = if have < 16 { 16 } else { len };
                assert_eq!(
                    decode(&rest[..have], MAX_BODY),
                    Ok(Decoded::Incomplete { need })
                );
            }
        }
        rest = &rest[len..];
    }
});
