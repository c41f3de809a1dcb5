//! Clients behind every door, with nothing but a socket.

use std::net::SocketAddr;

use protocol::{Decoded, HEADER_LEN, Header, codec, op};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    connector::Wanted,
    support::{OP, within},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Tcp,
    WebSocket,
    TcpTls,
    Wss,
}

pub const DOORS: [Door; 4] = [Door::Tcp, Door::WebSocket, Door::TcpTls, Door::Wss];

impl Door {
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::Wss)
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Self::TcpTls | Self::Wss)
    }
}

/// A socket, or TLS on one.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A client with nothing but a socket.
pub struct Client {
    door: Door,
    pub socket: Box<dyn Io>,
    pub address: SocketAddr,
    /// What came and is not parsed.
    bytes: Vec<u8>,
    /// Protos that came in one message.
    protos: Vec<u8>,
}

/// What a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Proto(Header, Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    End,
}

/// How a connection ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Operation 6: the label of the reason and its text.
    pub reason: Option<(String, String)>,
    /// The WebSocket Close frame's code and text.
    pub close: Option<(u16, String)>,
}

impl Client {
    pub async fn to(door: Door, addr: SocketAddr) -> Self {
        Self::behind(door, addr, b"").await
    }

    /// Behind a balancer that sends this first.
    pub async fn behind(door: Door, addr: SocketAddr, header: &[u8]) -> Self {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(header).await.unwrap();
        let address = socket.local_addr().unwrap();
        let socket: Box<dyn Io> = if door.is_tls() {
            Box::new(within(Wanted::default().connect(socket)).await.unwrap())
        } else {
            Box::new(socket)
        };
        Self::over(door, socket, address)
    }

    /// Over a connection that is there.
    pub fn over(door: Door, socket: Box<dyn Io>, address: SocketAddr) -> Self {
        Self {
            door,
            socket,
            address,
            bytes: Vec::new(),
            protos: Vec::new(),
        }
    }

    pub async fn upgrade(&mut self) {
        self.upgrade_with("").await;
    }

    /// With more headers in its handshake, each with the end of its line.
    pub async fn upgrade_with(&mut self, headers: &str) {
        let request = handshake(headers);
        self.socket.write_all(request.as_bytes()).await.unwrap();
        self.read_upgrade().await;
    }

