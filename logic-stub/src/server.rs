//! A running logic-stub: its listeners and tasks. `stores`: where it keeps sessions and pushes.

mod stores;

use std::{fmt, io, net::SocketAddr, sync::Arc};

use axum::Router;
use common::{
    listen::{self, BindAddressError, Callers, ListenOptions},
    monitor::{Monitor, MonitorError, Monitoring},
    readiness::{Latch, Readiness},
    serve::{ServeLimits, serve},
    watched::WatchError,
};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, AccessError},
    business::{Business, GoimBusiness},
    clock::Clock,
    config::Config,
    grpc, http,
    logic::Logic,
    metrics::Metrics,
    monitor,
    queue::{Queue, Readers},
    sessions::{Sessions, StoreError, redis::PlaceError},
};

/// What the log says where nothing checks the tokens of clients.
const OPEN: &str = "client tokens are believed as they stand (auth.mode = \"open\"): whoever reaches a comet can be any user. That is \
                    for development; auth.mode = \"jwt\" checks them";

/// A logic-stub that has bound its addresses and serves until its shutdown token is cancelled.
#[derive(Debug)]
pub struct LogicStub {
    logic: Arc<Logic>,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    readiness: Readiness,
    monitoring: Monitoring,
    serving: JoinHandle<()>,
}

