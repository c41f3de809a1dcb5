//! Both services in this process, on free ports of the loopback interface, and a second comet beside them.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use comet::{Comet, metrics::Metrics};
use common::config::Human;
use prometheus_client::registry::Registry;
use protocol::Token;
use standalone::{Config, Standalone};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Client, Door, until, within};

/// A running server; it ends with the test.
pub struct Server {
    pub standalone: Standalone,
    end: DropGuard,
}

impl Server {
    /// With the default configuration.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With a configuration of its own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let shutdown = CancellationToken::new();
        let end = shutdown.clone().drop_guard();
        let standalone = Standalone::start(config, shutdown).await.unwrap();
        let server = Self { standalone, end };
        let readiness = server.standalone.comet.readiness();
        until("comet is registered", || readiness.report().is_ok()).await;
        server
    }

    /// Stops it, and waits for its end.
    pub async fn stop(self) {
        let Self { standalone, end } = self;
        drop(end);
        standalone.join().await;
    }

    /// Where clients of a door connect to.
    pub fn door(&self, door: Door) -> SocketAddr {
        let comet = &self.standalone.comet;
        match door {
            Door::Tcp => comet.tcp_addrs()[0],
            Door::WebSocket => comet.http_addrs()[0],
        }
    }

    /// goim's HTTP API.
    pub fn push_api(&self) -> SocketAddr {
        self.standalone.logic.http_addr()
    }

    /// The gRPC of comet.
    pub fn grpc(&self) -> SocketAddr {
        self.standalone.comet.grpc_addr()
    }

    /// Comet's counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.standalone.comet.metrics()
    }

    /// Waits until so many connections have been closed for a reason.
    pub async fn closed(&self, reason: &'static str, count: u64) {
        let closes = self.metrics().closes(reason);
        until(reason, || closes.get() >= count).await;
        assert_eq!(closes.get(), count, "connections closed as {reason}");
    }
}

/// One more comet, of the same logic. It ends with the test.
pub struct SecondComet {
    pub comet: Comet,
    _end: DropGuard,
}

impl SecondComet {
    /// Starts it, and waits until logic knows it.
    pub async fn start(server: &Server) -> Self {
        Self::start_with(server, |_| {}).await
    }

    /// With a configuration of its own.
    pub async fn start_with(server: &Server, change: impl FnOnce(&mut comet::Config)) -> Self {
        let mut config = config().comet;
        "second".clone_into(&mut config.env.host);
        change(&mut config);
        config.logic.addresses = vec![server.standalone.logic.grpc_addr().to_string()];
        let end = CancellationToken::new();
        let comet = Comet::start(&config, Router::new(), Registry::default(), end.clone());
        let comet = comet.await.unwrap();
        let readiness = comet.readiness();
        until("comet is registered", || readiness.report().is_ok()).await;
        Self {
            comet,
            _end: end.drop_guard(),
        }
    }

    /// Waits for its end, which something else has begun.
    pub async fn ended(self) {
        within("the end of a comet", self.comet.join()).await;
    }

    /// Where clients of a door connect to.
    pub fn door(&self, door: Door) -> SocketAddr {
        match door {
            Door::Tcp => self.comet.tcp_addrs()[0],
            Door::WebSocket => self.comet.http_addrs()[0],
        }
    }

    /// Connects and logs in.
    pub async fn login(&self, door: Door, token: &Token) -> Client {
        let mut client = Client::open(self.door(door), door, None).await;
        client.auth(token).await;
        client
    }
}

/// The default configuration, on free ports, with online counts that travel at once and time limits that a busy machine keeps.
pub fn config() -> Config {
    let mut config = Config::default();
    let any = || "127.0.0.1:0".to_owned();
    config.comet.tcp.bind = vec![any()];
    config.comet.websocket.bind = vec![any()];
    config.comet.rpc_server.addr = any();
    config.comet.monitor.addrs = vec![any()];
    config.comet.logic.renew = Human::millis(50);
    config.comet.rpc_client.timeout = Human::secs(60);
    config.comet.protocol.handshake_timeout = Human::secs(60);
    config.comet.protocol.close_timeout = Human::secs(60);
    config.logic.rpc_server.addr = any();
    config.logic.rpc_server.timeout = Human::secs(60);
    config.logic.rpc_client.timeout = Human::secs(60);
    config.logic.http_server.addr = any();
    config.logic.monitor.addrs = vec![any()];
    config
}

/// Makes backlogs so large that nothing is dropped, and pushes wait for as long as they must.
pub fn without_bounds(config: &mut Config) {
    config.comet.protocol.svr_proto = 1 << 20;
    config.comet.protocol.svr_bytes = 1 << 30;
    config.comet.push.wait = Human::secs(60);
}
