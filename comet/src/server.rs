//! One comet: everything bound, started, and ended in order.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::http::HeaderMap;
use anyhow::Context as _;
use axum::Router;
use common::{
    bearer::Credential,
    listen::{self, ListenOptions},
    monitor::{Monitor, Monitoring},
    mutual::Dialer,
    readiness::{Latch, Readiness},
};
use futures_util::FutureExt as _;
use prometheus_client::registry::Registry;
use protocol::grpc::goim::logic::CometInfo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    certificates::{self, Acceptors},
    config::Config,
    connection::{self, subscription::Subscriptions},
    drain::Ending,
    gateway::Gateway,
    grpc::{self, Gate},
    logic::{Logic, renew::Renewal},
    metrics::Metrics,
    monitor,
    push::Pusher,
    transport::{
        Door,
        flash::Flash,
        http::{self, subscribe::Subscribe},
        tls::Acceptor,
    },
    whitelist::Whitelist,
};

/// A running comet.
#[derive(Debug)]
pub struct Comet {
    tcp_addrs: Vec<SocketAddr>,
    http_addrs: Vec<SocketAddr>,
    tcp_tls_addrs: Vec<SocketAddr>,
    https_addrs: Vec<SocketAddr>,
    flash_addrs: Vec<SocketAddr>,
    grpc_addr: SocketAddr,
    gateway: Arc<Gateway>,
    readiness: Readiness,
    monitoring: Monitoring,
    connections: TaskTracker,
    sessions: TaskTracker,
    ending: Option<JoinHandle<()>>,
}

impl Comet {
    /// Binds everything and serves until the drain that `shutdown` begins, or a call, has ended. `pages` is what the HTTP door
    /// serves beside `/sub`; the monitor shows what `registry` has already beside this comet's own. Logic need not be there.
    ///
    /// An error names the listener that cannot be bound.
    pub async fn start(
        config: &Config,
        pages: Router,
        mut registry: Registry,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let options = listen_options(config, config.gone_after());
        let http_options = listen_options(config, config.http_gone_after());
        let tcp = bind_all("tcp.bind", &config.tcp.bind, &options)?;
        let http = bind_all("websocket.bind", &config.websocket.bind, &http_options)?;
        let tcp_tls = bind_all("tcp.tlsBind", &config.tcp.tls_bind, &options)?;
        let https = bind_https(config, &http_options)?;
        let flash = bind_all("flash.policyBind", flash_binds(config), &options)?;
        let grpc = bind_grpc(config)?;
        let grpc_addr = grpc.local_addr().context("rpcServer.addr")?;
        let monitor = Monitor::bind(&config.monitor)?;

        let metrics = Arc::new(Metrics::register(&mut registry));
        let over = CancellationToken::new();
        let acceptors = certificates::start(config, &metrics, &over)?;
        let whitelist =
            Whitelist::open(&config.whitelist, &metrics).context("whitelist.whiteLog")?;
        let gate = Gate::open(&config.rpc_server, &metrics)?;
        let dialer = Dialer::configured(&config.rpc_client.tls).context("rpcClient.tls")?;
        let to_logic = dialer.clone();
        metrics.certificates.add(move || to_logic.shown());
        let credential = Credential::configured(&config.rpc_client.token_file);
        let credential = credential.context("rpcClient.tokenFile")?;
        let readiness = Readiness::default();
        let logic_answers = readiness.latch("logic");
        let server = server_name(config)?;
        let epoch = epoch();
        let logic = Logic::start(
            config,
            server.clone(),
            epoch,
            credential,
            dialer,
            Arc::clone(&metrics),
            over.clone(),
        );
        let gateway = Gateway::start(config, logic, metrics, whitelist, &shutdown);
        let gateway = Arc::new(gateway);
        let pusher = Arc::new(Pusher::new(Arc::clone(&gateway), config.push.clone()));
        let (server_config, stop) = (&config.rpc_server, over.clone());
        grpc::serve(grpc, gate, pusher, &readiness, server_config, stop).await?;
        monitor::register(&mut registry, &gateway);
        let stop = over.clone();
        let monitoring = monitor.serve(registry, readiness.clone(), "comet", stop)?;

        let mut comet = Self {
            tcp_addrs: local_addrs(&tcp)?,
            http_addrs: local_addrs(&http)?,
            tcp_tls_addrs: local_addrs(&tcp_tls)?,
            https_addrs: local_addrs(&https)?,
            flash_addrs: local_addrs(&flash)?,
            grpc_addr,
            gateway,
            readiness,
            monitoring,
            connections: TaskTracker::new(),
            sessions: TaskTracker::new(),
            ending: None,
        };
        let info = comet_info(config, &server, epoch, grpc_addr);
        let door = comet.http_door(config, pages)?;
        comet.spawn_tcp(tcp, None);
        comet.spawn_http(http, None, &door);
        if let Some(Acceptors { tcp, http }) = acceptors {
            comet.spawn_tcp(tcp_tls, Some(&tcp));
            comet.spawn_http(https, Some(&http), &door);
        }
        comet.spawn_flash(flash, config);
        comet.spawn_ending(config, info, logic_answers, over);
        Ok(comet)
    }

