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
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::config;

/// goim's clients ping an idle connection this often ...
const KEEPALIVE: Duration = Duration::from_secs(10);
/// ... and give it up when no answer comes for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an address that did not answer is left for last. Of the calls that come then, one in this time waits for it.
const AVOIDED: Duration = Duration::from_secs(2);

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
    pub(super) fn start(
        config: &config::Logic,
        dial: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        let mut addresses = BTreeMap::new();
        for address in config.addresses.iter().filter_map(|text| text.parse().ok()) {
            insert(&mut addresses, address, dial);
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
            let resolving = resolve(names, addresses, known, (period, dial), looked_up.clone());
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

/// Looks names up for ever. An address that a name no longer has is given up; a name that cannot be looked up keeps its last.
async fn resolve(
    names: Vec<String>,
    fixed: BTreeMap<SocketAddr, Target>,
    known: Arc<ArcSwap<Vec<Target>>>,
    (period, dial): (Duration, Duration),
    looked_up: CancellationToken,
) {
    let mut last: BTreeMap<String, BTreeMap<SocketAddr, Target>> = BTreeMap::new();
    loop {
        for name in &names {
            match tokio::net::lookup_host(name).await {
                Ok(found) => {
                    let old = last.entry(name.clone()).or_default();
                    let mut new = BTreeMap::new();
                    for address in found {
                        match old.remove(&address) {
                            Some(target) => drop(new.insert(address, target)),
                            None => insert(&mut new, address, dial),
                        }
                    }
                    *old = new;
                }
                Err(error) => tracing::warn!(%name, %error, "logic's name cannot be looked up"),
            }
        }
        let mut all = fixed.clone();
        all.extend(
            last.values()
                .flatten()
                .map(|(address, target)| (*address, target.clone())),
        );
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

fn insert(addresses: &mut BTreeMap<SocketAddr, Target>, address: SocketAddr, dial: Duration) {
    match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => {
            let channel = endpoint
                .connect_timeout(dial)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(16 << 20)
                .initial_connection_window_size(16 << 20)
                .connect_lazy();
            addresses.insert(address, Target::new(channel));
        }
        Err(error) => tracing::error!(%address, %error, "an address of logic makes no URL"),
    }
}
