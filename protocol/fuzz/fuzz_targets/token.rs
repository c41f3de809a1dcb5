//! What a client says about itself: a token that is read survives being written, and a room id keeps its bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{RoomId, Token};

fuzz_target!(|input: &[u8]| {
    if let Ok(token) = Token::from_json(input) {
        let again = Token::from_json(token.to_json().as_bytes());
        assert_eq!(again.ok(), Some(token));
    }
    if let Ok(room) = RoomId::from_bytes(input, 256) {
        assert_eq!(room.as_str().as_bytes(), input);
    }
});