    /// Where the TCP door listens.
    pub fn tcp_addrs(&self) -> &[SocketAddr] {
        &self.tcp_addrs
    }

    /// Where the HTTP door listens.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http_addrs
    }

    /// Where the TCP door behind TLS listens.
    pub fn tcp_tls_addrs(&self) -> &[SocketAddr] {
        &self.tcp_tls_addrs
    }

    /// Where the HTTP door behind TLS listens.
    pub fn https_addrs(&self) -> &[SocketAddr] {
        &self.https_addrs
    }

    /// Where the policy server of Flash listens.
    pub fn flash_addrs(&self) -> &[SocketAddr] {
        &self.flash_addrs
    }

    /// Where the push service listens.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where the monitor listens.
    pub fn monitor_addrs(&self) -> &[SocketAddr] {
        self.monitoring.addrs()
    }

    /// Whether it is ready to serve, and why not.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Its counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.gateway.metrics
    }

    /// Whose steps it notes.
    pub fn whitelist(&self) -> &Arc<Whitelist> {
        &self.gateway.channels.whitelist
    }

    /// Waits until it has ended: see [`crate::drain`].
    pub async fn join(self) {
        if let Some(ending) = self.ending
            && let Err(error) = ending.await
        {
            tracing::error!(%error, "the end is not in order");
        }
    }

    /// Starts what tells logic of this comet, and what ends it.
    fn spawn_ending(
        &mut self,
        config: &Config,
        info: CometInfo,
        latch: Latch,
        over: CancellationToken,
    ) {
        let leaving = CancellationToken::new();
        let renewal = Renewal {
            gateway: Arc::clone(&self.gateway),
            info,
            latch,
            leaving: leaving.clone(),
        };
        let serves = self.readiness.latch("drain");
        serves.ready();
        let ending = Ending {
            gateway: Arc::clone(&self.gateway),
            config: config.drain.clone(),
            addresses: config.env.addrs.clone(),
            latch: serves,
            connections: self.connections.clone(),
            sessions: self.sessions.clone(),
            leaving,
            renewal: tokio::spawn(renewal.run(config.logic.renew.get())),
            over,
        };
        self.ending = Some(tokio::spawn(ending.run()));
    }

    fn spawn_tcp(&self, listeners: Vec<TcpListener>, tls: Option<&Acceptor>) {
        for listener in listeners {
            let door = tls.map_or(Door::Tcp, |_| Door::TcpTls);
            let (gateway, tls) = (Arc::clone(&self.gateway), tls.cloned());
            self.spawn_accepts(listener, door.label(), move |stream, client| {
                connection::serve_tcp(Arc::clone(&gateway), tls.clone(), stream, client)
            });
        }
    }

    fn http_door(&self, config: &Config, pages: Router) -> anyhow::Result<Arc<http::Door>> {
        let origins = http::origins::Origins::parse(&config.websocket.origins);
        let metrics = Arc::clone(&self.gateway.metrics);
        let gateway = Arc::clone(&self.gateway);
        Ok(Arc::new(http::Door {
            pages,
            admit: Arc::new(move |headers: &HeaderMap, client| gateway.admit(headers, client)),
            subscribe: self.subscribe(config),
            limits: http::HttpLimits {
                max_head: config.websocket.max_head,
                max_headers: config.websocket.max_headers,
                idle: config.websocket.idle.get(),
                linger: config.protocol.close_timeout.get(),
            },
            origins: origins.context("websocket.origins")?,
            shutdown: self.gateway.doors.clone(),
            on_refused: Arc::new(move |refusal| {
                metrics.http_refusals(refusal.label()).inc();
            }),
        }))
    }

    fn spawn_http(
        &self,
        listeners: Vec<TcpListener>,
        tls: Option<&Acceptor>,
        door: &Arc<http::Door>,
    ) {
        for listener in listeners {
            let label = tls.map_or(Door::WebSocket, |_| Door::Wss).label();
            let (gateway, tls) = (Arc::clone(&self.gateway), tls.cloned());
            let http = Arc::clone(door);
            self.spawn_accepts(listener, label, move |stream, client| {
                let (gateway, http) = (Arc::clone(&gateway), Arc::clone(&http));
                connection::serve_http(gateway, tls.clone(), http, stream, client)
            });
        }
    }

    /// Who answers long-poll and Server-Sent Events, where they are configured.
    fn subscribe(&self, config: &Config) -> Option<Subscribe> {
        let limits = config.subscription.clone();
        if !limits.open {
            return None;
        }
        let (gateway, tasks) = (Arc::clone(&self.gateway), self.sessions.clone());
        let subscriptions = Arc::new(Subscriptions::new(gateway, limits, tasks));
        Some(Arc::new(move |request, client| {
            Arc::clone(&subscriptions).serve(request, client).boxed()
        }))
    }

    fn spawn_flash(&self, listeners: Vec<TcpListener>, config: &Config) {
        let timeout = config.protocol.handshake_timeout.get();
        let flash = Flash::new(config.flash.max_connections, timeout);
        for listener in listeners {
            let (flash, gateway) = (flash.clone(), Arc::clone(&self.gateway));
            self.spawn_accepts(listener, "flash", move |stream, client| {
                let serving = flash.serve(stream);
                let gateway = Arc::clone(&gateway);
                async move {
                    let served = gateway.doors.run_until_cancelled(serving).await;
                    let result = match served {
                        None => "going_away",
                        Some(Ok(())) => "told",
                        Some(Err(error)) => {
                            tracing::debug!(%client, %error, "no policy is told");
                            error.label()
                        }
                    };
                    gateway.metrics.flash_policies(result).inc();
                }
            });
        }
    }

    fn spawn_accepts<F>(
        &self,
        listener: TcpListener,
        door: &'static str,
        mut serve: impl FnMut(TcpStream, SocketAddr) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let connections = self.connections.clone();
        let metrics = Arc::clone(&self.gateway.metrics);
        let accepting = listen::accept_loop(
            listener,
            self.gateway.doors.clone(),
            move |error| {
                metrics.accept_errors().inc();
                tracing::warn!(door, %error, "accept fails");
            },
            move |stream, client| {
                connections.spawn(serve(stream, client));
            },
        );
        tokio::spawn(accepting);
    }
}

