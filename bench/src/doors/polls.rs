//! Long-poll as a client needs it here: one connection, on which each answer is followed by the next request. An answer is the
//! login's too; clients send no heartbeats.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    frames::{Seen, WalkError},
    json::{self, Proto, find, refused},
};

/// The request of a client whose Auth this frame is.
pub(super) fn login(auth: &[u8]) -> Vec<u8> {
    json::request(&format!("s=&{}", json::token(auth)), "")
}

/// Where a connection stands in its answers.
#[derive(Debug, Default)]
pub(super) struct PollWalk {
    /// Bytes of an answer that has not come whole.
    held: Vec<u8>,
    next: Option<Vec<u8>>,
}

/// What is looked at of an answer.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    session: Cow<'a, str>,
    ack: u64,
    #[serde(borrow)]
    messages: Vec<Proto<'a>>,
}

impl PollWalk {
    /// Goes on over `input`.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        on: &mut impl FnMut(Seen),
    ) -> Result<(), WalkError> {
        self.held.extend_from_slice(input);
        while let Some((start, end)) = body(&self.held)? {
            let json = &self.held[start..end];
            let answer: Answer<'_> = serde_json::from_slice(json).map_err(|_| refused(json))?;
            for proto in &answer.messages {
                on(proto.seen());
            }
            let next = format!("s={}&ack={}", answer.session, answer.ack);
            self.next = Some(json::request(&next, ""));
            self.held.drain(..end);
        }
        Ok(())
    }

    /// The request that acknowledges the last answer, once.
    pub(super) fn take_request(&mut self) -> Option<Vec<u8>> {
        self.next.take()
    }
}

/// Where the body of the answer that begins `bytes` starts and ends, once it is there whole.
fn body(bytes: &[u8]) -> Result<Option<(usize, usize)>, WalkError> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > json::MAX {
            Err(refused(bytes))
        } else {
            Ok(None)
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let len: usize = len
        .filter(|len| head.starts_with("http/1.1 200") && *len <= json::MAX)
        .ok_or_else(|| refused(bytes))?;
    let start = end + 4;
    Ok((bytes.len() >= start + len).then_some((start, start + len)))
}

#[cfg(test)]
mod tests {
    use protocol::{Header, op};

    use super::*;
    use crate::DATA;

    fn answer(ack: u64, messages: &str) -> String {
        let body = format!(
            r#"{{"code":0,"message":"","session":"a","key":"k","mid":1,"ack":{ack},"online":0,"messages":[{messages}]}}"#
        );
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn each_answer_is_followed_by_the_next_request() {
        let login = answer(1, r#"{"ver":1,"op":8,"seq":0,"body":""}"#);
        let message = format!(
            r#"{{"ver":1,"op":{DATA},"seq":0,"body":"{}"}}"#,
            "0".repeat(16)
        );
        let both = [login, answer(3, &format!("{message},{message}"))];
        let bytes = both.concat().into_bytes();
        for piece in [1, 7, bytes.len()] {
            let mut walk = PollWalk::default();
            let (mut seen, mut requests) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                walk.feed(piece, &mut |one| seen.push(one)).unwrap();
                requests.extend(walk.take_request());
            }
            let ops: Vec<i32> = seen.iter().map(|seen| seen.op).collect();
            assert_eq!(ops, [op::AUTH_REPLY, DATA, DATA]);
            assert!(seen[2].mark.is_some());
            let last = requests.last().unwrap();
            assert!(last.starts_with(b"GET /sub?s=a&ack=3 HTTP/1.1\r\n"));
            assert_eq!(walk.take_request(), None);
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let mut walk = PollWalk::default();
        let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}";
        let error = walk.feed(refused, &mut |_| ()).unwrap_err();
        assert_eq!(
            error,
            WalkError::Refused("HTTP/1.1 403 Forbidden".to_owned())
        );
        let nonsense = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert!(PollWalk::default().feed(nonsense, &mut |_| ()).is_err());
    }

    #[test]
    fn the_token_is_a_parameter() {
        let mut auth = Vec::new();
        Header::push(op::AUTH).encode(b"{}", &mut auth);
        assert!(login(&auth).starts_with(b"GET /sub?s=&t=%7B%7D HTTP/1.1\r\n"));
    }
}
