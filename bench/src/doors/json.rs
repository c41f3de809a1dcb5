//! What Server-Sent Events and long-poll have in common: protos as JSON, and as much HTTP as a client needs.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protocol::HEADER_LEN;
use serde::Deserialize;

use super::frames::{Mark, Seen, WalkError};
use crate::DATA;

/// Bytes of one answer, chunk or event: far more than a server sends.
pub(super) const MAX: usize = 64 << 20;

/// What is looked at of a proto.
#[derive(Debug, Deserialize)]
pub(super) struct Proto<'a> {
    op: i32,
    #[serde(borrow, default)]
    body: Cow<'a, str>,
    #[serde(borrow, default)]
    base64: Option<Cow<'a, str>>,
}

impl Proto<'_> {
    pub(super) fn seen(&self) -> Seen {
        let mark = if self.op == DATA {
            let decoded = self.base64.as_ref().map(|text| STANDARD.decode(&**text));
            let body = decoded.and_then(Result::ok);
            Mark::read(body.as_deref().unwrap_or(self.body.as_bytes()))
        } else {
            None
        };
        Seen { op: self.op, mark }
    }
}

/// A request with these parameters, and further lines of its head.
pub(super) fn request(query: &str, lines: &str) -> Vec<u8> {
    format!("GET /sub?{query} HTTP/1.1\r\nHost: comet\r\n{lines}\r\n").into_bytes()
}

/// The parameter that logs in a client whose Auth this frame is.
pub(super) fn token(auth: &[u8]) -> String {
    let token = auth.get(HEADER_LEN..).unwrap_or_default();
    let bytes = token.iter().map(|byte| format!("%{byte:02X}"));
    format!("t={}", bytes.collect::<String>())
}

/// Where something stands in the bytes.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(wanted.len());
    windows.position(|window| window == wanted)
}

/// Not what a server is to send.
pub(super) fn refused(bytes: &[u8]) -> WalkError {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    WalkError::Refused(line.chars().take(100).collect())
}
