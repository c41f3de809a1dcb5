//! Clients of long-poll and Server-Sent Events, with nothing but sockets.

use std::net::SocketAddr;

use protocol::{Token, op};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::{
    Door, Server,
    http::{self, Answer},
    within,
};

/// A client of long polls, each on a connection of its own.
pub struct Poller {
    addr: SocketAddr,
    /// What the last answer named.
    pub session: String,
    pub ack: u64,
}

/// An event as a browser has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: String,
    /// `message`, if it has none.
    pub name: String,
    pub data: Value,
    /// Milliseconds after which a browser comes back, if that is said with it.
    pub retry: Option<u64>,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    pub addr: SocketAddr,
    socket: TcpStream,
    /// What came and is not decoded.
    input: Vec<u8>,
    text: String,
    is_over: bool,
    /// Of the last event that had one.
    pub id: String,
}

impl Poller {
    /// Logs in.
    pub async fn login(server: &Server, token: &Token) -> Self {
        Self::login_at(server.door(Door::WebSocket), &token.to_json()).await
    }

    /// Logs in at an address, with the text of a token.
    pub async fn login_at(addr: SocketAddr, token: &str) -> Self {
        let mut poller = Self {
            addr,
            session: String::new(),
            ack: 0,
        };
        let answer = get(addr, &format!("s=&seq=5&t={}", encoded(token))).await;
        let messages = poller.note(&answer);
        let auth = json!({"ver": 1, "op": op::AUTH_REPLY, "seq": 5, "body": ""});
        assert_eq!(messages, [auth], "{answer:?}");
        poller
    }

    /// Asks, and notes what is to be acknowledged next time.
    pub async fn poll(&mut self) -> Vec<Value> {
        let answer = self.ask().await;
        self.note(&answer)
    }

    /// The answer alone, as if it did not arrive.
    pub async fn ask(&self) -> Answer {
        get(self.addr, &self.query()).await
    }

    /// Says that it has the last answer of a session that is over.
    pub async fn has_it(&self) {
        assert_eq!(self.ask().await.json()["messages"], json!([]));
    }

    /// The parameters of its next request.
    pub fn query(&self) -> String {
        format!("s={}&ack={}", self.session, self.ack)
    }

    /// Waits for one message of operation 1000, which must be all that comes.
    pub async fn gets(&mut self, text: &str) {
        let messages = self.poll().await;
        assert_eq!(texts(&messages), [(1000, text)]);
    }

    /// Hands a proto to the session.
    pub async fn send(&self, op: i32, seq: i32, body: &[u8]) -> Answer {
        send(self.addr, &self.session, op, seq, body).await
    }

    /// Takes an answer: its messages, and what the next request acknowledges.
    pub fn note(&mut self, answer: &Answer) -> Vec<Value> {
        let mut json = answer.json();
        assert_eq!((&json["code"], &json["message"]), (&json!(0), &json!("")));
        json["session"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.session);
        self.ack = json["ack"].as_u64().unwrap();
        serde_json::from_value(json["messages"].take()).unwrap()
    }
}

impl Events {
    /// Asks for events. Answers that are no stream are an error.
    pub async fn open(addr: SocketAddr, query: &str, lines: &str) -> Result<Self, Answer> {
        let socket = TcpStream::connect(addr).await.unwrap();
        Self::open_on(socket, query, lines).await
    }

    /// With a small window, so that what is not read soon waits in the server.
    pub async fn open_narrow(addr: SocketAddr, query: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        let socket = socket.connect(addr).await.unwrap();
        Self::open_on(socket, query, "").await.expect("a stream")
    }

    /// Logs in, and takes what comes first: the session, and the answer to Auth.
    pub async fn login(server: &Server, token: &Token) -> Self {
        Self::login_at(server.door(Door::WebSocket), &token.to_json()).await
    }

    /// The same at an address, with the text of a token.
    pub async fn login_at(addr: SocketAddr, token: &str) -> Self {
        let query = format!("t={}", encoded(token));
        let stream = Self::open(addr, &query, "").await;
        let mut events = stream.expect("a stream");
        let opening = events.next().await.unwrap();
        assert_eq!(opening.name, "session");
        assert_eq!(opening.data["resumed"], false, "{opening:?}");
        let auth = events.next().await.unwrap();
        assert_eq!(auth.data["op"], op::AUTH_REPLY, "{auth:?}");
        events
    }

