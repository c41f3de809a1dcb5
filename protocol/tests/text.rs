//! Tokens, room ids and message ids.

use proptest::prelude::*;
use protocol::{MessageId, RoomId, Token, room::RoomIdError};

fn token(json: &str) -> Option<Token> {
    Token::from_json(json.as_bytes()).ok()
}

#[test]
fn a_token_of_goim_is_read() {
    let json =
        r#"{"mid":123,"key":"k","room_id":"live://1000","platform":"web","accepts":[1000,1001]}"#;
    let expected = Token {
        mid: 123,
        key: "k".into(),
        room_id: "live://1000".into(),
        platform: "web".into(),
        accepts: vec![1000, 1001],
    };
    assert_eq!(token(json), Some(expected));
}

#[test]
fn absent_and_null_fields_are_empty() {
    assert_eq!(token("{}"), Some(Token::default()));
    let nulls = r#"{"mid":null,"key":null,"room_id":null,"platform":null,"accepts":null}"#;
    assert_eq!(token(nulls), Some(Token::default()));
    let expected = Token {
        mid: -1,
        ..Token::default()
    };
    assert_eq!(token(r#" { "mid" : -1 } "#), Some(expected));
}

#[test]
fn unknown_fields_are_ignored() {
    let json = r#"{"mid":1,"version":{"deep":[1,2,{}]},"x":null}"#;
    assert_eq!(token(json).map(|token| token.mid), Some(1));
}

#[test]
fn what_is_no_token_is_refused() {
    for json in [
        "",
        " ",
        "hello",
        "{",
        "{}x",
        "1",
        "\"text\"",
        "null",
        "true",
        "[]",
        r#"[1,"k","r","web",[1]]"#,
        r#"{"mid":"1"}"#,
        r#"{"mid":1.5}"#,
        r#"{"mid":9223372036854775808}"#,
        r#"{"key":1}"#,
        r#"{"room_id":[]}"#,
        r#"{"accepts":1000}"#,
        r#"{"accepts":["1000"]}"#,
        r#"{"accepts":[2147483648]}"#,
        r#"{"mid":1,}"#,
    ] {
        assert_eq!(token(json), None, "{json}");
    }
    assert!(Token::from_json(b"{\"key\":\"\xff\"}").is_err());
    let deep = "[".repeat(100_000);
    assert_eq!(token(&format!("{{\"x\":{deep}")), None);
}

#[test]
fn room_ids_are_a_type_and_a_room() {
    let id = RoomId::new("live", "1000");
    assert_eq!(
        (id.as_str(), id.to_string()),
        ("live://1000", "live://1000".into())
    );
    assert_eq!(id.split(), Some(("live", "1000")));
    assert_eq!(RoomId::from_bytes(b"live://1000", 11), Ok(id));
    let odd = RoomId::from_bytes(b"a://b://c", 100).unwrap();
    assert_eq!(odd.split(), Some(("a", "b://c")));
}

#[test]
fn a_client_may_name_a_room_as_it_likes() {
    let id = RoomId::from_bytes("zimmer \u{e9}".as_bytes(), 100).unwrap();
    assert_eq!((id.as_str(), id.split()), ("zimmer \u{e9}", None));
}

#[test]
fn bad_room_ids_are_refused() {
    assert_eq!(RoomId::from_bytes(b"", 10), Err(RoomIdError::Empty));
    let refused = RoomIdError::TooLong { len: 11, max: 10 };
    assert_eq!(RoomId::from_bytes(b"live://1000", 10), Err(refused));
    assert_eq!(RoomId::from_bytes(b"\xff", 10), Err(RoomIdError::NotUtf8));
}

#[test]
fn message_ids_are_sixteen_bytes_in_hex() {
    let id = MessageId::try_from(&[0x0a; 16][..]).unwrap();
    assert_eq!(
        (id.to_string(), format!("{id:?}")),
        ("0a".repeat(16), "0a".repeat(16))
    );
    for len in [0, 15, 17] {
        assert!(MessageId::try_from(&vec![0; len][..]).is_err());
    }
}

proptest! {
    #[test]
    fn tokens_survive_the_round_trip(
        mid in any::<i64>(),
        [key, room_id, platform] in any::<[String; 3]>(),
        accepts in prop::collection::vec(any::<i32>(), 0..5),
    ) {
        let token = Token { mid, key, room_id, platform, accepts };
        prop_assert_eq!(Token::from_json(token.to_json().as_bytes()).ok(), Some(token));
    }

    #[test]
    fn random_tokens_and_rooms_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(token) = Token::from_json(&bytes) {
            prop_assert_eq!(Token::from_json(token.to_json().as_bytes()).ok(), Some(token));
        }
        if let Ok(room) = RoomId::from_bytes(&bytes, 40) {
            prop_assert_eq!(room.as_str().as_bytes(), &bytes[..]);
        }
    }
}
