//! Why a connection ends, and how its client is told.

use std::{sync::Arc, time::Duration};

use protocol::{Header, frame, op};
use rand::{RngExt as _, seq::SliceRandom as _};

use crate::transport::{Door, websocket};

/// Why a connection ends. Each has one label in metrics and logs and, where the client can be told, one WebSocket close
/// code (RFC 6455 section 7.4; from 4000 on this project's own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it, with a Close frame or the end of its stream.
    PeerClosed,
    /// The socket failed: reset, or not writable any more.
    SocketError,
    /// It broke TLS, which said so itself with an alert.
    TlsViolation,
    /// The same key logged in again.
    Replaced {
        /// At this comet as the same user, so that logic has only one session, the new one.
        same_mid: bool,
    },
    /// Someone with the right to do so closed it.
    Kicked,
    /// Its backlog was full and the policy is to disconnect.
    Slow,
    /// It sent no heartbeat for as long as logic allows.
    HeartbeatTimeout,
    /// It did not log in in time.
    HandshakeTimeout,
    /// It sent too many other frames before Auth.
    GreetingFlood,
    /// Logic does not accept its token.
    AuthRefused,
    /// Logic could not be asked.
    LogicUnavailable,
    /// A frame that is none: its lengths are wrong.
    Malformed,
    /// A frame or message over the limit.
    TooBig,
    /// A room id that is none.
    BadRoom,
    /// It wants to accept more operations than the limit.
    TooManyAccepts,
    /// There are as many rooms as may be.
    TooManyRooms,
    /// It took nothing of what waited for it for too long.
    WriteTimeout,
    /// It broke the WebSocket protocol; the label says how.
    WebSocket(websocket::WebSocketError),
    /// This comet stops.
    GoingAway,
    /// A fault of ours.
    Internal,
}

impl CloseReason {
    /// The reason in metrics, logs and the body of operation 6.
    pub fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::SocketError => "socket_error",
            Self::TlsViolation => "tls_violation",
            Self::Replaced { .. } => "replaced",
            Self::Kicked => "kicked",
            Self::Slow => "slow",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::GreetingFlood => "greeting_flood",
            Self::AuthRefused => "auth_refused",
            Self::LogicUnavailable => "logic_unavailable",
            Self::Malformed => "malformed",
            Self::TooBig => "too_big",
            Self::BadRoom => "bad_room",
            Self::TooManyAccepts => "too_many_accepts",
            Self::TooManyRooms => "too_many_rooms",
            Self::WriteTimeout => "write_timeout",
            Self::WebSocket(error) => error.label(),
            Self::GoingAway => "going_away",
            Self::Internal => "internal",
        }
    }

    /// The close code for a WebSocket client.
    pub fn close_code(self) -> u16 {
        match self {
            Self::PeerClosed | Self::SocketError | Self::TlsViolation => 1000,
            Self::GoingAway => 1001,
            Self::Malformed => 1007,
            Self::AuthRefused | Self::GreetingFlood | Self::BadRoom | Self::TooManyAccepts => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::LogicUnavailable | Self::TooManyRooms => 1013,
            Self::WebSocket(error) => error.close_code(),
            Self::Replaced { .. } => 4001,
            Self::Kicked => 4002,
            Self::Slow => 4003,
            Self::HeartbeatTimeout => 4004,
            Self::HandshakeTimeout => 4005,
            Self::WriteTimeout => 4006,
        }
    }

    /// Whether there is someone left to tell.
    pub(crate) fn can_be_told(self) -> bool {
        !matches!(self, Self::PeerClosed) && self.can_be_written_to()
    }

    /// Whether anything that is written may still arrive.
    fn can_be_written_to(self) -> bool {
        !matches!(self, Self::SocketError | Self::TlsViolation)
    }

    /// What a person reads of it.
    fn text(self) -> &'static str {
        match self {
            Self::PeerClosed => "closed by the client",
            Self::SocketError => "the connection failed",
            Self::TlsViolation => "a violation of TLS",
            Self::Replaced { .. } => "the same key logged in again",
            Self::Kicked => "closed by the service",
            Self::Slow => "messages were not read fast enough",
            Self::HeartbeatTimeout => "no heartbeat came in time",
            Self::HandshakeTimeout => "no login came in time",
            Self::GreetingFlood => "too many frames before Auth",
            Self::AuthRefused => "the token is refused",
            Self::LogicUnavailable => "logins cannot be checked now, try again later",
            Self::Malformed => "a frame has wrong lengths",
            Self::TooBig => "a message is over the limit",
            Self::BadRoom => "the room id is not UTF-8 or too long",
            Self::TooManyAccepts => "too many accepted operations",
            Self::TooManyRooms => "this server has as many rooms as it may have",
            Self::WriteTimeout => "nothing was read for too long",
            Self::WebSocket(_) => "a violation of RFC 6455",
            Self::GoingAway => "this server stops, connect again",
            Self::Internal => "an error of the server",
        }
    }
}

/// When a connection closes, relative to what waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseWhen {
    /// At once: what is partly written is completed, the rest is lost.
    Now,
    /// When everything that waits is written.
    AfterQueue,
}

/// The last words to a client.
#[derive(Debug, Clone)]
pub struct Farewell {
    /// Why.
    pub reason: CloseReason,
    /// In place of the reason's own text.
    pub detail: Option<Arc<str>>,
    /// In place of the reason's own close code.
    pub code: Option<u16>,
    /// Whether to come back, where there is more to say than the reason does.
    pub advice: Option<Advice>,
}