    /// The next event, or the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = parse(&self.text[..end]);
                self.text.drain(..end + 2);
                if !event.id.is_empty() {
                    event.id.clone_into(&mut self.id);
                }
                return Some(event);
            }
            while self.take_chunk() {}
            if self.text.contains("\n\n") {
                continue;
            }
            if self.is_over {
                assert!(self.text.is_empty(), "cut off: {:?}", self.text);
                return None;
            }
            let read = within("an event", self.socket.read_buf(&mut self.input)).await;
            assert!(read.unwrap() > 0, "the connection ends within a stream");
        }
    }

    /// The next message, beside signs of life.
    pub async fn message(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream ends");
            if event.name == "message" {
                return event;
            }
            assert_eq!(event.name, "heartbeat", "{event:?}");
        }
    }

    /// Waits for one message of operation 1000.
    pub async fn gets(&mut self, text: &str) {
        let event = self.message().await;
        assert_eq!(texts(&[event.data]), [(1000, text)]);
    }

    /// The session's name, as events have it.
    pub fn session(&self) -> &str {
        self.id.split('.').next().unwrap()
    }

    async fn open_on(mut socket: TcpStream, query: &str, lines: &str) -> Result<Self, Answer> {
        let request = format!(
            "GET /sub?{query} HTTP/1.1\r\nHost: comet\r\nAccept: text/event-stream\r\n{lines}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut input = Vec::new();
        let end = loop {
            if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let read = within("a head", socket.read_buf(&mut input)).await;
            assert!(read.unwrap() > 0, "the connection ends within a head");
        };
        let head = String::from_utf8(input.drain(..end).collect()).unwrap();
        let head = head.to_ascii_lowercase();
        if !head.contains("content-type: text/event-stream") {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let len = head.split_once("content-length: ");
            let len = len.map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
            while input.len() < len {
                let read = within("a body", socket.read_buf(&mut input)).await;
                assert!(read.unwrap() > 0, "the connection ends within a body");
            }
            let body = String::from_utf8(input).unwrap();
            return Err(Answer { status, head, body });
        }
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        Ok(Self {
            addr: socket.peer_addr().unwrap(),
            socket,
            input,
            text: String::new(),
            is_over: false,
            id: String::new(),
        })
    }

    /// Decodes one chunk of the body, if it is there whole.
    fn take_chunk(&mut self) -> bool {
        let Some(line) = self.input.windows(2).position(|two| two == b"\r\n") else {
            return false;
        };
        let len = std::str::from_utf8(&self.input[..line]).unwrap();
        let len = usize::from_str_radix(len, 16).unwrap();
        let (start, end) = (line + 2, line + 2 + len);
        if self.input.len() < end + 2 {
            return false;
        }
        self.text += std::str::from_utf8(&self.input[start..end]).unwrap();
        self.is_over = len == 0;
        self.input.drain(..end + 2);
        true
    }
}

/// One request for `/sub` with these parameters.
pub async fn get(addr: SocketAddr, query: &str) -> Answer {
    http::get(addr, &format!("/sub?{query}")).await
}

/// The last words of a stream that has nothing else.
pub async fn turned_away(addr: SocketAddr, query: &str) -> Event {
    let request = format!(
        "GET /sub?{query} HTTP/1.1\r\nHost: comet\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    );
    let answer = http::exchange(addr, request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = "content-type: text/event-stream";
    assert!(answer.head.contains(kind), "{answer:?}");
    parse(answer.body.strip_suffix("\n\n").expect("one event"))
}

/// A proto for a session.
pub async fn send(addr: SocketAddr, session: &str, op: i32, seq: i32, body: &[u8]) -> Answer {
    http::post(addr, &format!("/sub?s={session}&op={op}&seq={seq}"), body).await
}

/// What each message is: its operation and text.
pub fn texts(messages: &[Value]) -> Vec<(i64, &str)> {
    let mut all = Vec::new();
    for message in messages {
        all.push((
            message["op"].as_i64().unwrap(),
            message["body"].as_str().expect("a text"),
        ));
    }
    all
}

/// The reason that operation 6 names.
pub fn reason(message: &Value) -> String {
    words(message)["reason"].as_str().unwrap().to_owned()
}

/// What operation 6 says.
pub fn words(message: &Value) -> Value {
    assert_eq!(message["op"], op::DISCONNECT_REPLY, "{message:?}");
    serde_json::from_str(message["body"].as_str().unwrap()).unwrap()
}

/// As the value of a parameter.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = text.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn parse(block: &str) -> Event {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    Event {
        id: field("id: ").unwrap_or_default().to_owned(),
        name: field("event: ").unwrap_or("message").to_owned(),
        data: serde_json::from_str(field("data: ").expect("data")).unwrap(),
        retry: field("retry: ").map(|retry| retry.parse().unwrap()),
    }
}
