//! A goim client over a socket, behind either door.

use std::{io, net::SocketAddr};

use protocol::{Header, Token, op};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{Door, Server, wire::Wire, within};

/// A handshake whose key is of RFC 6455, section 1.3, as is the answer to it.
pub const UPGRADE: &str = "GET /sub HTTP/1.1\r\nHost: comet\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const ACCEPT: &str = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Bytes that a client which stops reading lets the system take: the least that Linux allows.
const SMALL_WINDOW: u32 = 2048;

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub ver: i16,
    pub op: i32,
    pub seq: i32,
    pub body: Vec<u8>,
}

/// What a client can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Packet(Packet),
    Pong(Vec<u8>),
    Close { code: u16, reason: String },
    End,
}

/// How the server ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Of operation 6, if it came.
    pub reason: Option<String>,
    /// Of operation 6.
    pub message: String,
    /// All of operation 6.
    pub words: serde_json::Value,
    /// Of the Close frame, if one came.
    pub code: Option<u16>,
}

/// A connected client.
pub struct Client {
    pub socket: TcpStream,
    pub door: Door,
    wire: Box<dyn Wire>,
    input: Vec<u8>,
    seq: i32,
}

/// A token that accepts the operations 1000 and 1001. An empty room is none, an empty key one that logic makes.
pub fn token(mid: i64, key: &str, room: &str) -> Token {
    Token {
        mid,
        key: key.to_owned(),
        room_id: room.to_owned(),
        platform: "test".to_owned(),
        accepts: vec![1000, 1001],
    }
}

impl Packet {
    /// Its body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    /// Connects and, behind the HTTP door, shakes hands.
    pub async fn connect(server: &Server, door: Door) -> Self {
        Self::open(server.door(door), door, None).await
    }

    /// Connects with a small window, so that what it does not read soon waits in the server.
    pub async fn connect_narrow(server: &Server, door: Door) -> Self {
        Self::open_narrow(server.door(door), door).await
    }

    /// The same to an address.
    pub async fn open_narrow(addr: SocketAddr, door: Door) -> Self {
        Self::open(addr, door, Some(SMALL_WINDOW)).await
    }

    /// Connects and logs in.
    pub async fn login(server: &Server, door: Door, token: &Token) -> Self {
        let mut client = Self::connect(server, door).await;
        client.auth(token).await;
        client
    }

