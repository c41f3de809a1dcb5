//! The parameters of a request to `/sub`: whatever comes, a script's name is a name, and a token keeps within its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::query::{Form, Place, Query};

fuzz_target!(|input: &str| {
    for only in [Some(7), None] {
        let Ok(query) = Query::parse(input, only, 64) else {
            continue;
        };
        assert!(query.token.is_none_or(|token| (1..=64).contains(&token.len())));
        if let Form::Assign(name) | Form::Call(name) = query.form {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_$".contains(&byte);
            assert!(!name.is_empty() && name.len() <= 64 && name.bytes().all(is_plain));
        }
    }
    if let Some(place) = Place::parse(input) {
        assert!(input.starts_with(place.session));
    }
});
