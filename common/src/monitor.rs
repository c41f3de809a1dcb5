//! The monitor: one service's health, readiness and metrics over HTTP, on a port of its own.
//!
//! | Path | Answer |
//! | --- | --- |
//! | `/monitor/ping` | goim's: 200 with `ok`, or 500 with what is missing |
//! | `/healthz` | 200 while the process serves |
//! | `/readyz` | 200 while it is ready, or 503 and why not, a line for each reason |
//! | `/metrics` | All metrics, as Prometheus reads them |
//!
//! It asks nobody who they are, so it listens on loopback unless it is told otherwise.

mod config;
mod process;

use std::{fmt::Write as _, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::config::Config;
use self::process::Process;
use crate::{
    listen::{self, BindAddressError, Callers, ListenOptions},
    readiness::Readiness,
    same_site,
    serve::{MIN_HEAD, ServeLimits, serve},
    version,
};

/// What Prometheus takes this format by.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a monitor does not start; the operator is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// An address of the configuration is none.
    #[error("monitor.addrs: {0}")]
    Address(#[from] BindAddressError),
    /// An address cannot be listened on.
    #[error("monitor.addrs: {0}")]
    Bind(#[from] io::Error),
}

/// A monitor that has bound its addresses and does not answer yet.
#[derive(Debug)]
pub struct Monitor {
    listeners: Vec<TcpListener>,
    limits: ServeLimits,
    /// Whether everyone may ask, pages of other sites among them.
    is_public: bool,
}

/// A monitor that answers for as long as this lives.
#[derive(Debug)]
pub struct Monitoring {
    addrs: Vec<SocketAddr>,
    _serving: DropGuard,
}

/// What the answers are made of.
#[derive(Debug)]
struct Shown {
    registry: Registry,
    readiness: Readiness,
    /// Cancelled when the process begins to end.
    shutdown: CancellationToken,
}

impl Monitor {
    /// Binds the addresses of the configuration; none where the monitor is not open. Must be called in a tokio runtime.
    pub fn bind<const PORT: u16>(config: &Config<PORT>) -> Result<Self, MonitorError> {
        let addrs = config.addrs.iter().filter(|_| config.open);
        let bind = |addr: &String| {
            let addr = listen::parse_bind(addr)?;
            let callers = Callers::of(false, config.allow_unauthenticated);
            let (addr, notice) = listen::guard(addr, callers);
            if let Some(notice) = notice {
                tracing::warn!("monitor.addrs: {notice}");
            }
            Ok::<_, MonitorError>(listen::bind(addr, &ListenOptions::default())?)
        };
        Ok(Self {
            listeners: addrs.map(bind).collect::<Result<_, _>>()?,
            limits: ServeLimits {
                connections: config.max_connections,
                head: MIN_HEAD,
                read: config.timeout.get(),
                write: config.timeout.get(),
            },
            is_public: config.allow_unauthenticated,
        })
    }

    /// Answers with what `registry` has, and with the process's own metrics, until the value that it returns is dropped: a process
    /// that ends is still asked. From `shutdown` on it is not ready. `program` is the process's name in `comet_build`.
    pub fn serve(
        self,
        mut registry: Registry,
        readiness: Readiness,
        program: &'static str,
        shutdown: CancellationToken,
    ) -> io::Result<Monitoring> {
        let labels = [
            ("program", program),
            ("version", version::NUMBER),
            ("commit", version::commit().unwrap_or_default()),
        ];
        registry.register("comet_build", "What this process is", Info::new(labels));
        registry.register_collector(Box::new(Process::new()));
        let shown = Shown {
            registry,
            readiness,
            shutdown,
        };
        let router = router(Arc::new(shown), self.is_public);
        let end = CancellationToken::new();
        let mut addrs = Vec::new();
        for listener in self.listeners {
            addrs.push(listener.local_addr()?);
            let serving = serve(
                listener,
                router.clone(),
                "monitor",
                self.limits,
                end.clone(),
            );
            tokio::spawn(serving);
        }
        Ok(Monitoring {
            addrs,
            _serving: end.drop_guard(),
        })
    }
}

impl Monitoring {
    /// Where it listens.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

impl Shown {
    /// Why the process is not ready, a line for each reason; nothing if it is.
    fn reasons(&self) -> String {
        let mut reasons = self.readiness.report().err().unwrap_or_default();
        if self.shutdown.is_cancelled() {
            reasons.push(("shutdown".to_owned(), "this process ends".to_owned()));
        }
        let mut text = String::new();
        for (name, why) in reasons {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}: {why}");
        }
        text
    }
}

fn router(shown: Arc<Shown>, is_public: bool) -> Router {
    let router = Router::new()
        .route("/monitor/ping", get(ping))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    if is_public {
        router
    } else {
        router.route_layer(middleware::from_fn(from_this_machine))
    }
}

/// Refuses what pages of other sites make a browser on this machine ask.
async fn from_this_machine(request: Request, next: Next) -> Response {
    if same_site::is_from_here(request.headers()) {
        return next.run(request).await;
    }
    let text = "not shown to pages of other sites; monitor.allowUnauthenticated changes that\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

async fn ping(State(shown): State<Arc<Shown>>) -> Response {
    match shown.reasons() {
        reasons if reasons.is_empty() => "ok".into_response(),
        reasons => (StatusCode::INTERNAL_SERVER_ERROR, reasons).into_response(),
    }
}

async fn ready(State(shown): State<Arc<Shown>>) -> Response {
    match shown.reasons() {
        reasons if reasons.is_empty() => "ready\n".into_response(),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    // Counting open files may read a folder as large as the number of connections.
    let encoding = tokio::task::spawn_blocking(move || encode(&shown));
    match encoding.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        failed => {
            tracing::error!(?failed, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn encode(shown: &Shown) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, &shown.registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
