//! Where logic is: listed addresses, and what DNS has for the names among them. An address that has not answered is left for
//! last, but for one call now and then that finds out whether it does again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use common::mutual::Dialer;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config;

/// goim's clients ping an idle connection this often ...
const KEEPALIVE: Duration = Duration::from_secs(10);
/// ... and give it up when no answer comes for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an address that did not answer is left for last. Of the calls that come then, one in this time waits for it.
const AVOIDED: Duration = Duration::from_secs(2);

/// How connections are made.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    pub(super) dialer: Dialer,
    /// How long one may take.
    pub(super) patience: Duration,
}

/// All addresses of logic, each with a connection that is made when it is needed.
#[derive(Debug)]
pub(super) struct Targets {
    known: Arc<ArcSwap<Vec<Target>>>,
    next: AtomicUsize,
    /// Cancelled when all names have been looked up once.
    looked_up: CancellationToken,
}

/// One address.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) channel: Channel,
    /// If it did not answer, when it may be tried again.
    avoided: Arc<Mutex<Option<Instant>>>,
}

impl Targets {
    /// Looks the addresses up now and again and again, until `shutdown`.
    pub(super) fn start(config: &config::Logic, dial: &Dial, shutdown: CancellationToken) -> Self {
        let mut addresses = BTreeMap::new();
        for address in config.addresses.iter().filter_map(|text| text.parse().ok()) {
            dial.insert(&mut addresses, address);
        }
        let known = Arc::new(ArcSwap::from_pointee(addresses.values().cloned().collect()));
        let names = config
            .addresses
            .iter()
            .filter(|text| text.parse::<SocketAddr>().is_err());
        let names: Vec<String> = names.cloned().collect();
        let looked_up = CancellationToken::new();
        if names.is_empty() {
            looked_up.cancel();
        } else {
            let (known, period) = (Arc::clone(&known), config.resolve.get());
            let names = names.into_iter().map(|name| Name::new(name, dial));
            let resolving = resolve(names.collect(), addresses, known, period, looked_up.clone());
            tokio::spawn(shutdown.run_until_cancelled_owned(resolving));
        }
        Self {
            known,
            next: AtomicUsize::new(0),
            looked_up,
        }
    }

    /// Waits until all names have been looked up once.
    pub(super) async fn looked_up(&self) {
        self.looked_up.cancelled().await;
    }

    /// Each address once, beginning with another every time. Those that did not answer come last.
    pub(super) fn in_turn(&self) -> Vec<Target> {
        let known = self.known.load();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = (0..known.len()).map(|step| &known[start.wrapping_add(step) % known.len()]);
        let (mut turn, avoided): (Vec<Target>, Vec<Target>) =
            turn.cloned().partition(Target::may_be_first);
        turn.extend(avoided);
        turn
    }
}

impl Target {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            avoided: Arc::default(),
        }
    }

    /// Notes whether it answered.
    pub(super) fn note(&self, answered: bool) {
        *self.avoided.lock() = (!answered).then(|| Instant::now() + AVOIDED);
    }

    /// Whether it need not be left for last; once in a while that is so for one that did not answer.
    fn may_be_first(&self) -> bool {
        let mut avoided = self.avoided.lock();
        let now = Instant::now();
        let may = avoided.is_none_or(|until| until <= now);
        if may && avoided.is_some() {
            *avoided = Some(now + AVOIDED);
        }
        may
    }
}

/// A name among the addresses.
struct Name {
    /// With its port.
    address: String,
    /// Makes connections for this name.
    dial: Dial,
    /// What it had last.
    found: BTreeMap<SocketAddr, Target>,
}

impl Name {
    fn new(address: String, dial: &Dial) -> Self {
        let host = address
            .rsplit_once(':')
            .map_or(address.as_str(), |(host, _)| host);
        let dialer = dial.dialer.to_host(host);
        Self {
            dial: Dial {
                dialer,
                patience: dial.patience,
            },
            address,
            found: BTreeMap::new(),
        }
    }

    /// Looks it up. An address that it no longer has is given up; if it cannot be looked up it keeps its last.
    async fn look_up(&mut self) {
        match tokio::net::lookup_host(&self.address).await {
            Ok(found) => {
                let mut new = BTreeMap::new();
                for address in found {
                    match self.found.remove(&address) {
                        Some(target) => drop(new.insert(address, target)),
                        None => self.dial.insert(&mut new, address),
                    }
                }
                self.found = new;
            }
            Err(error) => {
                tracing::warn!(name = %self.address, %error, "logic's name cannot be looked up");
            }
        }
    }
}

/// Looks names up for ever.
async fn resolve(
    mut names: Vec<Name>,
    fixed: BTreeMap<SocketAddr, Target>,
    known: Arc<ArcSwap<Vec<Target>>>,
    period: Duration,
    looked_up: CancellationToken,
) {
    loop {
        for name in &mut names {
            name.look_up().await;
        }
        let mut all = fixed.clone();
        let found = names.iter().flat_map(|name| &name.found);
        all.extend(found.map(|(address, target)| (*address, target.clone())));
        known.store(Arc::new(all.into_values().collect()));
        looked_up.cancel();
        let patience = if known.load().is_empty() {
            period.min(Duration::from_secs(1))
        } else {
            period
        };
        tokio::time::sleep(patience).await;
    }
}

impl Dial {
    fn insert(&self, addresses: &mut BTreeMap<SocketAddr, Target>, address: SocketAddr) {
        match self.dialer.endpoint(address) {
            Ok(endpoint) => {
                let endpoint = endpoint
                    .connect_timeout(self.patience)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(KEEPALIVE)
                    .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                    .keep_alive_while_idle(true)
                    .initial_stream_window_size(16 << 20)
                    .initial_connection_window_size(16 << 20);
                let channel = self.dialer.connect_lazy(&endpoint);
                addresses.insert(address, Target::new(channel));
            }
            Err(error) => tracing::error!(%address, %error, "an address of logic makes no URL"),
        }
    }
}
