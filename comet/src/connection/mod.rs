//! The life of one connection: it joins a transport, a session and a channel.
//!
//! Login is a large future that ends before the small state of an online connection starts; the farewell is a large one again.
//!
//! # Layout
//!
//! - `arrival`: whether it may come in, and who it is where a balancer stands between
//! - `secure`: the TLS handshake, where there is one
//! - `greeting`: up to AuthReply, under one absolute deadline
//! - `online`: the one loop; `meter`: how much its client may send
//! - `farewell`: telling the client why, and closing without cutting that off
//! - [`subscription`]: the same for sessions that live on HTTP requests

mod arrival;
mod farewell;
mod greeting;
mod meter;
mod online;
mod secure;
pub mod subscription;

use std::{
    io::{self, ErrorKind, Read as _},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use common::incoming::settle;
use futures_util::future::BoxFuture;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream, time::Instant};

use self::{arrival::NoArrival, online::Online};
use crate::{
    channel::{Channel, Outlet},
    close::{CloseReason, CloseWhen, Farewell},
    gate::Presence,
    gateway::Gateway,
    transport::{
        Door, http,
        intake::{Event, Intake, Parsing},
        stream::Stream,
        tls,
    },
};

/// Serves a connection of the TCP door, or of the one behind TLS, until it is closed. From now on it counts; one too many is
/// closed.
pub fn serve_tcp(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + Send {
    match arrival::enter(&gateway, secure::door(Door::Tcp, tls.as_ref()), peer) {
        Ok(presence) => Life::Beginning(Box::pin(begin_tcp(gateway, tls, stream, peer, presence))),
        Err(_) => Life::Over,
    }
}

/// Serves a connection of the HTTP door, or of the one behind TLS, until it is closed: plain requests, or a WebSocket. From now on
/// it counts; one too many is told so, where there is no TLS, and closed.
pub fn serve_http(
    gateway: Arc<Gateway>,
    tls: Option<tls::Acceptor>,
    door: Arc<http::Door>,
    stream: TcpStream,
    peer: SocketAddr,
) -> impl Future<Output = ()> + Send {
    match arrival::enter(&gateway, secure::door(Door::WebSocket, tls.as_ref()), peer) {
        Ok(presence) => {
            let beginning = begin_http(gateway, tls, door, stream, peer, presence);
            Life::Beginning(Box::pin(beginning))
        }
        // A handshake costs more than the answer is worth.
        Err(_) if tls.is_some() => Life::Over,
        Err(refused) => match gateway.gate.may_tell() {
            Some(permit) => {
                let ending = arrival::turn_away(gateway, stream, refused, permit);
                Life::Ending(Box::pin(ending))
            }
            None => Life::Over,
        },
    }
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
    mut stream: TcpStream,
    peer: SocketAddr,
    mut presence: Presence,
) -> Option<Online> {
    let deadline = Instant::now() + gateway.protocol.handshake_timeout.get();
    let door = secure::door(Door::Tcp, tls.as_ref());
    let arrived = arrival::client(&gateway, &mut stream, peer, &mut presence, deadline).await;
    let client = arrived.ok()?;
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
    mut stream: TcpStream,
    peer: SocketAddr,
    mut presence: Presence,
) -> Option<Online> {
    let deadline = Instant::now() + gateway.protocol.handshake_timeout.get();
    let door = secure::door(Door::WebSocket, tls.as_ref());
    let arrived = arrival::client(&gateway, &mut stream, peer, &mut presence, deadline).await;
    let client = match arrived {
        Ok(client) => client,
        Err(NoArrival::Refused(refused)) => {
            drop(presence);
            if tls.is_none() {
                let permit = gateway.gate.may_tell()?;
                arrival::turn_away(gateway, stream, refused, permit).await;
            }
            return None;
        }
        Err(NoArrival::Header(_) | NoArrival::GoingAway) => return None,
    };
    let stream = secure::begin(&gateway, tls, stream, client, deadline).await?;
    match http.serve(stream, client, deadline).await {
        Ok(http::Outcome::Upgraded(upgraded)) => {
            let intake = Intake::websocket(&upgraded.early);
            settle(upgraded.stream.socket(), gateway.gone_after);
            if let Some(claim) = upgraded.admitted.claim {
                presence.take(claim);
            }
            let login = Login {
                door,
                client: upgraded.admitted.client,
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
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Ok(None),
            ErrorKind::InvalidData => Err(CloseReason::TlsViolation),
            _ => Err(CloseReason::SocketError),
        },
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
