//! An echo server on Comet's own WebSocket layer, for conformance suites:
//! `cargo run -p comet --example ws_echo -- 127.0.0.1:9001`, then `ws://127.0.0.1:9001/sub`.
//!
//! Text and binary messages of up to 16 MiB come back as they were, pings are answered, a Close is answered with its code,
//! and a violation is closed with the code that names it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use comet::transport::{
    http::{Admitted, Door, HttpLimits, Outcome, origins::Origins},
    stream::Stream,
    websocket::{Assembler, Incoming, Payload, WebSocketError, close_frame, message, pong},
};
use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Bytes of a message.
const MAX_MESSAGE: usize = 16 << 20;

/// Bytes asked of the socket at once.
const READ: usize = 64 * 1024;

/// For the HTTP request; and for the client to hang up after the Close frame.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:9001")).await?;
    println!("ws://{}/sub", listener.local_addr()?);
    let door = Arc::new(Door {
        pages: Router::new(),
        subscribe: None,
        limits: HttpLimits::default(),
        origins: Origins::default(),
        admit: Arc::new(|_: &HeaderMap, client| Ok(Admitted::is(client))),
        shutdown: CancellationToken::new(),
        on_refused: Arc::new(|refusal| eprintln!("refused: {refusal}")),
    });
    loop {
        let (stream, peer) = listener.accept().await?;
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            if let Err(error) = visit(&door, stream, peer).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// One connection, from its first byte to its last.
async fn visit(door: &Door, stream: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let outcome = door.serve(stream, peer, Instant::now() + PATIENCE).await?;
    let Outcome::Upgraded(upgraded) = outcome else {
        return Ok(());
    };
    let mut echo = Echo {
        stream: upgraded.stream,
        assembler: Assembler::new(),
        input: upgraded.early.to_vec(),
    };
    if let Some(goodbye) = echo.run().await? {
        echo.close(&goodbye).await?;
    }
    Ok(())
}

struct Echo {
    stream: Stream,
    assembler: Assembler,
    /// What has come and was not understood yet.
    input: Vec<u8>,
}

impl Echo {
    /// Answers until the end: the Close frame to send, or nothing when the client went without one.
    async fn run(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut output = Vec::new();
            let goodbye = self.answer(&mut output);
            self.stream.write_all(&output).await?;
            match goodbye {
                Ok(None) => {}
                Ok(Some(goodbye)) => return Ok(Some(goodbye)),
                Err(error) => {
                    return Ok(Some(close_frame(error.close_code(), &error.to_string())));
                }
            }
            self.input.reserve(READ);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Puts the answers to all that is there into `output`; the Close frame, when the client has sent one.
    fn answer(&mut self, output: &mut Vec<u8>) -> Result<Option<Vec<u8>>, WebSocketError> {
        let mut done = 0;
        while let Some((len, incoming)) =
            self.assembler.next(&mut self.input[done..], MAX_MESSAGE)?
        {
            let frame = &self.input[done..done + len];
            match incoming {
                Incoming::Message { kind, payload } => output.extend(match payload {
                    Payload::InPlace(range) => message(kind, &frame[range]),
                    Payload::Assembled(payload) => message(kind, &payload),
                }),
                Incoming::Ping(range) => output.extend(pong(&frame[range])),
                Incoming::Pong | Incoming::Fragment => {}
                Incoming::Close(close) => {
                    return Ok(Some(close_frame(
                        close.map_or(1000, |close| close.code),
                        "",
                    )));
                }
            }
            done += len;
        }
        self.input.drain(..done);
        Ok(None)
    }

    /// Sends the Close frame and waits until the client hangs up, so that it is not lost in a reset.
    async fn close(&mut self, goodbye: &[u8]) -> io::Result<()> {
        self.stream.write_all(goodbye).await?;
        self.stream.shutdown().await?;
        let mut nowhere = tokio::io::sink();
        let _ = timeout(PATIENCE, tokio::io::copy(&mut self.stream, &mut nowhere)).await;
        Ok(())
    }
}
