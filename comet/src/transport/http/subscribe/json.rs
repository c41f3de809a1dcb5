//! Protos and answers as JSON.

use axum::{body::Body, response::IntoResponse as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Response, StatusCode, header};
use protocol::{Header, MessageId, query::Form};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

/// A proto. Its body is text, or base64 where it is not UTF-8.
#[derive(Debug, Serialize)]
pub struct Message<'a> {
    ver: i16,
    op: i32,
    seq: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// The answer to a poll.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// 0.
    pub code: i32,
    /// Empty.
    pub message: &'static str,
    /// By what the next poll names the session.
    pub session: String,
    /// The connection's key.
    pub key: &'a str,
    /// The user.
    pub mid: i64,
    /// The number of the last of the messages, which the next poll acknowledges.
    pub ack: u64,
    /// How many are online in the client's room; 0 without one.
    pub online: u32,
    /// What came.
    pub messages: Vec<Message<'a>>,
}

/// What a request gets that is taken and not answered otherwise, or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// 0, or the status with a minus.
    pub code: i32,
    /// An object: `message`, and where it is a no, `reason` for programs, and what else there is to say.
    #[serde(flatten)]
    pub words: Value,
}

/// A proto as goim 1 has it: its body is the JSON that it is, or else a text.
#[derive(Debug, Serialize)]
struct Version1<'a> {
    ver: i16,
    op: i32,
    seq: i32,
    body: Body1<'a>,
    #[serde(skip_serializing_if = "is_false")]
    base64: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body1<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Encoded(String),
}

impl<'a> Message<'a> {
    /// A proto, and the name of the message where it is one.
    pub fn new(header: Header, body: &'a [u8], id: Option<MessageId>) -> Self {
        let text = str::from_utf8(body).ok();
        Self {
            ver: header.ver,
            op: header.op,
            seq: header.seq,
            body: text,
            base64: text.is_none().then(|| STANDARD.encode(body)),
            id: id.map(|id| id.to_string()),
        }
    }
}

/// A proto as goim 1's clients read it.
pub fn version1(header: Header, body: &[u8]) -> Vec<u8> {
    let body = match (
        serde_json::from_slice::<&RawValue>(body),
        str::from_utf8(body),
    ) {
        (Ok(json), _) => Body1::Json(json),
        (Err(_), Ok(text)) => Body1::Text(text),
        (Err(_), Err(_)) => Body1::Encoded(STANDARD.encode(body)),
    };
    encode(&Version1 {
        ver: header.ver,
        op: header.op,
        seq: header.seq,
        base64: matches!(body, Body1::Encoded(_)),
        body,
    })
}

/// The JSON of a value of this module.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Nothing here has a key that is no text, which alone could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

impl Verdict {
    /// Yes.
    pub fn taken() -> Self {
        Self {
            code: 0,
            words: json!({ "message": "" }),
        }
    }

    /// No, with a status and the reason's name.
    pub fn refused(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self::of(
            status,
            json!({ "message": message.into(), "reason": reason }),
        )
    }

    /// No, with a status and an object that says why.
    pub fn of(status: StatusCode, words: Value) -> Self {
        Self {
            code: -i32::from(status.as_u16()),
            words,
        }
    }

    /// The status that goes with it.
    fn status(&self) -> StatusCode {
        let status = u16::try_from(-self.code).unwrap_or_default();
        StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
    }

    /// As the answer to a request.
    pub fn into_response(self, form: &Form) -> Response<Body> {
        respond(self.status(), form, encode(&self))
    }
}

/// An answer of this JSON. A script has the status 200, whatever it says: browsers do not run others.
pub fn respond(status: StatusCode, form: &Form, json: Vec<u8>) -> Response<Body> {
    let (status, kind, body) = match form {
        Form::Json => (status, "application/json", json),
        Form::Assign(name) => {
            let body = script(&[name.as_str(), "="], json, "");
            (StatusCode::OK, SCRIPT, body)
        }
        // What comes first makes nothing else of the name than a script's, whatever a browser takes the answer for.
        Form::Call(name) => {
            let body = script(&["/**/", name.as_str(), "("], json, ");");
            (StatusCode::OK, SCRIPT, body)
        }
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (status, headers, body).into_response()
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// JSON is a script but for two characters, which old browsers take for ends of lines.
fn script(before: &[&str], json: Vec<u8>, after: &str) -> Vec<u8> {
    let json = String::from_utf8(json).unwrap_or_default();
    let json = json
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    [before.concat().as_str(), json.as_str(), after]
        .concat()
        .into_bytes()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !*value
}
