//! A push as it is stored: a line of JSON and the message's body. And the stream that it belongs to.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{MessageId, RoomId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::push::{Message, Whom};

/// One push, or its part for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The message's name.
    pub id: MessageId,
    /// The operation under which clients get it.
    pub operation: i32,
    /// Whom it is for.
    pub whom: Whom,
    /// The process that waits for its report, if one does.
    pub reply: Option<String>,
    /// The message.
    pub body: Bytes,
}

/// Why bytes are no entry: whoever wrote them is another program, or a later version of this one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// There is no line.
    #[error("no head")]
    NoHead,
    /// The line is not what it should be.
    #[error("the head: {0}")]
    Head(#[from] serde_json::Error),
    /// A name is none.
    #[error("{0} is none")]
    Name(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    id: String,
    operation: i32,
    to: To,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    Keys(Vec<String>),
    Mids(Vec<i64>),
    Room(String),
    Everyone { speed: i32 },
}

impl Entry {
    /// A push of `message` to `whom`.
    pub fn new(message: &Message, whom: Whom, reply: Option<String>) -> Self {
        Self {
            id: message.id,
            operation: message.operation,
            whom,
            reply,
            body: message.body(),
        }
    }

    /// As it is stored.
    pub fn encode(&self) -> Result<Bytes, EntryError> {
        let head = Head {
            id: self.id.to_string(),
            operation: self.operation,
            to: match &self.whom {
                Whom::Keys(keys) => To::Keys(keys.clone()),
                Whom::Mids(mids) => To::Mids(mids.clone()),
                Whom::Room(room) => To::Room(room.as_str().to_owned()),
                Whom::Everyone { speed } => To::Everyone { speed: *speed },
            },
            reply: self.reply.clone(),
        };
        let mut content = serde_json::to_vec(&head)?;
        content.push(b'\n');
        content.extend_from_slice(&self.body);
        Ok(content.into())
    }

    /// What [`Entry::encode`] has made.
    pub fn decode(content: &Bytes) -> Result<Self, EntryError> {
        let end = content.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or(EntryError::NoHead)?;
        let head: Head = serde_json::from_slice(&content[..end])?;
        let id = u128::from_str_radix(&head.id, 16).map_err(|_| EntryError::Name("id"))?;
        Ok(Self {
            id: MessageId(id.to_be_bytes()),
            operation: head.operation,
            whom: match head.to {
                To::Keys(keys) => Whom::Keys(keys),
                To::Mids(mids) => Whom::Mids(mids),
                To::Room(room) => Whom::Room(
                    RoomId::from_bytes(room.as_bytes(), room.len())
                        .map_err(|_| EntryError::Name("room"))?,
                ),
                To::Everyone { speed } => Whom::Everyone { speed },
            },
            reply: head.reply,
            body: content.slice(end + 1..),
        })
    }
}

/// The streams that a push belongs to, and whom each part is for: what is pushed in turn to one room, one key or one mid is in
/// one stream.
pub fn split(whom: Whom, streams: u16) -> BTreeMap<u16, Whom> {
    match whom {
        Whom::Keys(keys) => group(keys, Whom::Keys, |key| stream_of(key.as_bytes(), streams)),
        Whom::Mids(mids) => group(mids, Whom::Mids, |mid| {
            stream_of(&mid.to_be_bytes(), streams)
        }),
        Whom::Room(room) => {
            let stream = stream_of(room.as_str().as_bytes(), streams);
            BTreeMap::from([(stream, Whom::Room(room))])
        }
        everyone @ Whom::Everyone { .. } => BTreeMap::from([(0, everyone)]),
    }
}

fn group<T>(
    names: Vec<T>,
    whom: impl Fn(Vec<T>) -> Whom,
    stream: impl Fn(&T) -> u16,
) -> BTreeMap<u16, Whom> {
    let mut groups: BTreeMap<u16, Vec<T>> = BTreeMap::new();
    for name in names {
        groups.entry(stream(&name)).or_default().push(name);
    }
    let groups = groups.into_iter();
    groups
        .map(|(stream, names)| (stream, whom(names)))
        .collect()
}

/// FNV-1a, and a step of `MurmurHash3` that spreads it: the same in every process and every version.
fn stream_of(name: &[u8], streams: u16) -> u16 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = hash ^ (hash >> 33);
    u16::try_from(hash % u64::from(streams.max(1))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let message = Message::new(1000, b"two\nlines");
        for whom in [
            Whom::Keys(vec!["a".to_owned(), "\"\n".to_owned()]),
            Whom::Mids(vec![7, i64::MIN]),
            Whom::Room(RoomId::new("live", "1")),
            Whom::Everyone { speed: 5 },
        ] {
            let entry = Entry::new(&message, whom, Some("p".to_owned()));
            assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap(), entry);
        }
    }

    #[test]
    fn its_head_can_be_read() {
        let mut message = Message::new(1000, b"hi");
        message.id = MessageId([0xab; 16]);
        let entry = Entry::new(&message, Whom::Room(RoomId::new("live", "1")), None);
        let head = r#"{"id":"abababababababababababababababab","operation":1000,"to":{"room":"live://1"}}"#;
        assert_eq!(entry.encode().unwrap(), format!("{head}\nhi"));
    }

    #[test]
    fn other_bytes_are_no_entry() {
        for content in [
            "",
            "{}",
            "{}\n",
            "\u{0}\n",
            r#"{"id":"x","operation":1,"to":{"mids":[1]}}"#,
        ] {
            assert!(Entry::decode(&Bytes::from(content)).is_err(), "{content}");
        }
    }

    #[test]
    fn each_name_has_one_stream_and_all_streams_have_names() {
        let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
        let parts = split(Whom::Keys(keys.clone()), 32);
        assert_eq!(parts.len(), 32);
        for (stream, whom) in parts {
            let Whom::Keys(part) = whom else {
                panic!("{whom:?}");
            };
            assert!(part.len() < 80, "{stream} has {}", part.len());
            let again = split(Whom::Keys(part.clone()), 32);
            assert_eq!(again, BTreeMap::from([(stream, Whom::Keys(part))]));
        }
        let mids = split(Whom::Mids((0..1_000).collect()), 32);
        assert_eq!(mids.len(), 32);
        // Another version must not choose another stream.
        assert_eq!(stream_of(b"live://1", 32), 4);
        assert!(split(Whom::Keys(keys), 1).contains_key(&0));
    }
}
