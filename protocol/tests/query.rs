//! What a request to `/sub` asks for.

#![allow(clippy::unwrap_used, reason = "test code")]

use proptest::{prelude::any, prop_assert, proptest};
use protocol::{
    Header, op,
    query::{Form, Place, Query, QueryError},
};

const AUTH: Option<i32> = Some(op::AUTH);

fn parse(query: &str) -> Result<Query, QueryError> {
    Query::parse(query, AUTH, 64)
}

#[test]
fn goim_1s_parameters_are_read() {
    let query = parse("ver=2&op=7&seq=9&t=%7B%22mid%22%3A1%7D&cb=x&_=123").unwrap();
    assert_eq!(
        query.header,
        Header {
            ver: 2,
            op: 7,
            seq: 9
        }
    );
    assert_eq!(query.token.unwrap(), r#"{"mid":1}"#);
    assert_eq!((query.session, query.ack), (None, 0));
    assert_eq!(query.form, Form::Assign("x".to_owned()));
    let query = parse("s=&ack=7&callback=$_9a&t=").unwrap();
    assert_eq!(
        query.header,
        Header {
            ver: 1,
            op: 7,
            seq: 0
        }
    );
    assert_eq!(
        (query.session.as_deref(), query.ack, query.token),
        (Some(""), 7, None)
    );
    assert_eq!(query.form, Form::Call("$_9a".to_owned()));
}

#[test]
fn what_is_no_number_name_or_token_is_refused() {
    let long = format!("t={}", "x".repeat(65));
    let name = format!("cb={}", "x".repeat(65));
    for (query, error) in [
        ("ver=70000", QueryError::Number("ver")),
        ("seq=x", QueryError::Number("seq")),
        ("ack=-1", QueryError::Number("ack")),
        ("op=2", QueryError::Operation(7)),
        ("op=2147483648", QueryError::Number("op")),
        ("t=a&t=b", QueryError::Twice("t")),
        ("cb=a&callback=b", QueryError::Twice("callback")),
        (&long, QueryError::Token(64)),
        (&name, QueryError::Name("cb")),
    ] {
        assert_eq!(parse(query).unwrap_err(), error, "{query}");
    }
    assert_eq!(parse("op=").unwrap().header.op, op::AUTH);
    for name in [
        "",
        "1a",
        "a.b",
        "a b",
        "a(",
        "alert(1)//",
        "a%00",
        "%E2%80%A8",
        "a-b",
        "<a>",
    ] {
        let refused = parse(&format!("callback={name}")).unwrap_err();
        assert_eq!(refused, QueryError::Name("callback"), "{name}");
    }
    assert_eq!(
        Query::parse("s=x", None, 64).unwrap_err(),
        QueryError::Missing("op")
    );
    assert_eq!(Query::parse("s=x&op=-5", None, 64).unwrap().header.op, -5);
}

proptest! {
    #[test]
    fn no_query_panics_and_no_name_is_a_script(query in any::<String>()) {
        if let Ok(Query { form: Form::Assign(name) | Form::Call(name), .. }) = parse(&query) {
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$".contains(&byte)));
        }
        let _ = Place::parse(&query);
    }
}

#[test]
fn a_place_is_read() {
    let place = Place {
        session: "abc",
        number: 7,
    };
    let id = "ab".repeat(16);
    assert_eq!(Place::parse("abc.7"), Some(place));
    assert_eq!(Place::parse(&format!("abc.7.{id}")), Some(place));
    for bad in [
        "",
        "abc",
        "abc.",
        "abc.x",
        "abc.-1",
        "abc.99999999999999999999",
    ] {
        assert_eq!(Place::parse(bad), None, "{bad}");
    }
}
