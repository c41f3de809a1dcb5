//! One connection of a client, from connect to close.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use mio::net::TcpStream;
use protocol::{codec::Header, op};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use super::{
    sequence::{Arrival, Sequence},
    stats::Stats,
    window::{MAX_WINDOW, Window},
};
use crate::{
    DATA,
    doors::{Door, Seen, Tls, Walk, WalkError},
    measure,
};

/// A client.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    door: Door,
    tls: Option<Tls>,
    stage: Stage,
    walk: Walk,
    /// Of the messages of its group.
    pub(super) sequence: Sequence,
    pub(super) group: Option<u32>,
    /// When it connected, and then when it sent its last heartbeat.
    pub(super) since: u64,
    /// Whether it goes on sending heartbeats.
    pub(super) beating: bool,
}

#[derive(Debug)]
enum Stage {
    /// With what is sent as soon as it is connected, and the Auth.
    Connecting(Option<Vec<u8>>, Vec<u8>),
    /// The answer to the hello, as far as it has come, and the Auth.
    Welcome(Vec<u8>, Vec<u8>),
    Auth,
    Online,
}

/// What all connections of a thread share.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) stats: Stats,
    pub(super) window: Window,
    /// Messages that may overtake another without its being taken as lost.
    pub(super) reach: u64,
    /// What is sent earlier belongs to another series.
    pub(super) series_from: u64,
    /// What comes earlier is no measurement.
    pub(super) measure_from: u64,
}

/// What an event meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing beyond itself.
    On,
    /// The client has just been logged in.
    LoggedIn,
}