    /// Connects from an address of its own.
    pub async fn from(address: [u8; 4], server: &Server, door: Door) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let connecting = socket.connect(server.door(door));
        let socket = within("connecting", connecting).await.unwrap();
        let mut client = Self::on(socket, door);
        client.shake_hands().await;
        client
    }

    /// A client that has connected, and shaken hands where its door wants it.
    pub fn on(socket: TcpStream, door: Door) -> Self {
        Self {
            socket,
            door,
            wire: door.wire(),
            input: Vec::new(),
            seq: 0,
        }
    }

    /// Connects to an address.
    pub async fn open(addr: SocketAddr, door: Door, window: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(window) = window {
            socket.set_recv_buffer_size(window).unwrap();
        }
        let socket = within("connecting", socket.connect(addr)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut client = Self::on(socket, door);
        client.shake_hands().await;
        client
    }

    /// Where its door wants it.
    async fn shake_hands(&mut self) {
        if self.door == Door::WebSocket {
            self.send_raw(UPGRADE.as_bytes()).await;
            self.finish_upgrade().await;
        }
    }

    /// Reads the answer to [`UPGRADE`].
    pub async fn finish_upgrade(&mut self) {
        let end = loop {
            if let Some(at) = find(&self.input, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the server ends within the handshake");
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let lower = head.to_ascii_lowercase();
        assert!(lower.contains(&ACCEPT.to_ascii_lowercase()), "{head}");
    }

    /// Logs in.
    pub async fn auth(&mut self, token: &Token) {
        let reply = self.request(op::AUTH, token.to_json().as_bytes()).await;
        assert_eq!((reply.op, reply.body), (op::AUTH_REPLY, vec![]));
    }

    /// Sends an operation under the next sequence number and reads its answer, which must come next.
    pub async fn request(&mut self, op: i32, body: &[u8]) -> Packet {
        self.seq += 1;
        let seq = self.seq;
        self.send(op, seq, body).await;
        let reply = self.packet().await;
        assert_eq!((reply.ver, reply.seq), (1, seq), "{reply:?}");
        reply
    }

    /// How many are online in its room. Nothing else may have come before the answer.
    pub async fn online(&mut self) -> i32 {
        let reply = self.request(op::HEARTBEAT, b"").await;
        assert_eq!(reply.op, op::HEARTBEAT_REPLY, "{reply:?}");
        i32::from_be_bytes(reply.body.try_into().unwrap())
    }

    /// Waits until that number is a certain one.
    pub async fn until_online(&mut self, count: i32) {
        within("the online count", async {
            while self.online().await != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Shows that nothing has come that was not read.
    pub async fn has_nothing(&mut self) {
        self.online().await;
    }

    /// Sends one frame.
    pub async fn send(&mut self, op: i32, seq: i32, body: &[u8]) {
        self.send_frames(&frame(op, seq, body)).await;
    }

    /// Sends frames, behind the HTTP door as one message.
    pub async fn send_frames(&mut self, frames: &[u8]) {
        let bytes = self.wire.encode(frames);
        self.send_raw(&bytes).await;
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        within("sending", self.socket.write_all(bytes))
            .await
            .unwrap();
    }

    /// The next thing that comes. A reset is no way to end a connection.
    pub async fn next(&mut self) -> Received {
        loop {
            if let Some(received) = self.wire.decode(&mut self.input) {
                return received;
            }
            if !self.fill().await {
                assert!(self.input.is_empty(), "cut off: {:?}", self.input);
                return Received::End;
            }
        }
    }

    /// The next frame, which must be what comes next.
    pub async fn packet(&mut self) -> Packet {
        match self.next().await {
            Received::Packet(packet) => packet,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// The next message: its operation and text.
    pub async fn message(&mut self) -> (i32, String) {
        let packet = self.packet().await;
        (packet.op, packet.text().to_owned())
    }

    /// Waits for one message of operation 1000.
    pub async fn gets(&mut self, text: &str) {
        assert_eq!(self.message().await, (1000, text.to_owned()));
    }

    /// Reads to the end of the stream, where nothing but the server's last words may come.
    pub async fn ended(&mut self) -> Farewell {
        let (packets, farewell) = self.rest().await;
        assert_eq!(packets, [], "before the end");
        farewell
    }

    /// Reads to the end of the stream: what comes before the server's last words, and these.
    pub async fn rest(&mut self) -> (Vec<Packet>, Farewell) {
        let mut packets = Vec::new();
        let mut code = None;
        loop {
            match self.next().await {
                Received::Packet(packet) => {
                    assert_eq!(code, None, "{packet:?} came after the Close");
                    packets.push(packet);
                }
                Received::Close { code: given, .. } => assert_eq!(code.replace(given), None),
                Received::Pong(_) => {}
                Received::End => break,
            }
        }
        let last = packets.pop_if(|packet| packet.op == op::DISCONNECT_REPLY);
        let Some(last) = last else {
            let farewell = Farewell {
                reason: None,
                message: String::new(),
                words: serde_json::Value::Null,
                code,
            };
            return (packets, farewell);
        };
        let words: serde_json::Value = serde_json::from_slice(&last.body).unwrap();
        let text = |name: &str| words[name].as_str().expect(name).to_owned();
        let farewell = Farewell {
            reason: Some(text("reason")),
            message: text("message"),
            words: words.clone(),
            code,
        };
        (packets, farewell)
    }

    /// Raw headers that came; never any over TCP.
    pub fn raws(&self) -> usize {
        self.wire.raws()
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self) -> bool {
        let read = within("reading", self.socket.read_buf(&mut self.input)).await;
        match read {
            Ok(count) => count > 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                panic!("the server resets the connection")
            }
            Err(error) => panic!("reading: {error}"),
        }
    }
}

impl Farewell {
    /// That of a reason, with the code that a WebSocket client is told.
    pub fn is(&self, reason: &str, code: u16, door: Door) {
        let code = (door == Door::WebSocket).then_some(code);
        assert_eq!((self.reason.as_deref(), self.code), (Some(reason), code));
    }
}

/// The bytes of one frame.
pub fn frame(op: i32, seq: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { ver: 1, op, seq }.encode(body, &mut bytes);
    bytes
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
