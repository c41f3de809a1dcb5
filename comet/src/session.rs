//! What a connection may do next, without any I/O. Before and after login are two types: nothing can be pushed to, asked of or
//! told about a connection that has not logged in.

use protocol::{Header, RoomId, op};

use crate::close::CloseReason;

/// A connection that has not logged in.
#[derive(Debug)]
pub struct Greeting {
    /// Frames that may still come before Auth.
    frames_left: u32,
}

/// What a frame before login asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeted<'a> {
    /// Nothing: goim ignores it.
    Ignored,
    /// To log in with this token.
    Auth(Header, &'a [u8]),
}

/// A connection that has logged in.
#[derive(Debug, Clone, Copy)]
pub struct Online {
    /// Bytes of a room id.
    pub max_room: usize,
    /// Operations that it may accept.
    pub max_accepts: usize,
}

/// What a frame after login asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// To be told how many are online.
    Heartbeat,
    /// To go to another room, or to none.
    ChangeRoom(Option<RoomId>),
    /// To accept these operations too.
    Sub(Vec<i32>),
    /// No longer to accept these.
    Unsub(Vec<i32>),
    /// Operations that cannot be read: answered, without effect, as goim does.
    Unreadable,
    /// Whatever the application makes of it. A second Auth is one too.
    Application,
}

impl Request {
    /// What is done about it, for the whitelist's log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::ChangeRoom(Some(_)) => "change_room",
            Self::ChangeRoom(None) => "leave_room",
            Self::Sub(_) => "sub",
            Self::Unsub(_) => "unsub",
            Self::Unreadable => "unreadable",
            Self::Application => "receive",
        }
    }
}

impl Greeting {
    /// One that ends the connection after more than `frames` other frames.
    pub fn new(frames: u32) -> Self {
        Self {
            frames_left: frames,
        }
    }

    /// Judges a frame.
    pub fn on_frame<'a>(
        &mut self,
        header: Header,
        body: &'a [u8],
    ) -> Result<Greeted<'a>, CloseReason> {
        if header.op == op::AUTH {
            return Ok(Greeted::Auth(header, body));
        }
        self.frames_left = self
            .frames_left
            .checked_sub(1)
            .ok_or(CloseReason::GreetingFlood)?;
        Ok(Greeted::Ignored)
    }
}

impl Online {
    /// Judges a frame.
    pub fn on_frame(self, header: Header, body: &[u8]) -> Result<Request, CloseReason> {
        match header.op {
            op::HEARTBEAT => Ok(Request::Heartbeat),
            op::CHANGE_ROOM if body.is_empty() => Ok(Request::ChangeRoom(None)),
            op::CHANGE_ROOM => RoomId::from_bytes(body, self.max_room)
                .map(|room| Request::ChangeRoom(Some(room)))
                .map_err(|_| CloseReason::BadRoom),
            op::SUB => self.operations(body, Request::Sub),
            op::UNSUB => self.operations(body, Request::Unsub),
            _ => Ok(Request::Application),
        }
    }

    fn operations(
        self,
        body: &[u8],
        request: impl FnOnce(Vec<i32>) -> Request,
    ) -> Result<Request, CloseReason> {
        let Some(operations) = parse_operations(body) else {
            return Ok(Request::Unreadable);
        };
        if operations.len() > self.max_accepts {
            return Err(CloseReason::TooManyAccepts);
        }
        Ok(request(operations))
    }
}

/// Reads `1000,1001`. Nothing at all is no operation.
fn parse_operations(body: &[u8]) -> Option<Vec<i32>> {
    let text = std::str::from_utf8(body).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|number| number.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: Online = Online {
        max_room: 16,
        max_accepts: 2,
    };

    fn asked(op: i32, body: &[u8]) -> Result<Request, CloseReason> {
        ONLINE.on_frame(Header { ver: 1, op, seq: 1 }, body)
    }

    #[test]
    fn before_login_only_auth_counts_and_the_rest_is_bounded() {
        let mut greeting = Greeting::new(1);
        let heartbeat = Header {
            ver: 1,
            op: op::HEARTBEAT,
            seq: 1,
        };
        let auth = Header {
            op: op::AUTH,
            ..heartbeat
        };
        assert_eq!(greeting.on_frame(heartbeat, b""), Ok(Greeted::Ignored));
        assert_eq!(
            greeting.on_frame(auth, b"{}"),
            Ok(Greeted::Auth(auth, b"{}"))
        );
        assert_eq!(
            greeting.on_frame(heartbeat, b""),
            Err(CloseReason::GreetingFlood)
        );
    }

    #[test]
    fn after_login_each_operation_has_its_meaning() {
        let room = RoomId::new("live", "1");
        assert_eq!(asked(op::HEARTBEAT, b"").unwrap(), Request::Heartbeat);
        assert_eq!(
            asked(op::CHANGE_ROOM, b"live://1").unwrap(),
            Request::ChangeRoom(Some(room))
        );
        assert_eq!(
            asked(op::CHANGE_ROOM, b"").unwrap(),
            Request::ChangeRoom(None)
        );
        assert_eq!(
            asked(op::SUB, b"1000,1001").unwrap(),
            Request::Sub(vec![1000, 1001])
        );
        assert_eq!(asked(op::UNSUB, b" 7 ").unwrap(), Request::Unsub(vec![7]));
        assert_eq!(asked(op::AUTH, b"{}").unwrap(), Request::Application);
        assert_eq!(asked(op::PROTO_FINISH, b"").unwrap(), Request::Application);
        assert_eq!(asked(-1, b"").unwrap(), Request::Application);
    }

    #[test]
    fn bad_bodies_are_named() {
        assert_eq!(asked(op::CHANGE_ROOM, b"\xff"), Err(CloseReason::BadRoom));
        assert_eq!(
            asked(op::CHANGE_ROOM, &[b'a'; 17]),
            Err(CloseReason::BadRoom)
        );
        assert_eq!(asked(op::SUB, b"1,2,3"), Err(CloseReason::TooManyAccepts));
        for unreadable in [&b"1,,2"[..], b"x", b"99999999999", b"\xff"] {
            assert_eq!(asked(op::SUB, unreadable).unwrap(), Request::Unreadable);
        }
        assert_eq!(asked(op::SUB, b"").unwrap(), Request::Sub(vec![]));
    }
}
