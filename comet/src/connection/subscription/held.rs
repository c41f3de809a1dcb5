//! What a session's requests have been given and may ask for again. Protos are numbered from 1 in the order in which they came.

use std::collections::VecDeque;

use protocol::{Decoded, Frame, Header, MessageId, Meta, codec};

use crate::channel::Taken;

/// What was taken from the channel and is not forgotten.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: VecDeque<Entry>,
    /// The number of the last proto that ever came.
    last: u64,
    /// Up to this number the door's writer has accepted them.
    delivered: u64,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    /// The number of its first proto.
    first: u64,
    taken: Taken,
}

/// Some of what is held, from a number on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    entries: Vec<Entry>,
    /// The number before the first proto; the first entry may have earlier ones.
    after: u64,
}

/// One proto.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered<'a> {
    pub(super) number: u64,
    pub(super) header: Header,
    pub(super) body: &'a [u8],
    /// Of a message.
    pub(super) id: Option<MessageId>,
}

impl Held {
    /// Takes more.
    pub(super) fn put(&mut self, taken: Vec<Taken>) {
        for taken in taken {
            let first = self.last + 1;
            self.last += taken.count();
            self.bytes += taken.protos().len();
            self.entries.push_back(Entry { first, taken });
        }
    }

    /// The number of the last proto that came.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the writer has accepted everything.
    pub(super) fn is_delivered(&self) -> bool {
        self.delivered == self.last
    }

    /// Notes that the writer has accepted everything up to `number`; returns the messages of which that is new.
    pub(super) fn deliver(&mut self, number: u64) -> Vec<MessageId> {
        let number = number.min(self.last);
        let messages = self.messages(self.delivered, number);
        self.delivered = self.delivered.max(number);
        messages
    }

    /// The messages that no writer has accepted.
    pub(super) fn undelivered(&self) -> Vec<MessageId> {
        self.messages(self.delivered, self.last)
    }

    /// Forgets what the client says that it has.
    pub(super) fn forget(&mut self, number: u64) {
        while let Some(first) = self.entries.pop_front_if(|entry| entry.last() <= number) {
            self.bytes -= first.taken.protos().len();
        }
    }

    /// Forgets the oldest that are delivered, down to so many protos and bytes.
    pub(super) fn trim(&mut self, protos: usize, bytes: usize) {
        let delivered = self.delivered;
        while self.count() > protos as u64 || self.bytes > bytes {
            let Some(oldest) = self.entries.pop_front_if(|entry| entry.last() <= delivered) else {
                return;
            };
            self.bytes -= oldest.taken.protos().len();
        }
    }

    /// How many protos came after `number` and are not held any more.
    pub(super) fn missed(&self, number: u64) -> u64 {
        let first = self
            .entries
            .front()
            .map_or(self.last + 1, |entry| entry.first);
        first.saturating_sub(number.saturating_add(1))
    }

    /// What came after `number`.
    pub(super) fn after(&self, number: u64) -> Parcel {
        let later = self.entries.iter().filter(|entry| entry.last() > number);
        Parcel {
            entries: later.cloned().collect(),
            after: number,
        }
    }

    /// Protos that are held.
    fn count(&self) -> u64 {
        let first = self
            .entries
            .front()
            .map_or(self.last + 1, |entry| entry.first);
        self.last + 1 - first
    }

    /// The messages after `from` and up to `to`.
    fn messages(&self, from: u64, to: u64) -> Vec<MessageId> {
        let entries = self.entries.iter().filter(|entry| entry.last() > from);
        let messages = entries.flat_map(|entry| entry.meta().iter().zip(entry.first..));
        messages
            .filter(|(_, number)| *number > from && *number <= to)
            .map(|(meta, _)| meta.id)
            .collect()
    }
}

impl Entry {
    /// The names of its messages, if it has any.
    fn meta(&self) -> &[Meta] {
        self.taken.frame().map(Frame::meta).unwrap_or_default()
    }

    fn last(&self) -> u64 {
        self.first + self.taken.count() - 1
    }
}

