//! Server-Sent Events as a client needs them here: the request that logs in, and the walk over chunks, events and their JSON. They
//! have only what the server pushes: no heartbeats of the client's.

use super::{
    frames::{Seen, WalkError},
    json::{self, MAX, Proto, find, refused},
};

/// The request of a client whose Auth this frame is.
pub(super) fn login(auth: &[u8]) -> Vec<u8> {
    json::request(&json::token(auth), "Accept: text/event-stream\r\n")
}

/// Where a connection stands in its stream.
#[derive(Debug, Default)]
pub(super) struct EventWalk {
    /// Whether the answer's head has come.
    is_open: bool,
    /// Bytes of chunks that have not come whole.
    chunks: Vec<u8>,
    /// The bytes of events that have not come whole.
    events: Vec<u8>,
}

impl EventWalk {
    /// Goes on over `input`.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        on: &mut impl FnMut(Seen),
    ) -> Result<(), WalkError> {
        self.chunks.extend_from_slice(input);
        if !self.is_open {
            let Some(end) = find(&self.chunks, b"\r\n\r\n") else {
                return Ok(());
            };
            let head = String::from_utf8_lossy(&self.chunks[..end]).to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") || !head.contains("text/event-stream") {
                return Err(refused(&self.chunks));
            }
            self.chunks.drain(..end + 4);
            // One event and its end: the server says why it takes no client now.
            if head.contains("content-length:") {
                let said = String::from_utf8_lossy(&self.chunks);
                let data = said.lines().find(|line| line.starts_with("data: "));
                return Err(refused(data.unwrap_or(&head).as_bytes()));
            }
            self.is_open = true;
        }
        self.take_chunks()?;
        self.take_events(on)
    }

    fn take_chunks(&mut self) -> Result<(), WalkError> {
        let mut taken = 0;
        while let Some(line) = find(&self.chunks[taken..], b"\r\n") {
            let size = &self.chunks[taken..taken + line];
            let len = usize::from_str_radix(&String::from_utf8_lossy(size), 16).ok();
            let len = len.filter(|len| *len <= MAX).ok_or_else(|| refused(size))?;
            let start = taken + line + 2;
            if self.chunks.len() < start + len + 2 {
                break;
            }
            self.events
                .extend_from_slice(&self.chunks[start..start + len]);
            taken = start + len + 2;
        }
        self.chunks.drain(..taken);
        Ok(())
    }

    fn take_events(&mut self, on: &mut impl FnMut(Seen)) -> Result<(), WalkError> {
        let mut taken = 0;
        while let Some(end) = find(&self.events[taken..], b"\n\n") {
            let event = &self.events[taken..taken + end];
            taken += end + 2;
            let lines = || event.split(|byte| *byte == b'\n');
            if lines().any(|line| line.starts_with(b"event: ")) {
                continue;
            }
            let data = lines().find_map(|line| line.strip_prefix(b"data: "));
            let proto = data.and_then(|data| serde_json::from_slice(data).ok());
            let proto: Proto<'_> = proto.ok_or_else(|| refused(event))?;
            on(proto.seen());
        }
        self.events.drain(..taken);
        if self.events.len() > MAX {
            return Err(WalkError::Refused("an event without end".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use protocol::{Header, op};

    use super::*;
    use crate::{DATA, doors::frames::Mark};

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

    /// What a server sends, in chunks of three bytes.
    fn stream(events: &str) -> Vec<u8> {
        let chunks = events.as_bytes().chunks(3);
        let chunks = chunks.flat_map(|chunk| [&b"3\r\n"[..], chunk, b"\r\n"].concat());
        HEAD.bytes().chain(chunks).collect()
    }

    fn walked(bytes: &[u8], piece: usize) -> Result<Vec<Seen>, WalkError> {
        let mut walk = EventWalk::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece) {
            walk.feed(piece, &mut |one| seen.push(one))?;
        }
        Ok(seen)
    }

    #[test]
    fn events_are_seen_however_they_come() {
        let mark = Mark {
            group: 1,
            index: 2,
            sent: 0xffff_ffff,
        };
        let body = STANDARD.encode(mark.to_bytes());
        let mut events = format!(
            "retry: 3000\nid: a.0\nevent: session\ndata: {{}}\n\n\
             id: a.1\ndata: {{\"ver\":1,\"op\":8,\"seq\":0,\"body\":\"\"}}\n\n\
             : heartbeat\nevent: heartbeat\ndata: {{\"online\":1}}\n\n\
             data: {{\"ver\":1,\"op\":{DATA},\"seq\":0,\"base64\":\"{body}\"}}\n\n"
        );
        events.push_str(&" ".repeat(3 - events.len() % 3));
        let bytes = stream(&events);
        for piece in [1, 7, bytes.len()] {
            let seen = walked(&bytes, piece).unwrap();
            assert_eq!(
                seen.iter().map(|seen| seen.op).collect::<Vec<_>>(),
                [8, DATA]
            );
            assert_eq!(seen[1].mark, Some(mark));
        }
    }

    #[test]
    fn a_refusal_is_told() {
        let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        let error = walked(refused, 5).unwrap_err();
        assert_eq!(
            error,
            WalkError::Refused("HTTP/1.1 403 Forbidden".to_owned())
        );
        let later = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 19\r\n\r\n\
                     data: {\"op\":6}\n\n...";
        let error = walked(later.as_bytes(), later.len()).unwrap_err();
        assert_eq!(error, WalkError::Refused("data: {\"op\":6}".to_owned()));
        assert!(walked(later.as_bytes(), 5).is_err());
        assert!(walked(format!("{HEAD}zz\r\n").as_bytes(), 99).is_err());
    }

    #[test]
    fn the_token_is_a_parameter() {
        let mut auth = Vec::new();
        Header::push(op::AUTH).encode(b"{}", &mut auth);
        assert!(login(&auth).starts_with(b"GET /sub?t=%7B%7D HTTP/1.1\r\n"));
    }
}
