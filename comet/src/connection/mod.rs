//! The life of one connection: it joins a transport, a session and a channel.
//!
//! Login is a large future that ends before the small one of an online connection starts; the farewell is a large one again.
//!
//! # Layout
//!
//! - `greeting`: up to AuthReply, under one absolute deadline
//! - `online`: the one loop
//! - `farewell`: telling the client why, and closing without cutting that off

mod farewell;
mod greeting;
mod online;

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use prometheus_client::metrics::gauge::Gauge;
use tokio::{net::TcpStream, time::Instant};

use crate::{
    channel::{Channel, Outlet},
    close::{CloseReason, CloseWhen, Farewell},
    gateway::Gateway,
    logic::Session,
    transport::{
        Door, http,
        intake::{Event, Intake, Parsing},
    },
};

/// Serves a connection of the TCP door until it is closed.
pub fn serve_tcp(
    gateway: Arc<Gateway>,
    stream: TcpStream,
    client: SocketAddr,
) -> impl Future<Output = ()> + Send {
    let beginning = begin_tcp(Arc::clone(&gateway), stream, client);
    serve(gateway, Box::pin(beginning))
}

/// Serves a connection of the HTTP door until it is closed: plain requests, or a WebSocket.
pub fn serve_http(
    gateway: Arc<Gateway>,
    door: Arc<http::Door>,
    stream: TcpStream,
    client: SocketAddr,
) -> impl Future<Output = ()> + Send {
    let beginning = begin_http(Arc::clone(&gateway), door, stream, client);
    serve(gateway, Box::pin(beginning))
}

/// All that happens up to login, as one large allocation that ends with it.
type Beginning = Pin<Box<dyn Future<Output = Option<Begun>> + Send>>;

/// A connection after its login, or after that failed.
#[derive(Debug)]
struct Begun {
    channel: Arc<Channel>,
    intake: Intake,
    /// If it has logged in.
    session: Option<Arc<Session>>,
    presence: Presence,
}

/// Serves a connection until it is closed. This is what an idle connection's task is, so it holds little.
async fn serve(gateway: Arc<Gateway>, beginning: Beginning) {
    let Some(mut begun) = beginning.await else {
        return;
    };
    if let Some(session) = begun.session.take() {
        let guest = gateway.addresses.enter(session.client.ip());
        online::run(&gateway, &begun.channel, &mut begun.intake, session).await;
        drop(guest);
    }
    Box::pin(end(gateway, begun)).await;
}

async fn end(gateway: Arc<Gateway>, begun: Begun) {
    let Begun {
        channel, presence, ..
    } = begun;
    farewell::say(&gateway.protocol, &channel).await;
    let reason = channel.closing().unwrap_or(CloseReason::Internal);
    tracing::debug!(id = channel.id(), reason = reason.label(), "closed");
    gateway.metrics.closes(reason.label()).inc();
    drop(presence);
}

async fn begin_tcp(gateway: Arc<Gateway>, stream: TcpStream, client: SocketAddr) -> Option<Begun> {
    let presence = Presence::enter(&gateway, Door::Tcp);
    let login = Login {
        door: Door::Tcp,
        client,
        cookie: String::new(),
        deadline: Instant::now() + gateway.protocol.handshake_timeout.get(),
    };
    Some(begin(&gateway, stream, Intake::tcp(), login, presence).await)
}

async fn begin_http(
    gateway: Arc<Gateway>,
    door: Arc<http::Door>,
    stream: TcpStream,
    client: SocketAddr,
) -> Option<Begun> {
    let deadline = Instant::now() + gateway.protocol.handshake_timeout.get();
    let presence = Presence::enter(&gateway, Door::WebSocket);
    match door.serve(stream, client, deadline).await {
        Ok(http::Outcome::Upgraded(upgraded)) => {
            let intake = Intake::websocket(&upgraded.early);
            let login = Login {
                door: Door::WebSocket,
                client,
                cookie: upgraded.cookie,
                deadline: upgraded.deadline,
            };
            Some(begin(&gateway, upgraded.stream, intake, login, presence).await)
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
    gateway: &Gateway,
    stream: TcpStream,
    mut intake: Intake,
    login: Login,
    presence: Presence,
) -> Begun {
    let context = Arc::clone(&gateway.channels);
    let channel = Arc::new(Channel::new(0, login.door, Outlet::Direct(stream), context));
    let session = match greeting::greet(gateway, &channel, &mut intake, login).await {
        Ok(session) => Some(session),
        Err(farewell) => {
            channel.close(&farewell, CloseWhen::Now);
            None
        }
    };
    Begun {
        channel,
        intake,
        session,
        presence,
    }
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
    match socket.try_read(&mut buffer) {
        Ok(0) => Err(CloseReason::PeerClosed),
        Ok(count) => Ok(Some(intake.feed(&mut buffer[..count], handle))),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(_) => Err(CloseReason::SocketError),
    }
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
        // Each idle connection has one of these, so growth is a decision.
        fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(|(gateway, beginning)| serve(gateway, beginning));
        assert!(size <= 400, "{size} bytes");
    }
}