impl Parcel {
    /// Its protos, in order.
    pub(super) fn protos(&self) -> impl Iterator<Item = Numbered<'_>> {
        let after = self.after;
        self.entries.iter().flat_map(move |entry| {
            let ids = entry.meta().iter().map(|meta| Some(meta.id));
            walk(entry.taken.protos())
                .zip(ids.chain(std::iter::repeat(None)))
                .zip(entry.first..)
                .filter(move |(_, number)| *number > after)
                .map(|(((header, body), id), number)| Numbered {
                    number,
                    header,
                    body,
                    id,
                })
        })
    }
}

/// The protos that follow each other in these bytes.
fn walk(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || match codec::decode(bytes, usize::MAX) {
        Ok(Decoded::Frame { header, body, len }) => {
            bytes = &bytes[len..];
            Some((header, body))
        }
        // They are our own.
        Ok(Decoded::Incomplete { .. }) | Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use protocol::op;

    use super::*;

    fn message(text: &str) -> Frame {
        let id = MessageId([text.as_bytes()[0]; 16]);
        Frame::message(Header::push(1000), text.as_bytes(), Meta::from(id))
    }

    fn answer() -> Taken {
        let mut bytes = Vec::new();
        Header::push(op::AUTH_REPLY).encode(b"", &mut bytes);
        Taken::Answers(bytes.into(), 1)
    }

    /// An answer, a message, and three that were joined: numbers 1, 2 and 3 to 5.
    fn held() -> Held {
        let joined = Frame::join(&[message("b"), message("c"), message("d")]);
        let mut held = Held::default();
        held.put(vec![
            answer(),
            Taken::Messages(message("a")),
            Taken::Messages(joined),
        ]);
        held
    }

    fn texts(parcel: &Parcel) -> Vec<(u64, String, bool)> {
        let protos = parcel.protos();
        protos
            .map(|proto| {
                let text = String::from_utf8(proto.body.to_vec()).unwrap();
                let is_named = proto.id.is_some_and(|id| id.0[0] == text.as_bytes()[0]);
                (proto.number, text, is_named)
            })
            .collect()
    }

    #[test]
    fn what_was_joined_is_numbered_one_by_one() {
        let held = held();
        let all = [
            (1, "", false),
            (2, "a", true),
            (3, "b", true),
            (4, "c", true),
            (5, "d", true),
        ];
        let all = all.map(|(number, text, is_named)| (number, text.to_owned(), is_named));
        assert_eq!(texts(&held.after(0)), all);
        assert_eq!(texts(&held.after(3)), all[3..]);
        assert!(texts(&held.after(5)).is_empty());
        assert_eq!(held.last(), 5);
    }

    #[test]
    fn a_message_is_delivered_once() {
        let mut held = held();
        assert_eq!(held.undelivered().len(), 4);
        assert_eq!(
            held.deliver(3),
            [b'a', b'b'].map(|byte| MessageId([byte; 16]))
        );
        assert_eq!(held.deliver(2), []);
        assert_eq!((held.undelivered().len(), held.is_delivered()), (2, false));
        assert_eq!(held.deliver(99).len(), 2);
        assert!(held.is_delivered());
    }

    #[test]
    fn what_is_acknowledged_is_forgotten_whole_entries_only() {
        let mut held = held();
        held.forget(3);
        assert_eq!(texts(&held.after(3)).len(), 2);
        held.forget(5);
        assert!(held.is_empty());
        held.put(vec![Taken::Messages(message("e"))]);
        assert_eq!(texts(&held.after(5)), [(6, "e".to_owned(), true)]);
    }

    #[test]
    fn only_what_is_delivered_makes_room_and_is_missed() {
        let mut held = held();
        held.trim(0, 0);
        assert_eq!(held.missed(0), 0);
        held.deliver(2);
        held.trim(0, 0);
        assert_eq!(
            (
                held.missed(0),
                held.missed(1),
                held.missed(2),
                held.missed(9)
            ),
            (2, 1, 0, 0)
        );
        held.deliver(5);
        held.trim(3, 1 << 20);
        assert_eq!(held.missed(2), 0);
        held.trim(3, 10);
        assert!(held.is_empty());
        assert_eq!(held.missed(2), 3);
    }
}
