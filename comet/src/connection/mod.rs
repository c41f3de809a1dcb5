//! The life of one connection: it joins a transport, a session and a channel.
//!
//! Login is a large future that ends before the small state of an online connection starts; the farewell is a large one again.
//!
//! # Layout
//!
//! - `secure`: the TLS handshake, where there is one
//! - `greeting`: up to AuthReply, under one absolute deadline
//! - `online`: the one loop
//! - `farewell`: telling the client why, and closing without cutting that off

mod farewell;
mod greeting;
mod online;
mod secure;

use std::{
    io::{self, ErrorKind, Read as _},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream, time::Instant};

use self::online::Online;
use crate::{
    channel::{Channel, Outlet},
    close::{CloseReason, CloseWhen, Farewell},
    gateway::Gateway,
    transport::{
        Door, http,
        intake::{Event, Intake, Parsing},
        stream::Stream,
        tls,
    },
};

/// Serves a connection of the TCP door, or of the one behind TLS, until it is closed.
pub fn serve_tcp(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    stream: TcpStream,
    client: SocketAddr,
) -> impl Future<Output = ()> + Send {
    Life::Beginning(Box::pin(begin_tcp(gateway, tls, stream, client)))
}

/// Serves a connection of the HTTP door, or of the one behind TLS, until it is closed: plain requests, or a WebSocket.
pub fn serve_http(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    door: Arc<http::Door>,
    stream: TcpStream,
    client: SocketAddr,
) -> impl Future<Output = ()> + Send {
    Life::Beginning(Box::pin(begin_http(gateway, tls, door, stream, client)))
}

/// A connection's task. It is written by hand because an `async fn` keeps a place for every step that it waits in: idle
/// connections are many, and all that theirs need is [`Online`].
enum Life {
    /// Up to login; a connection that does not log in ends here.
    Beginning(BoxFuture<'static, Option<Online>>),
    Online(Online),
    Ending(BoxFuture<'static, ()>),
    Over,
}

impl Future for Life {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match &mut *self {
                Self::Beginning(beginning) => match ready!(beginning.as_mut().poll(cx)) {
                    Some(online) => Self::Online(online),
                    None => Self::Over,
                },
                Self::Online(online) => {
                    ready!(online.poll(cx));
                    match std::mem::replace(&mut *self, Self::Over) {
                        Self::Online(online) => Self::Ending(Box::pin(online.end())),
                        over => over,
                    }
                }
                Self::Ending(ending) => {
                    ready!(ending.as_mut().poll(cx));
                    Self::Over
                }
                Self::Over => return Poll::Ready(()),
            };
        }
    }
}

async fn begin_tcp(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    stream: TcpStream,
    client: SocketAddr,
) -> Option<Online> {
    let deadline = Instant::now() + gateway.protocol.handshake_timeout.get();
    let door = secure::door(Door::Tcp, tls.as_ref());
    let presence = Presence::enter(&gateway, door);
    let mut stream = secure::begin(&gateway, tls, stream, client, deadline).await?;
    let intake = Intake::tcp_after(stream.take_unread());
    let login = Login {
        door,
        client,
        cookie: String::new(),
        deadline,
    };
    begin(gateway, stream, intake, login, presence).await
}

async fn begin_http(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    http: Arc<http::Door>,
    stream: TcpStream,
    client: SocketAddr,
) -> Option<Online> {
    let deadline = Instant::now() + gateway.protocol.handshake_timeout.get();
    let door = secure::door(Door::WebSocket, tls.as_ref());
    let presence = Presence::enter(&gateway, door);
    let stream = secure::begin(&gateway, tls, stream, client, deadline).await?;
    match http.serve(stream, client, deadline).await {
        Ok(http::Outcome::Upgraded(upgraded)) => {
            let intake = Intake::websocket(&upgraded.early);
            let login = Login {
                door,
                client,
                cookie: upgraded.cookie,
                deadline: upgraded.deadline,
            };
            begin(gateway, upgraded.stream, intake, login, presence).await
        }
        Ok(http::Outcome::Ended) => None,
        Err(error) => {
            tracing::debug!(%client, %error, "HTTP ends");
            gateway.metrics.http_refusals(error.label()).inc();
            None
        }
    }
}

