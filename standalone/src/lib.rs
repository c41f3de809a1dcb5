//! Comet and logic-stub in one process, over real loopback gRPC, with sessions in memory by default, and a page to try them.
//!
//! # Layout
//!
//! - [`Standalone`]: both services, started and ended
//! - [`config`]: both configurations, on loopback by default
//! - [`pages`]: what the HTTP door serves beside `/sub`

pub mod config;
pub mod pages;

use std::net::SocketAddr;

use anyhow::Context as _;
use comet::Comet;
use logic_stub::LogicStub;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub use self::config::Config;

/// Both services, running.
#[derive(Debug)]
pub struct Standalone {
    /// The gateway.
    pub comet: Comet,
    /// The logic.
    pub logic: LogicStub,
    /// Where to open the page, if there is an HTTP door.
    page: Option<SocketAddr>,
    shutdown_logic: CancellationToken,
}

impl Standalone {
    /// Binds everything and serves until `shutdown`.
    pub async fn start(mut config: Config, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let shutdown_logic = CancellationToken::new();
        let logic = LogicStub::start(config.logic, shutdown_logic.clone());
        let logic = logic.context("logic-stub")?;
        config.comet.logic.addresses = vec![logic.grpc_addr().to_string()];
        let pages = pages::router(&logic, config.page.allow_unauthenticated);
        let comet = Comet::start(&config.comet, pages, Registry::default(), shutdown).await;
        let comet = comet.context("comet")?;
        let page = comet.http_addrs().first().copied();
        Ok(Self {
            comet,
            logic,
            page,
            shutdown_logic,
        })
    }

    /// What a person should know after the start: addresses, how to push, what to open.
    pub fn welcome(&self) -> String {
        let list = |addrs: &[SocketAddr]| {
            addrs
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let in_redis = matches!(self.logic.logic().config.store_place(), Ok(Some(_)));
        let sessions = if in_redis { "Redis" } else { "memory" };
        let page = self.page.map_or(String::new(), |page| {
            format!(
                "Open this page and watch messages arrive:\n\n  http://{}/?auto=1\n\n",
                reachable(page)
            )
        });
        let secured = match (self.comet.tcp_tls_addrs(), self.comet.https_addrs()) {
            ([], []) => String::new(),
            (tcp, https) => format!(
                "  TLS        {} (TCP), {} (HTTPS)\n",
                list(tcp),
                list(https)
            ),
        };
        format!(
            "\nComet is up, with its sessions in {sessions}.\n\n  \
             TCP        {}\n  \
             HTTP       {} (WebSocket on /sub)\n\
             {secured}  \
             push API   {}\n  \
             gRPC       {} (comet), {} (logic)\n  \
             monitor    {} (comet), {} (logic)\n\n\
             {page}\
             Push to everyone in its room:\n\n  \
             curl -d 'hello' 'http://{}/goim/push/room?operation=1000&type=live&room=1000'\n",
            list(self.comet.tcp_addrs()),
            list(self.comet.http_addrs()),
            self.logic.http_addr(),
            self.comet.grpc_addr(),
            self.logic.grpc_addr(),
            list(self.comet.monitor_addrs()),
            list(self.logic.monitor_addrs()),
            reachable(self.logic.http_addr()),
        )
    }

    /// Waits for the shutdown and ends both in order: clients first, while logic still hears their goodbyes.
    pub async fn join(self) {
        self.comet.join().await;
        self.shutdown_logic.cancel();
        self.logic.join().await;
    }
}

/// Where a listener is reached from this machine: one on all interfaces by the name of the loopback interface.
fn reachable(addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() {
        format!("localhost:{}", addr.port())
    } else {
        addr.to_string()
    }
}
