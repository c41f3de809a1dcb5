//! What is noted of a connection: one JSON object a line.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use protocol::{Decoded, Frame, HEADER_LEN, Header, MessageId, codec, op};
use serde_json::{Value, json};

/// One step of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// It came so long ago, through a door.
    Accept {
        /// The door.
        door: &'static str,
        /// From where.
        client: SocketAddr,
        /// Until logic had accepted its token.
        ago: Duration,
    },
    /// Logic accepted its token.
    Auth {
        /// The room to join.
        room: &'a str,
        /// The operations that it accepts.
        accepts: &'a [i32],
    },
    /// It has been put on the list while it was connected.
    Noted,
    /// A frame came from the client.
    Read {
        /// Its header.
        header: Header,
        /// Bytes of its body.
        bytes: usize,
    },
    /// What became of a frame: `heartbeat`, `change_room`, `receive` or the like.
    Process {
        /// What.
        what: &'static str,
        /// Its header.
        header: Header,
    },
    /// Messages, or answers, wait in the backlog.
    Queue(What<'a>),
    /// The socket has accepted the last byte.
    Write(What<'a>),
    /// A message was not taken.
    Drop {
        /// `backlog_full`, `closing` or `filtered`.
        reason: &'static str,
        /// Which.
        frame: &'a Frame,
    },
    /// Messages that waited will not be delivered.
    Lost {
        /// `oldest`, or the reason of the close.
        reason: &'static str,
        /// Which.
        messages: &'a [MessageId],
    },
    /// The connection begins to close.
    Close {
        /// Why.
        reason: &'static str,
    },
    /// It is closed.
    End {
        /// Why.
        reason: &'static str,
    },
}

/// What goes to a client.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A push.
    Frame(&'a Frame),
    /// Messages that had waited.
    Messages(&'a [MessageId]),
    /// So many answers, pongs among them, of so many bytes together.
    Answers {
        /// How many.
        count: u32,
        /// Their bytes.
        bytes: usize,
    },
}

impl Step<'_> {
    /// The line of this step, without its end.
    pub(super) fn line(&self, mid: i64, key: &str, connection: u64) -> String {
        let at = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let mut line = json!({
            "at": at, "mid": mid, "key": key, "connection": connection, "step": self.name(),
        });
        if let (Value::Object(line), Value::Object(detail)) = (&mut line, self.detail()) {
            line.extend(detail);
        }
        line.to_string()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Accept { .. } => "accept",
            Self::Auth { .. } => "auth",
            Self::Noted => "noted",
            Self::Read { .. } => "read",
            Self::Process { .. } => "process",
            Self::Queue(_) => "queue",
            Self::Write(_) => "write",
            Self::Drop { .. } => "drop",
            Self::Lost { .. } => "lost",
            Self::Close { .. } => "close",
            Self::End { .. } => "end",
        }
    }

    fn detail(&self) -> Value {
        match *self {
            Self::Accept { door, client, ago } => {
                let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
                json!({ "door": door, "client": client.to_string(), "micros_ago": ago })
            }
            Self::Auth { room, accepts } => json!({ "room": room, "accepts": accepts }),
            Self::Noted => json!({}),
            Self::Read { header, bytes } => {
                let Header { ver, op, seq } = header;
                json!({ "operation": op::name(op), "op": op, "ver": ver, "seq": seq, "bytes": bytes })
            }
            Self::Process { what, header } => {
                json!({ "what": what, "op": header.op, "seq": header.seq })
            }
            Self::Queue(what) | Self::Write(what) => what.detail(),
            Self::Drop { reason, frame } => {
                json!({ "reason": reason, "messages": messages(frame) })
            }
            Self::Lost { reason, messages } => {
                json!({ "reason": reason, "messages": ids(messages) })
            }
            Self::Close { reason } | Self::End { reason } => json!({ "reason": reason }),
        }
    }
}

impl What<'_> {
    fn detail(&self) -> Value {
        match *self {
            Self::Frame(frame) => json!({ "messages": messages(frame) }),
            Self::Messages(messages) => json!({ "messages": ids(messages) }),
            Self::Answers { count, bytes } => json!({ "answers": count, "bytes": bytes }),
        }
    }
}

/// Each message of a frame. Bodies are nobody's business.
fn messages(frame: &Frame) -> Vec<Value> {
    let mut rest = frame.tcp();
    let described = frame.meta().iter().map(|meta| {
        let mut message = json!({ "id": meta.id.to_string() });
        if let Ok(Decoded::Frame { header, body, len }) =
            codec::decode(rest, usize::MAX - HEADER_LEN)
        {
            message["op"] = header.op.into();
            message["bytes"] = body.len().into();
            rest = &rest[len..];
        }
        message
    });
    described.collect()
}

fn ids(messages: &[MessageId]) -> Vec<String> {
    messages.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use protocol::Meta;

    use super::*;

    fn frame(id: u8, op: i32, body: &[u8]) -> Frame {
        let meta = Meta::from(MessageId([id; 16]));
        Frame::message(Header::push(op), body, meta)
    }

    #[test]
    fn a_line_names_each_message_and_no_body() {
        let joined = Frame::join(&[frame(1, 1000, b"secret"), frame(2, 1001, b"")]);
        let line = Step::Queue(What::Frame(&joined)).line(7, "a \"key\"", 9);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["mid"], &line["key"]),
            (&json!(7), &json!("a \"key\""))
        );
        assert_eq!(
            (&line["connection"], &line["step"]),
            (&json!(9), &json!("queue"))
        );
        let (one, two) = ("01".repeat(16), "02".repeat(16));
        let messages = json!([
            { "id": one, "op": 1000, "bytes": 6 },
            { "id": two, "op": 1001, "bytes": 0 },
        ]);
        assert_eq!(line["messages"], messages);
        assert!(line["at"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn steps_say_what_they_are_about() {
        let header = Header {
            ver: 1,
            op: op::HEARTBEAT,
            seq: 3,
        };
        let detail = Step::Read { header, bytes: 0 }.detail();
        let expected = json!({ "operation": "heartbeat", "op": 2, "ver": 1, "seq": 3, "bytes": 0 });
        assert_eq!(detail, expected);
        let lost = Step::Lost {
            reason: "kicked",
            messages: &[MessageId([255; 16])],
        };
        let expected = json!({ "reason": "kicked", "messages": ["ff".repeat(16)] });
        assert_eq!(lost.detail(), expected);
        let accept = Step::Accept {
            door: "tcp",
            client: SocketAddr::from(([127, 0, 0, 1], 9)),
            ago: Duration::from_millis(2),
        };
        let expected = json!({ "door": "tcp", "client": "127.0.0.1:9", "micros_ago": 2000 });
        assert_eq!(accept.detail(), expected);
    }
}
