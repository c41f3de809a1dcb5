//! What all connections of a comet share.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::Addresses,
    balancers::Balancers,
    bucket::{BucketContext, Buckets},
    channel::{ChannelContext, Limits},
    clock::Clock,
    config::{self, Config},
    drain::Drain,
    gate::{Gate, Refused},
    logic::{Logic, goodbye::Goodbyes},
    metrics::Metrics,
    room::Rooms,
    round::Round,
    session,
    transport::{http::Admitted, intake::IntakeLimits},
    whitelist::Whitelist,
};

/// The shared parts of one comet.
#[derive(Debug)]
pub struct Gateway {
    /// Bounds of a connection.
    pub protocol: config::Protocol,
    /// What the calls to logic need beside [`Self::logic`].
    pub logic_config: config::Logic,
    /// Bounds of what a client sends.
    pub intake: IntakeLimits,
    /// What the channels share.
    pub channels: Arc<ChannelContext>,
    /// The connections that have logged in.
    pub buckets: Buckets,
    /// All rooms.
    pub rooms: Arc<Rooms>,
    /// Calls to logic.
    pub logic: Logic,
    /// Disconnects.
    pub goodbyes: Goodbyes,
    /// Read buffers.
    pub round: Round,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// Who says who a client is.
    pub balancers: Balancers,
    /// Bounds of what one client may do in a second, and others of [`Self::gate`].
    pub limits: config::Limits,
    /// After what time a connection that is no longer one of HTTP is gone: [`Config::gone_after`].
    pub gone_after: Duration,
    /// Client addresses.
    pub addresses: Arc<Addresses>,
    /// Whether this comet is about to end, and what clients are told.
    pub drain: Drain,
    /// Cancelled when clients are told to go: logins are refused from then on.
    pub stopping: CancellationToken,
    /// Cancelled later, when nobody comes in any more.
    pub doors: CancellationToken,
    last_id: AtomicU64,
    started: Instant,
}

impl Gateway {
    /// Starts the buckets and puts everything together. With `shutdown` the end begins.
    pub fn start(
        config: &Config,
        logic: Logic,
        metrics: Arc<Metrics>,
        whitelist: Whitelist,
        shutdown: &CancellationToken,
    ) -> Self {
        let Config {
            protocol,
            logic: logic_config,
            bucket,
            websocket,
            limits: bounds,
            ..
        } = config;
        let clock = Clock::start();
        let rooms = Arc::new(Rooms::bounded(bounds.rooms));
        let buckets = Buckets::start(
            bucket,
            &BucketContext {
                rooms: Arc::clone(&rooms),
                metrics: Arc::clone(&metrics),
                clock,
                sweep: protocol.sweep.get(),
                max_accepts: protocol.max_accepts,
                write_timeout: bounds.write_timeout.get(),
            },
        );
        let limits = Limits {
            messages: protocol.svr_proto,
            bytes: protocol.svr_bytes,
            policy: protocol.full_policy,
            ring: u32::try_from(protocol.cli_proto).unwrap_or(u32::MAX),
        };
        let goodbyes = Goodbyes::start(
            logic.clone(),
            Arc::clone(&metrics),
            logic_config.goodbyes,
            logic_config.goodbye_age.get(),
        );
        Self {
            intake: IntakeLimits {
                max_body: protocol.max_body,
                max_message: websocket.max_message,
            },
            channels: Arc::new(ChannelContext {
                limits,
                metrics: Arc::clone(&metrics),
                clock,
                whitelist: Arc::new(whitelist),
            }),
            buckets,
            rooms,
            logic,
            goodbyes,
            round: Round::new(protocol.read_buf),
            gate: Gate::new(bounds.clone(), Arc::clone(&metrics)),
            balancers: Balancers::new(&config.balancers),
            limits: bounds.clone(),
            gone_after: config.gone_after(),
            metrics,
            addresses: Arc::default(),
            drain: Drain::new(shutdown),
            stopping: CancellationToken::new(),
            doors: CancellationToken::new(),
            last_id: AtomicU64::new(0),
            started: Instant::now(),
            protocol: protocol.clone(),
            logic_config: logic_config.clone(),
        }
    }

    /// An id for a new connection, unique within this comet's epoch and greater than all before: microseconds since the
    /// epoch, so that logic can tell when a connection logged in.
    pub fn next_connection_id(&self) -> u64 {
        let since = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let next = |last: u64| last.saturating_add(1).max(since);
        let update = |last| Some(next(last));
        let relaxed = Ordering::Relaxed;
        match self.last_id.fetch_update(relaxed, relaxed, update) {
            Ok(last) | Err(last) => next(last),
        }
    }

    /// Judges whether the client of a good handshake may come in, where a balancer says who it is: else it is in already.
    pub fn admit(&self, headers: &HeaderMap, client: SocketAddr) -> Result<Admitted, Refused> {
        let Some(forwarded) = self.forwarded(headers, client) else {
            return Ok(Admitted::is(client));
        };
        Ok(Admitted {
            claim: Some(self.gate.claim(forwarded.ip())?),
            client: forwarded,
        })
    }

    /// The client for which a balancer has handed a request on, if that is what came from there.
    pub fn forwarded(&self, headers: &HeaderMap, from: SocketAddr) -> Option<SocketAddr> {
        let client = self.balancers.forwarded(from.ip(), headers)?;
        // A balancer does not say from which port.
        Some(SocketAddr::new(client, 0))
    }

    /// The rules for frames after login.
    pub fn online(&self) -> session::Online {
        session::Online {
            max_room: self.protocol.max_room,
            max_accepts: self.protocol.max_accepts,
        }
    }
}
