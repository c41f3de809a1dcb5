//! Server-Sent Events: blocks of lines, each ended by an empty one. JSON has no line ends inside.

use std::time::Duration;

use protocol::{MessageId, query::Place};
use serde::Serialize;

use super::json::{self, Message};

/// The first event of a stream.
#[derive(Debug, Serialize)]
pub struct Opening<'a> {
    /// By what requests name the session.
    pub session: String,
    /// The connection's key.
    pub key: &'a str,
    /// The user.
    pub mid: i64,
    /// After how many milliseconds at the latest something comes.
    pub heartbeat: u64,
    /// Whether the stream goes on with an earlier one's session.
    pub resumed: bool,
    /// How many messages that session had in between and has no longer.
    pub missed: u64,
}

/// Begins a stream: how long a browser waits until it comes back, and the first event, named `session`.
pub fn put_opening(place: Place<'_>, retry: Duration, opening: &Opening<'_>, out: &mut Vec<u8>) {
    put_retry(retry, out);
    put_id(place, None, out);
    out.extend_from_slice(b"event: session\n");
    put_data(&json::encode(opening), out);
}

/// A proto, without a name: what browsers hand to `onmessage`.
pub fn put_message(
    place: Place<'_>,
    id: Option<MessageId>,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) {
    put_id(place, id, out);
    put_data(&json::encode(message), out);
}

/// All of a stream that has only last words.
pub fn put_last(retry: Duration, message: &Message<'_>, out: &mut Vec<u8>) {
    put_retry(retry, out);
    put_data(&json::encode(message), out);
}

/// A sign of life: a comment, and the event `heartbeat` with the count of those online.
pub fn put_heartbeat(online: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b": heartbeat\nevent: heartbeat\n");
    put_data(format!("{{\"online\":{online}}}").as_bytes(), out);
}

fn put_id(place: Place<'_>, message: Option<MessageId>, out: &mut Vec<u8>) {
    let Place { session, number } = place;
    let line = match message {
        Some(id) => format!("id: {session}.{number}.{id}\n"),
        None => format!("id: {session}.{number}\n"),
    };
    out.extend_from_slice(line.as_bytes());
}

/// After what time a browser comes back.
pub fn put_retry(retry: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("retry: {}\n", retry.as_millis()).as_bytes());
}

fn put_data(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}
