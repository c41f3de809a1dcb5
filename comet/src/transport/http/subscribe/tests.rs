use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use protocol::{
    Header, MessageId,
    query::{Form, Place},
};

use super::{
    super::origins::Origins,
    event::{self, Opening},
    json::{self, Message, Verdict},
    *,
};

/// A header's name and value.
type Line = (&'static str, &'static str);

fn headers(lines: &[Line]) -> HeaderMap {
    lines
        .iter()
        .map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn request(method: Method, path: &str, lines: &[Line]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    *request.headers_mut() = headers(lines);
    request
}

#[test]
fn requests_for_websocket_are_left_to_it() {
    let events = ("accept", "text/html, Text/Event-Stream;q=0.9");
    for (method, path, lines) in [
        (Method::GET, "/sub?t=x", &[][..]),
        (Method::GET, "/sub", &[events][..]),
        (Method::GET, "/sub", &[("last-event-id", "x.1")][..]),
        (Method::POST, "/sub", &[][..]),
        (Method::OPTIONS, "/sub", &[][..]),
    ] {
        assert!(
            is_subscription(&request(method, path, lines)),
            "{path} {lines:?}"
        );
    }
    for (method, path, lines) in [
        (Method::GET, "/sub", &[][..]),
        (
            Method::GET,
            "/sub?",
            &[("accept", "text/event-streams")][..],
        ),
        (Method::GET, "/sub?t=x", &[("upgrade", "websocket")][..]),
        (Method::POST, "/sub?s=x", &[("upgrade", "websocket")][..]),
        (Method::PUT, "/sub?t=x", &[][..]),
    ] {
        assert!(
            !is_subscription(&request(method, path, lines)),
            "{path} {lines:?}"
        );
    }
}

#[test]
fn bodies_are_text_or_base64() {
    let header = Header::push(1000);
    let message =
        |body| String::from_utf8(json::encode(&Message::new(header, body, None))).unwrap();
    assert_eq!(
        message("a\n\"\u{2028}✓".as_bytes()),
        "{\"ver\":1,\"op\":1000,\"seq\":0,\"body\":\"a\\n\\\"\u{2028}✓\"}"
    );
    assert_eq!(
        message(&[0xff, 0]),
        r#"{"ver":1,"op":1000,"seq":0,"base64":"/wA="}"#
    );
    let named = Message::new(header, b"", Some(MessageId([1; 16])));
    let named = String::from_utf8(json::encode(&named)).unwrap();
    assert!(
        named.ends_with(&format!(r#""body":"","id":"{}"}}"#, "01".repeat(16))),
        "{named}"
    );
}

#[test]
fn goim_1_is_given_the_json_that_a_body_is() {
    let version1 = |body| String::from_utf8(json::version1(Header::push(5), body)).unwrap();
    for (body, given) in [
        (&b" {\"a\": [1, null]} "[..], r#"{"a": [1, null]}"#),
        (b"7", "7"),
        (b"hello", r#""hello""#),
        (b"{\"a\":", r#""{\"a\":""#),
        (b"", r#""""#),
        (b"\xff", r#""/w==","base64":true"#),
    ] {
        let proto = format!(r#"{{"ver":1,"op":5,"seq":0,"body":{given}}}"#);
        assert_eq!(version1(body), proto);
    }
}

#[tokio::test]
async fn an_answer_is_json_or_a_script() {
    for (form, kind, body) in [
        (Form::Json, "application/json", "{\"a\":\"\u{2028}\"}"),
        (
            Form::Assign("x".into()),
            "text/javascript",
            r#"x={"a":"\u2028"}"#,
        ),
        (
            Form::Call("f".into()),
            "text/javascript",
            r#"/**/f({"a":"\u2028"});"#,
        ),
    ] {
        let json = "{\"a\":\"\u{2028}\"}".as_bytes().to_vec();
        let response = json::respond(StatusCode::OK, &form, json);
        let headers = response.headers();
        assert!(
            headers[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .starts_with(kind)
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes, body);
    }
    let refused = || Verdict::refused(StatusCode::FORBIDDEN, "auth_refused", "no");
    assert_eq!(refused().code, -403);
    let status = |form| refused().into_response(&form).status();
    assert_eq!(status(Form::Json), StatusCode::FORBIDDEN);
    // A browser runs it only so.
    assert_eq!(status(Form::Assign("x".into())), StatusCode::OK);
    assert_eq!(status(Form::Call("f".into())), StatusCode::OK);
    assert_eq!(
        Verdict::taken().into_response(&Form::Json).status(),
        StatusCode::OK
    );
}

#[test]
fn events_are_blocks_of_lines() {
    let place = Place {
        session: "abc",
        number: 7,
    };
    let mut stream = Vec::new();
    let opening = Opening {
        session: "abc".to_owned(),
        key: "k",
        mid: 1,
        heartbeat: 25_000,
        resumed: false,
        missed: 0,
    };
    event::put_opening(place, Duration::from_secs(3), &opening, &mut stream);
    let message = Message::new(Header::push(5), b"a\nb", None);
    event::put_message(place, Some(MessageId([0xab; 16])), &message, &mut stream);
    event::put_heartbeat(7, &mut stream);
    let id = "ab".repeat(16);
    assert_eq!(
        String::from_utf8(stream).unwrap(),
        format!(
            "retry: 3000\nid: abc.7\nevent: session\n\
             data: {{\"session\":\"abc\",\"key\":\"k\",\"mid\":1,\"heartbeat\":25000,\"resumed\":false,\"missed\":0}}\n\n\
             id: abc.7.{id}\ndata: {{\"ver\":1,\"op\":5,\"seq\":0,\"body\":\"a\\nb\"}}\n\n\
             : heartbeat\nevent: heartbeat\ndata: {{\"online\":7}}\n\n"
        )
    );
}

/// What a browser is told of an answer: of which origin pages may read it, and whether with cookies.
fn told(origins: &Origins, lines: &[Line]) -> Option<(String, bool)> {
    let mut response = Response::new(Body::empty());
    let (leave, _) = cors::judge(origins, &headers(lines))?;
    leave.mark(&mut response);
    let headers = response.headers();
    assert_eq!(headers[header::VARY], "Origin");
    let origin = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let origin = origin
        .map_or("", |origin| origin.to_str().unwrap())
        .to_owned();
    let is_allowed = headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    Some((origin, is_allowed))
}

fn list(origins: &[&str]) -> Origins {
    let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
    Origins::parse(&origins).unwrap()
}

#[test]
fn where_all_pages_may_ask_they_ask_without_cookies() {
    let all = Origins::default();
    let told = |lines: &[Line]| told(&all, lines);
    assert_eq!(
        told(&[("origin", "https://a.example")]),
        Some(("*".to_owned(), false))
    );
    assert_eq!(told(&[]), Some((String::new(), false)));
    assert!(told(&[("sec-fetch-site", "cross-site")]).is_some());
}

#[test]
fn pages_of_a_list_ask_with_cookies() {
    let some = list(&["https://a.example", "null"]);
    let told = |lines: &[Line]| told(&some, lines);
    let named = |origin: &str, with_cookies| Some((origin.to_owned(), with_cookies));
    assert_eq!(
        told(&[("origin", "https://A.example")]),
        named("https://A.example", true)
    );
    assert_eq!(told(&[("origin", "null")]), named("null", false));
    assert_eq!(told(&[]), named("", false));
    for foreign in [
        "https://b.example",
        "http://a.example",
        "https://a.example:8443",
        "",
    ] {
        assert_eq!(
            told(&[("origin", foreign), ("host", "b.example")]),
            None,
            "{foreign}"
        );
    }
}

#[test]
fn what_names_no_origin_is_judged_by_where_it_comes_from() {
    let some = list(&["https://a.example"]);
    let page = |lines: &[Line]| Some(cors::judge(&some, &headers(lines))?.1);
    assert_eq!(page(&[]), Some(Page::Untold));
    let may = |lines: &[Line]| match page(lines) {
        None => false,
        known => {
            assert_eq!(known, Some(Page::Known));
            true
        }
    };
    let any = cors::judge(&Origins::default(), &headers(&[])).unwrap().1;
    assert_eq!(any, Page::Any);
    let cross = ("sec-fetch-site", "cross-site");
    assert!(may(&[cross, ("referer", "https://a.example/page?x=1")]));
    assert!(may(&[("referer", "https://a.example")]));
    assert!(may(&[
        ("sec-fetch-site", "same-origin"),
        ("referer", "https://b.example/")
    ]));
    assert!(may(&[("sec-fetch-site", "none")]));
    assert!(!may(&[cross]));
    assert!(!may(&[("sec-fetch-site", "same-site")]));
    assert!(!may(&[("referer", "https://b.example/https://a.example")]));
    assert!(!may(&[("referer", "https://a.example.b/")]));
}