async fn begin(
    gateway: Arc<Gateway>,
    stream: Stream,
    mut intake: Intake,
    login: Login,
    presence: Presence,
) -> Option<Online> {
    let context = Arc::clone(&gateway.channels);
    let channel = Arc::new(Channel::new(0, login.door, Outlet::from(stream), context));
    match greeting::greet(&gateway, &channel, &mut intake, login).await {
        Ok(session) => Some(Online::new(gateway, channel, session, intake, presence)),
        Err(farewell) => {
            channel.close(&farewell, CloseWhen::Now);
            let reason = channel.closing().unwrap_or(CloseReason::Internal);
            gateway.metrics.refused_logins(reason.label()).inc();
            end(&gateway, &channel).await;
            drop(presence);
            None
        }
    }
}

/// Says farewell on a channel that closes.
async fn end(gateway: &Gateway, channel: &Channel) {
    farewell::say(&gateway.protocol, channel).await;
    let reason = channel.closing().unwrap_or(CloseReason::Internal);
    tracing::debug!(id = channel.id(), reason = reason.label(), "closed");
    gateway.metrics.closes(reason.label()).inc();
}

/// What a login knows of its connection.
#[derive(Debug)]
struct Login {
    door: Door,
    client: SocketAddr,
    cookie: String,
    deadline: Instant,
}

/// A connection in the counts of open ones.
#[derive(Debug)]
struct Presence {
    open: Gauge,
}

impl Presence {
    fn enter(gateway: &Gateway, door: Door) -> Self {
        gateway.metrics.accepted(door).inc();
        let open = gateway.metrics.connections(door);
        open.inc();
        Self { open }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// Reads once and lets `handle` take what there is; `None` if nothing was there after all.
fn read<R>(
    gateway: &Gateway,
    channel: &Channel,
    intake: &mut Intake,
    handle: impl FnOnce(&mut Parsing<'_>) -> R,
) -> Result<Option<R>, CloseReason> {
    let Some(socket) = channel.socket() else {
        return Ok(None);
    };
    let mut buffer = gateway.round.buffer();
    let mut opened = Vec::new();
    let (came, fresh) = match channel.sealed() {
        None => (read_once(socket, &mut buffer), &mut buffer[..]),
        Some(sealed) => {
            let came = sealed.read(&mut buffer, &mut opened, read_once);
            (came, &mut opened[..])
        }
    };
    match came {
        Ok(0) => Err(CloseReason::PeerClosed),
        Ok(count) => Ok(Some(intake.feed(&mut fresh[..count], handle))),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(CloseReason::SocketError),
    }
}

/// Reads what is there. If that is less than fits, the socket is empty, and no second call is needed to find that out.
fn read_once(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = None;
    let outcome = socket.try_io(Interest::READABLE, || {
        let read = (&*SockRef::from(socket)).read(buffer)?;
        count = Some(read);
        if read < buffer.len() {
            // It forgets that the socket was readable; what came since wakes the task again.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    count.map_or_else(|| outcome.map(|()| 0), Ok)
}

/// Answers to one client that go out together.
#[derive(Debug, Default)]
struct Answers {
    bytes: Vec<u8>,
    count: u32,
}

impl Answers {
    fn pong(&mut self, payload: &[u8]) {
        self.bytes
            .extend(crate::transport::websocket::pong(payload));
        self.count += 1;
    }

    fn proto(&mut self, door: Door, header: protocol::Header, body: &[u8]) {
        door.encode(header, body, &mut self.bytes);
        self.count += 1;
    }

    /// Hands them to the channel.
    fn send(&mut self, channel: &Channel) {
        if self.count > 0 {
            channel.answer(&self.bytes, self.count);
            self.bytes.clear();
            self.count = 0;
        }
    }
}

/// The goodbye to a client that sent a Close frame.
fn closed_by_peer(code: Option<u16>) -> Farewell {
    // Without a code in its frame, the answer is a normal closure.
    Farewell::echoed(code.unwrap_or(1000))
}

/// A ping's or Close's own way; protos go on.
fn control<'a>(
    event: &Event<'a>,
    answers: &mut Answers,
) -> Result<Option<(protocol::Header, &'a [u8])>, Farewell> {
    match *event {
        Event::Proto(header, body) => Ok(Some((header, body))),
        Event::Ping(payload) => {
            answers.pong(payload);
            Ok(None)
        }
        Event::Close(code) => Err(closed_by_peer(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_is_small() {
        // tokio's part of a task is 104 bytes and the sum is rounded up to 128, so each idle connection's task is 256 bytes.
        // The 8 are the task tracker's.
        assert!(size_of::<Life>() + 8 + 104 <= 256, "{}", size_of::<Life>());
    }
}