    /// Reads the answer to the handshake, and no more.
    pub async fn read_upgrade(&mut self) {
        let end = loop {
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                break end;
            }
            assert!(self.read().await, "no answer to the handshake");
        };
        assert!(self.bytes.starts_with(b"HTTP/1.1 101 "));
        self.bytes.drain(..end + 4);
    }

    /// What the door wraps around protos.
    pub fn wrap(&self, protos: &[u8]) -> Vec<u8> {
        if self.door.is_websocket() {
            masked(0x82, protos)
        } else {
            protos.to_vec()
        }
    }

    pub async fn send(&mut self, op: i32, seq: i32, body: &[u8]) {
        let mut proto = Vec::new();
        Header { ver: 1, op, seq }.encode(body, &mut proto);
        let bytes = self.wrap(&proto);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// A WebSocket ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        let bytes = masked(0x89, payload);
        self.socket.write_all(&bytes).await.unwrap();
    }

    pub async fn auth(&mut self, token: &str) {
        self.send(op::AUTH, 1, token.as_bytes()).await;
    }

    pub async fn log_in(&mut self, key: &str, room: &str) {
        self.auth(&token(key, room)).await;
        let (header, _) = self.proto().await;
        assert_eq!((header.op, header.seq), (op::AUTH_REPLY, 1));
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.parse() {
                return got;
            }
            if !self.read().await {
                assert!(self.bytes.is_empty(), "the stream ends within a frame");
                return Got::End;
            }
        }
    }

    /// The next proto; nothing else may come.
    pub async fn proto(&mut self) -> (Header, Vec<u8>) {
        match self.next().await {
            Got::Proto(header, body) => (header, body),
            other => panic!("{other:?}"),
        }
    }

    /// A pushed message: its operation and body as text.
    pub async fn message(&mut self) -> (i32, String) {
        let (header, body) = self.proto().await;
        (header.op, String::from_utf8(body).unwrap())
    }

    /// Everything up to the end, of which nothing but farewells may come.
    pub async fn end(&mut self) -> Ended {
        let mut ended = Ended::default();
        loop {
            match self.next().await {
                Got::End => return ended,
                Got::Close(code, text) => ended.close = Some((code, text)),
                Got::Proto(header, body) if header.op == op::DISCONNECT_REPLY => {
                    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let text = |name: &str| body[name].as_str().unwrap().to_owned();
                    ended.reason = Some((text("reason"), text("message")));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The end, which this door tells with this reason and code.
    pub async fn ends_with(&mut self, reason: &str, code: u16) -> String {
        let door = self.door;
        let ended = self.end().await;
        let (label, text) = ended.reason.expect("no operation 6");
        assert_eq!(label, reason);
        let close = door.is_websocket().then(|| (code, text.clone()));
        assert_eq!(ended.close, close);
        text
    }

    /// A heartbeat, answered; returns the count of those online.
    pub async fn heartbeat(&mut self, seq: i32) -> i32 {
        self.send(op::HEARTBEAT, seq, b"").await;
        let (header, body) = self.proto().await;
        assert_eq!((header.op, header.seq), (op::HEARTBEAT_REPLY, seq));
        i32::from_be_bytes(body.try_into().unwrap())
    }

    async fn read(&mut self) -> bool {
        let reading = self.socket.read_buf(&mut self.bytes);
        within(reading).await.unwrap() > 0
    }

    fn parse(&mut self) -> Option<Got> {
        if !self.door.is_websocket() {
            self.protos.append(&mut self.bytes);
        }
        if let Some(proto) = take_proto(&mut self.protos) {
            return Some(proto);
        }
        if !self.door.is_websocket() {
            std::mem::swap(&mut self.protos, &mut self.bytes);
            return None;
        }
        assert!(self.protos.is_empty(), "a message ends within a frame");
        let (first, payload) = take_frame(&mut self.bytes)?;
        match first {
            0x82 => {
                self.protos = payload;
                // A Raw's own header is no message.
                if self.protos[8..12] == op::RAW.to_be_bytes() {
                    self.protos.drain(..HEADER_LEN);
                }
                take_proto(&mut self.protos)
            }
            0x88 => {
                let (code, text) = payload.split_at(2);
                let code = u16::from_be_bytes(code.try_into().unwrap());
                Some(Got::Close(code, String::from_utf8(text.to_vec()).unwrap()))
            }
            0x8a => Some(Got::Pong(payload)),
            first => panic!("an unexpected frame: {first:#x}"),
        }
    }
}

/// A good WebSocket handshake.
pub fn handshake(headers: &str) -> String {
    format!(
        "GET /sub HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

pub fn token(key: &str, room: &str) -> String {
    serde_json::json!({ "mid": 1, "key": key, "room_id": room, "accepts": [OP] }).to_string()
}

fn take_proto(bytes: &mut Vec<u8>) -> Option<Got> {
    match codec::decode(bytes, 1 << 24).unwrap() {
        Decoded::Incomplete { .. } => None,
        Decoded::Frame { header, body, len } => {
            let got = Got::Proto(header, body.to_vec());
            bytes.drain(..len);
            Some(got)
        }
    }
}

/// The first byte and payload of a server's frame.
fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (start, len) = match *bytes.get(1)? {
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()),
        ),
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into(),
        ),
        len => (2, len.into()),
    };
    let end = start + usize::try_from(len).unwrap();
    let payload = bytes.get(start..end)?.to_vec();
    let first = bytes[0];
    bytes.drain(..end);
    Some((first, payload))
}

/// A client's frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    protocol::frame::put_websocket_header(&mut bytes, payload.len());
    bytes[0] = first;
    bytes[1] |= 0x80;
    // A mask of zeros leaves the payload as it is.
    bytes.extend([0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}
