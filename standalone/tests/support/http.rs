//! HTTP over plain sockets: goim's push API, and requests that no library would send.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::within;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The lines of the head in lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// goim's envelope.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// goim's code and message.
    pub fn verdict(&self) -> (i64, String) {
        let json = self.json();
        let message = json["message"].as_str().unwrap().to_owned();
        (json["code"].as_i64().unwrap(), message)
    }
}

/// Pushes by `keys`, `mids`, `room` or `all`, and waits until comet has answered.
pub async fn push(addr: SocketAddr, kind: &str, query: &str, body: &str) {
    let path = format!("/goim/push/{kind}?{query}&report=1");
    let answer = post(addr, &path, body.as_bytes()).await;
    assert_eq!(answer.verdict(), (0, String::new()), "push {kind}?{query}");
}

/// Pushes `0`, `1` and so on, below `count`, each when the one before is answered.
pub async fn push_numbers(addr: SocketAddr, kind: &str, query: &str, count: usize) {
    for number in 0..count {
        push(addr, kind, query, &number.to_string()).await;
    }
}

/// One POST on a connection of its own.
pub async fn post(addr: SocketAddr, path: &str, body: &[u8]) -> Answer {
    let len = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
    );
    exchange(addr, &[head.as_bytes(), body].concat()).await
}

/// One GET on a connection of its own.
pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(addr, request.as_bytes()).await
}

/// Sends bytes on a connection of its own and reads to the end of the stream, which must not be a reset.
pub async fn exchange(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut bytes = Vec::new();
    within("an HTTP answer", async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request).await.unwrap();
        socket.read_to_end(&mut bytes).await.unwrap();
    })
    .await;
    parse(&bytes)
}

/// Sends bytes on a connection of its own, which stays open, and reads one answer by its length.
pub async fn ask(addr: SocketAddr, request: &[u8]) -> Answer {
    let mut bytes = Vec::new();
    within("an HTTP answer", async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(request).await.unwrap();
        while !is_whole(&bytes) && socket.read_buf(&mut bytes).await.unwrap() > 0 {}
    })
    .await;
    parse(&bytes)
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let len = head.split_once("content-length: ");
    let len = len.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    len.is_some_and(|len: usize| body.len() >= len)
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.split_once("\r\n\r\n");
    let (head, body) = whole.unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