fn listen_options(config: &Config, gone_after: Duration) -> ListenOptions {
    let size = |bytes| (bytes > 0).then_some(bytes);
    ListenOptions {
        backlog: config.tcp.backlog,
        sndbuf: size(config.tcp.sndbuf),
        rcvbuf: size(config.tcp.rcvbuf),
        keepalive: config.tcp.keepalive,
        user_timeout: Some(gone_after),
    }
}

fn bind_all(
    key: &str,
    binds: &[String],
    options: &ListenOptions,
) -> anyhow::Result<Vec<TcpListener>> {
    let bind = |text: &String| {
        let addr = listen::parse_bind(text)?;
        anyhow::Ok(listen::bind(addr, options)?)
    };
    binds
        .iter()
        .map(|text| bind(text).with_context(|| format!("{key}: {text}")))
        .collect()
}

fn bind_https(config: &Config, options: &ListenOptions) -> anyhow::Result<Vec<TcpListener>> {
    let binds = &config.websocket.tls_bind;
    if config.websocket.tls_open {
        bind_all("websocket.tlsBind", binds, options)
    } else {
        Ok(Vec::new())
    }
}

fn flash_binds(config: &Config) -> &[String] {
    if config.flash.policy_open {
        &config.flash.policy_bind
    } else {
        &[]
    }
}

fn bind_grpc(config: &Config) -> anyhow::Result<TcpListener> {
    let addr = listen::parse_bind(&config.rpc_server.addr).context("rpcServer.addr")?;
    let (addr, notice) = listen::guard(addr, config.rpc_server.callers());
    if let Some(notice) = notice {
        tracing::warn!("rpcServer.addr: {notice}");
    }
    listen::bind(addr, &ListenOptions::default()).context("rpcServer.addr")
}

fn local_addrs(listeners: &[TcpListener]) -> anyhow::Result<Vec<SocketAddr>> {
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?))
        .collect()
}

/// The name under which logic stores this comet's sessions.
fn server_name(config: &Config) -> anyhow::Result<String> {
    if !config.env.host.is_empty() {
        return Ok(config.env.host.clone());
    }
    let name = host_name().context("env.host is empty and the host's name cannot be read")?;
    Ok(name)
}

fn host_name() -> anyhow::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?
        .trim()
        .to_owned())
}

/// Microseconds since 1970: later for every start, however quick the restart.
fn epoch() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn comet_info(config: &Config, server: &str, epoch: u64, grpc_addr: SocketAddr) -> CometInfo {
    let env = &config.env;
    let grpc_address = match env.grpc_address.as_str() {
        "" if grpc_addr.ip().is_unspecified() => format!("{server}:{}", grpc_addr.port()),
        "" => grpc_addr.to_string(),
        address => address.to_owned(),
    };
    CometInfo {
        epoch,
        grpc_address,
        addresses: env.addrs.clone(),
        region: env.region.clone(),
        zone: env.zone.clone(),
        env: env.deploy_env.clone(),
        hostname: server.to_owned(),
        weight: env.weight,
        offline: env.offline,
        connections: 0,
        client_addresses: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leaving: false,
    }
}