/// Why a connection has ended.
#[derive(Debug, Error)]
pub(super) enum Ended {
    /// By the server, in order.
    #[error("the server closed the connection")]
    Closed,
    /// What the server sent cannot be understood.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The socket's own error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(
        server: SocketAddr,
        source: Option<SocketAddr>,
        door: Door,
        token: &str,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(server),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&source.into())?;
        }
        match socket.connect(&server.into()) {
            // EINPROGRESS.
            Err(error) if error.raw_os_error() != Some(115) => return Err(error),
            _ => {}
        }
        let mut auth = Vec::new();
        Header {
            ver: 1,
            op: op::AUTH,
            seq: 1,
        }
        .encode(token.as_bytes(), &mut auth);
        Ok(Self {
            socket: TcpStream::from_std(socket.into()),
            door,
            tls: door
                .is_tls()
                .then(Tls::new)
                .transpose()
                .map_err(io::Error::other)?,
            stage: Stage::Connecting(door.hello(server), door.wrap(&auth)),
            walk: door.walk(),
            sequence: Sequence::default(),
            group: None,
            since: measure::now(),
            beating: false,
        })
    }

    /// Does what an event allows.
    /// `is_closed`: the server has sent its last, which a short read does not show.
    pub(super) fn ready(
        &mut self,
        is_closed: bool,
        buffer: &mut [u8],
        counts: &mut Counts,
    ) -> Result<Step, Ended> {
        if matches!(self.stage, Stage::Connecting(..)) && !self.connected()? {
            return Ok(Step::On);
        }
        let mut step = Step::On;
        loop {
            let len = match self.socket.read(buffer) {
                Ok(0) => return Err(Ended::Closed),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(step),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            counts.stats.reads += 1;
            counts.stats.bytes += len as u64;
            if self.came(&buffer[..len], counts)? == Step::LoggedIn {
                step = Step::LoggedIn;
            }
            if len < buffer.len() && !is_closed {
                // The socket is empty: what comes from now on is a new event.
                return Ok(step);
            }
        }
    }

    /// Sends a heartbeat.
    pub(super) fn beat(&mut self, counts: &mut Counts) -> io::Result<()> {
        let header = Header {
            ver: 1,
            op: op::HEARTBEAT,
            seq: 1,
        };
        self.since = measure::now();
        counts.stats.asked += 1;
        self.send(&self.door.wrap(&header.to_bytes(0)))
    }

    /// Closes it without the states in which a connection waits for its last packets.
    pub(super) fn reset(self) {
        // A socket that has ended has nothing to wait for.
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap_or(());
    }

    /// Whether it is logged in.
    pub(super) fn is_online(&self) -> bool {
        matches!(self.stage, Stage::Online)
    }

    /// Whether the connection stands; then what comes first is sent.
    fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        if self.socket.peer_addr().is_err() {
            return Ok(false);
        }
        if let Stage::Connecting(hello, auth) = &mut self.stage {
            let (hello, auth) = (hello.take(), std::mem::take(auth));
            let first = hello.as_ref().unwrap_or(&auth);
            self.send(first)?;
            self.stage = match hello {
                Some(_) => Stage::Welcome(Vec::new(), auth),
                None => Stage::Auth,
            };
        }
        Ok(true)
    }

    /// Takes what came of the socket.
    fn came(&mut self, input: &[u8], counts: &mut Counts) -> Result<Step, Ended> {
        let Some(tls) = &mut self.tls else {
            return self.take(input, counts);
        };
        let mut plain = Vec::new();
        tls.open(input, &mut plain)?;
        tls.flush(&mut self.socket)?;
        if plain.is_empty() {
            return Ok(Step::On);
        }
        self.take(&plain, counts)
    }

    fn take(&mut self, input: &[u8], counts: &mut Counts) -> Result<Step, Ended> {
        let Stage::Welcome(held, auth) = &mut self.stage else {
            return self.walk(input, counts);
        };
        held.extend_from_slice(input);
        let Some(len) = self.door.welcome(held)? else {
            return Ok(Step::On);
        };
        let (rest, auth) = (held.split_off(len), std::mem::take(auth));
        self.send(&auth)?;
        self.stage = Stage::Auth;
        self.walk(&rest, counts)
    }

    fn walk(&mut self, input: &[u8], counts: &mut Counts) -> Result<Step, Ended> {
        let now = measure::now();
        let (mut auth_reply, mut beats) = (false, 0);
        let (sequence, group) = (&mut self.sequence, self.group);
        self.walk.feed(input, &mut |seen: Seen| match seen.op {
            DATA => counts.message(seen, sequence, group, now),
            op::RAW => counts.stats.raws += 1,
            op::HEARTBEAT_REPLY => beats += 1,
            op::AUTH_REPLY => auth_reply = true,
            op::DISCONNECT_REPLY => counts.stats.disconnects += 1,
            _ => counts.stats.strays += 1,
        })?;
        if let Some(request) = self.walk.take_request() {
            self.send(&request)?;
        }
        if beats > 0 {
            self.answered(beats, now, counts)?;
        }
        if auth_reply && matches!(self.stage, Stage::Auth) {
            self.stage = Stage::Online;
            return Ok(Step::LoggedIn);
        }
        Ok(Step::On)
    }

    fn answered(&mut self, beats: u64, now: u64, counts: &mut Counts) -> io::Result<()> {
        counts.stats.beats += beats;
        if now >= counts.measure_from {
            counts
                .stats
                .latency
                .saturating_record(now.saturating_sub(self.since));
        }
        if self.beating {
            self.beat(counts)
        } else {
            Ok(())
        }
    }

    /// What clients send is far smaller than any socket's buffer: one that does not take it at once has failed.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.seal(bytes)?;
            return tls.flush(&mut self.socket);
        }
        let sent = (&self.socket).write(bytes)?;
        if sent < bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }
}

impl Counts {
    fn message(&mut self, seen: Seen, sequence: &mut Sequence, group: Option<u32>, now: u64) {
        let stats = &mut self.stats;
        let Some(mark) = seen.mark else {
            stats.strays += 1;
            return;
        };
        let Some(group) = group.filter(|_| mark.sent >= self.series_from) else {
            stats.stale += 1;
            return;
        };
        if group != mark.group {
            stats.strays += 1;
            return;
        }
        let before = *sequence;
        let arrival = sequence.take(mark.index);
        if arrival == Arrival::Again {
            return;
        }
        stats.received += 1;
        stats.last_receipt = now;
        if now >= self.measure_from {
            stats
                .latency
                .saturating_record(now.saturating_sub(mark.sent));
        }
        for lost in before.given_up(mark.index, self.reach, MAX_WINDOW) {
            self.window.count(group, lost);
        }
        // What is later than the reach was given up before.
        if arrival == Arrival::New || mark.index + self.reach >= before.next() {
            self.window.count(group, mark.index);
        }
    }
}