/// Why a logic-stub did not start; the operator is at fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address of the configuration is none.
    #[error("{key}: {error}")]
    Address {
        /// Whose it is.
        key: String,
        /// Why it is none.
        error: BindAddressError,
    },
    /// An address cannot be listened on.
    #[error("{key}: {error}")]
    Bind {
        /// Whose it is.
        key: String,
        /// What the system said.
        error: io::Error,
    },
    /// The monitor's address is none, or cannot be listened on.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A file of tokens cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The configuration's Redis is none.
    #[error("redis: {0}")]
    Place(#[from] PlaceError),
    /// A file that TLS to Redis needs cannot be used.
    #[error("redis: {0}")]
    RedisFile(#[from] WatchError),
    /// There is no way to the configuration's Redis. That it does not answer does not end the start.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a logic-stub is made of.
pub struct Builder {
    config: Config,
    clock: Clock,
    business: Option<Arc<dyn Business>>,
    sessions: Option<Arc<dyn Sessions>>,
    queue: Option<Arc<dyn Queue>>,
    registry: Registry,
    routes: Router,
}

impl LogicStub {
    /// Binds both addresses, keeps sessions where the configuration says, and serves until `shutdown` is cancelled.
    pub fn start(config: Config, shutdown: CancellationToken) -> Result<Self, StartError> {
        Self::builder(config).start(shutdown)
    }

    /// A logic-stub that differs from [`LogicStub::start`]'s.
    pub fn builder(config: Config) -> Builder {
        Builder {
            config,
            clock: Clock::system(),
            business: None,
            sessions: None,
            queue: None,
            registry: Registry::default(),
            routes: Router::new(),
        }
    }

    /// Where comets call.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where pushers call.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where the monitor listens.
    pub fn monitor_addrs(&self) -> &[SocketAddr] {
        self.monitoring.addrs()
    }

    /// goim's HTTP API, to be mounted beside other routes. It asks for a token where the configuration has tokens for it,
    /// answers 405 itself and leaves 404 to the whole.
    pub fn http_router(&self) -> Router {
        http::for_bearers(http::routes(Arc::clone(&self.logic)), &self.logic)
    }

    /// Whether it is ready to serve, and why not: it is while its store answers.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What the services share.
    pub fn logic(&self) -> &Arc<Logic> {
        &self.logic
    }

    /// Waits until the token was cancelled and the calls under way have ended, at most `shutdown.grace` later.
    pub async fn join(self) {
        let Self {
            serving,
            monitoring,
            ..
        } = self;
        if let Err(error) = serving.await {
            tracing::error!(%error, "logic-stub ended in the middle");
        }
        drop(monitoring);
    }
}

impl Builder {
    /// What a product decides for itself; without it, goim's behaviour.
    #[must_use]
    pub fn business(mut self, business: Arc<dyn Business>) -> Self {
        self.business = Some(business);
        self
    }

    /// The store of sessions; without it, the configuration's.
    #[must_use]
    pub fn sessions(mut self, sessions: Arc<dyn Sessions>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Where pushes are stored; without it, where the configuration says, if anywhere.
    #[must_use]
    pub fn queue(mut self, queue: Arc<dyn Queue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// What the monitor shows beside logic-stub's own; without it, nothing.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// By what the store goes; without it, the machine's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Other routes for the HTTP address, such as a page, for those who may call the API. They must not have a fallback.
    #[must_use]
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = routes;
        self
    }

    /// Binds both addresses and serves until `shutdown` is cancelled. Must be called in a tokio runtime.
    pub fn start(self, shutdown: CancellationToken) -> Result<LogicStub, StartError> {
        let Self {
            config,
            clock,
            business,
            sessions,
            queue,
            mut registry,
            routes,
        } = self;
        let listening = Listening::open(&config)?;
        let metrics = Arc::new(Metrics::register(&mut registry));
        let ends = &metrics.certificates;
        let (sessions, queue) = stores::open(&config, clock, sessions, queue, ends, &shutdown)?;
        let access = Access::open(&config)?;
        access.show(&metrics.certificates);
        let business = business.unwrap_or_else(|| goims_business(&access));
        let logic = Logic::new(config, access, sessions, queue, business, metrics);
        let logic = Arc::new(logic);
        monitor::register(&mut registry, &logic);
        listening.serve(logic, registry, routes, shutdown)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The addresses of a logic-stub, bound and not served yet.
struct Listening {
    grpc: (TcpListener, SocketAddr),
    http: (TcpListener, SocketAddr),
    monitor: Monitor,
}

impl Listening {
    fn open(config: &Config) -> Result<Self, StartError> {
        let server = &config.rpc_server;
        let grpc = bind("rpcServer", &server.addr, server.callers())?;
        let server = &config.http_server;
        let http = bind("httpServer", &server.addr, server.callers())?;
        warn_of_open_tokens(config, http.1);
        let monitor = Monitor::bind(&config.monitor)?;
        Ok(Self {
            grpc,
            http,
            monitor,
        })
    }

    /// Starts all tasks of `logic`; `routes` are served beside the push API.
    fn serve(
        self,
        logic: Arc<Logic>,
        registry: Registry,
        routes: Router,
        shutdown: CancellationToken,
    ) -> Result<LogicStub, StartError> {
        let readiness = Readiness::default();
        let store_answers = readiness.latch("store");
        let (shown, stop) = (readiness.clone(), shutdown.clone());
        let monitoring = self.monitor.serve(registry, shown, "logic-stub", stop);
        let monitoring = monitoring.map_err(MonitorError::Bind)?;
        tokio::spawn(refresh(Arc::clone(&logic), store_answers, shutdown.clone()));
        let (grpc_listener, grpc_addr) = self.grpc;
        let (http_listener, http_addr) = self.http;
        let api = http::router(Arc::clone(&logic)).merge(routes);
        let serving = Serving {
            readers: readers(&logic, &readiness),
            router: http::guarded(api, &logic),
            logic: Arc::clone(&logic),
            grpc_listener,
            http_listener,
            readiness: readiness.clone(),
        };
        Ok(LogicStub {
            logic,
            grpc_addr,
            http_addr,
            readiness,
            monitoring,
            serving: tokio::spawn(serving.run(shutdown)),
        })
    }
}

struct Serving {
    logic: Arc<Logic>,
    grpc_listener: TcpListener,
    http_listener: TcpListener,
    router: Router,
    readiness: Readiness,
    /// Of the queue, if there is one.
    readers: Option<Readers>,
}

impl Serving {
    async fn run(self, shutdown: CancellationToken) {
        let Self {
            logic,
            grpc_listener,
            http_listener,
            router,
            readiness,
            readers,
        } = self;
        let config = &logic.config;
        let grace = config.shutdown.grace.get();
        let server = &config.http_server;
        let limits = ServeLimits {
            connections: server.max_connections,
            head: server.max_head,
            read: server.read_timeout.get(),
            write: server.write_timeout.get(),
        };
        let pushers = serve(http_listener, router, "push API", limits, shutdown.clone());
        let comets = async {
            let logic = Arc::clone(&logic);
            let stop = shutdown.clone();
            if let Err(error) = grpc::serve(grpc_listener, logic, &readiness, stop).await {
                tracing::error!(%error, "the gRPC service ended: stopping");
                shutdown.cancel();
            }
        };
        let all = async {
            tokio::join!(pushers, comets);
            if let Some(readers) = &readers {
                readers.stop().await;
            }
            logic.comets.idle().await;
        };
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = all => {}
            () = late => tracing::warn!(?grace, "stopped with calls or messages under way"),
        }
        logic.later.stop();
        logic.comets.close();
    }
}

fn bind(
    section: &str,
    addr: &str,
    callers: Callers,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let key = format!("{section}.addr");
    let addr = match listen::parse_bind(addr) {
        Ok(addr) => addr,
        Err(error) => return Err(StartError::Address { key, error }),
    };
    let (addr, warning) = listen::guard(addr, callers);
    if let Some(warning) = warning {
        tracing::warn!("{key}: {warning}");
    }
    let bound = listen::bind(addr, &ListenOptions::default());
    bound
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map(|(addr, listener)| (listener, addr))
        .map_err(|error| StartError::Bind { key, error })
}

/// goim's behaviour, with a warning where nothing else checks the tokens of clients.
fn goims_business(access: &Access) -> Arc<dyn Business> {
    if access.clients.is_none() {
        tracing::warn!("{OPEN}");
    }
    Arc::new(GoimBusiness)
}

/// Begins to read the queue, if there is one.
fn readers(logic: &Logic, readiness: &Readiness) -> Option<Readers> {
    let queue = Arc::clone(logic.queue.as_ref()?.queue());
    let (pusher, comets) = (Arc::clone(&logic.pusher), Arc::clone(&logic.comets));
    let metrics = Arc::clone(&logic.metrics);
    let bounds = logic.config.queue_limits();
    metrics.queue.max_streams.set(queue.streams().into());
    let entries = i64::try_from(bounds.messages).unwrap_or(i64::MAX);
    metrics.queue.max_entries.set(entries);
    Some(Readers::start(
        queue,
        pusher,
        comets,
        metrics,
        readiness.latch("queue"),
        &logic.config,
    ))
}

/// The push API has no TLS of its own.
fn warn_of_open_tokens(config: &Config, addr: SocketAddr) {
    if !config.http_server.token_file.is_empty() && !addr.ip().to_canonical().is_loopback() {
        tracing::warn!(%addr, "httpServer: tokens come in the clear here; let a proxy with TLS stand before it");
    }
}

async fn refresh(logic: Arc<Logic>, store_answers: Latch, shutdown: CancellationToken) {
    let every = logic.config.comets.refresh.get();
    let mut seen = true;
    loop {
        let refreshed = logic.comets.refresh().await;
        match &refreshed {
            Err(error) if seen => tracing::warn!(%error, "cannot see which comets live"),
            Ok(()) if !seen => tracing::info!("which comets live can be seen again"),
            Ok(()) | Err(_) => {}
        }
        seen = refreshed.is_ok();
        match refreshed {
            Ok(()) => store_answers.ready(),
            Err(error) => store_answers.not_ready(error.to_string()),
        }
        if shutdown
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_none()
        {
            return;
        }
    }
}