/// Whether clients should come back, when, and where.
#[derive(Debug, Clone)]
pub struct Advice {
    /// Whether at all.
    pub reconnect: bool,
    /// The time over which they come: each is told a random part of it to wait before.
    pub within: Duration,
    /// Where they should go; each is told them in an order of its own.
    pub nodes: Arc<Nodes>,
}

/// Comets, without a port. None: clients go where they like.
#[derive(Debug, Default)]
pub struct Nodes {
    /// Their addresses.
    pub addresses: Vec<String>,
    /// Their names, for browsers.
    pub names: Vec<String>,
}

impl From<CloseReason> for Farewell {
    fn from(reason: CloseReason) -> Self {
        Self {
            reason,
            detail: None,
            code: None,
            advice: None,
        }
    }
}

impl Farewell {
    /// With the words of whoever wants it closed, if there are any, in the place of the reason's own.
    pub fn with_detail(reason: CloseReason, detail: &str) -> Self {
        let detail = (!detail.is_empty()).then(|| detail.into());
        Self {
            detail,
            ..reason.into()
        }
    }

    /// The answer to a client's own Close frame: the same code (RFC 6455 section 5.5.1).
    pub fn echoed(code: u16) -> Self {
        Self {
            code: Some(code),
            ..CloseReason::PeerClosed.into()
        }
    }

    /// What a person reads of it.
    fn words(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.reason.text())
    }

    /// The bytes behind everything else: operation 6 with the reason as JSON, and for WebSocket the Close frame.
    pub(crate) fn encode(&self, door: Door) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.reason.can_be_told() {
            let body = self.body(door).to_string();
            let header = Header::push(op::DISCONNECT_REPLY);
            if door.is_websocket() {
                frame::put_websocket_header(&mut bytes, protocol::HEADER_LEN + body.len());
            }
            header.encode(body.as_bytes(), &mut bytes);
        }
        if door.is_websocket() && self.reason.can_be_written_to() {
            let code = self.code.unwrap_or(self.reason.close_code());
            bytes.extend(websocket::close_frame(code, self.words()));
        }
        bytes
    }

    /// What operation 6 says to one client, by whose door it is told of other nodes.
    pub(crate) fn body(&self, door: Door) -> serde_json::Value {
        let mut body =
            serde_json::json!({ "reason": self.reason.label(), "message": self.words() });
        if let Some(advice) = &self.advice {
            body["reconnect"] = advice.reconnect.into();
            if advice.reconnect {
                body["delay_ms"] = advice.delay_ms().into();
                body["nodes"] = advice.nodes(door).into();
            }
        }
        body
    }
}

impl Advice {
    fn delay_ms(&self) -> u64 {
        let delay = self.within.mul_f64(rand::rng().random::<f64>());
        u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
    }

    fn nodes(&self, door: Door) -> Vec<String> {
        // Browsers need names for the sake of certificates, and do not come by TCP.
        let mut nodes = match door {
            Door::Tcp | Door::TcpTls => self.nodes.addresses.clone(),
            Door::WebSocket | Door::Wss | Door::Poll | Door::Sse => self.nodes.names.clone(),
        };
        nodes.shuffle(&mut rand::rng());
        nodes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn body(door: Door, advice: Option<Advice>) -> serde_json::Value {
        let farewell = Farewell {
            advice,
            ..CloseReason::Kicked.into()
        };
        let bytes = farewell.encode(door);
        let start = bytes.iter().position(|&byte| byte == b'{').unwrap();
        let end = bytes.iter().rposition(|&byte| byte == b'}').unwrap();
        serde_json::from_slice(&bytes[start..=end]).unwrap()
    }

    fn advice(reconnect: bool) -> Advice {
        Advice {
            reconnect,
            within: Duration::from_secs(10),
            nodes: Arc::new(Nodes {
                addresses: vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()],
                names: vec!["a.example.com".to_owned()],
            }),
        }
    }

    #[test]
    fn advice_is_a_part_of_the_last_words() {
        let mut words = serde_json::json!({"message": "closed by the service", "reason": "kicked"});
        assert_eq!(body(Door::Tcp, None), words);
        words["reconnect"] = false.into();
        assert_eq!(body(Door::Tcp, Some(advice(false))), words);
        let mut said = body(Door::WebSocket, Some(advice(true)));
        let delay = said["delay_ms"].take().as_u64().unwrap();
        assert!(delay < 10_000);
        words["reconnect"] = true.into();
        words["delay_ms"] = serde_json::Value::Null;
        words["nodes"] = ["a.example.com"].as_slice().into();
        assert_eq!(said, words);
    }

    #[test]
    fn clients_are_told_times_and_orders_of_their_own() {
        let said: Vec<_> = (0..1000)
            .map(|_| body(Door::Tcp, Some(advice(true))))
            .collect();
        for second in 0..10 {
            let is_within =
                |said: &&serde_json::Value| said["delay_ms"].as_u64().unwrap() / 1000 == second;
            let count = said.iter().filter(is_within).count();
            assert!((20..300).contains(&count), "{count} in second {second}");
        }
        let first: BTreeSet<&str> = said
            .iter()
            .filter_map(|said| said["nodes"][0].as_str())
            .collect();
        assert_eq!(first.len(), 2, "not all go to one");
    }
}
