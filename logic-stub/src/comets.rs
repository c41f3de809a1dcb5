//! Which comets there are: those whose lease lives, and those of the configuration. Each has one gRPC channel, made when it
//! is first needed and gone with the comet.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use protocol::grpc::goim::{comet::comet_client::CometClient, logic::CometInfo};
use tonic::transport::{Channel, Endpoint};

use crate::{
    config::{self, RpcClient},
    sessions::{Lease, Sessions, StoreError},
};

/// Bytes of a stream and of a connection that may be under way, as goim's clients have it.
const WINDOW: u32 = 16 << 20;

/// All comets, as of the last refresh. Shared by all pushes.
#[derive(Debug)]
pub struct Comets {
    sessions: Store,
    client: RpcClient,
    fixed: Vec<(Arc<str>, Arc<CometInfo>)>,
    started: Instant,
    known: ArcSwap<Known>,
    /// One refresh at a time, so that an older answer of the store never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

/// The comets by name.
pub type Known = BTreeMap<Arc<str>, Arc<Comet>>;

/// A store that tells no one what is in it.
struct Store(Arc<dyn Sessions>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

/// A comet that pushes can be sent to.
#[derive(Debug)]
pub struct Comet {
    /// The name under which it calls logic.
    pub name: Arc<str>,
    /// What is known of it.
    pub info: Arc<CometInfo>,
    /// When it last said so; for comets of the configuration, when this process started.
    pub renewed: Instant,
    /// Its service; none when its address is none.
    pub(crate) client: Option<CometClient<Channel>>,
}

impl Comet {
    /// Its host name: what it says, else the name under which it calls.
    pub fn hostname(&self) -> &str {
        if self.info.hostname.is_empty() {
            &self.name
        } else {
            &self.info.hostname
        }
    }
}

impl Comets {
    /// The comets of the configuration; the others are found by [`Comets::refresh`]. Must be called in a tokio runtime.
    pub fn new(sessions: Arc<dyn Sessions>, comets: &config::Comets, client: RpcClient) -> Self {
        let fixed = comets
            .fixed
            .iter()
            .map(|comet| (comet.server.as_str().into(), Arc::new(info(comet))));
        let comets = Self {
            sessions: Store(sessions),
            client,
            fixed: fixed.collect(),
            started: Instant::now(),
            known: ArcSwap::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        comets.put(Vec::new());
        comets
    }

    /// The comets as of the last refresh.
    pub fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Asks the store which leases live.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one = self.refreshing.lock().await;
        let leases = self.sessions.0.leases().await?;
        self.put(leases);
        Ok(())
    }

    /// A lease wins over the configuration: the comet itself knows best.
    fn put(&self, leases: Vec<Lease>) {
        let before = self.known.load();
        let fixed = self
            .fixed
            .iter()
            .map(|(name, info)| (Arc::clone(name), Arc::clone(info), self.started));
        let registered = leases
            .into_iter()
            .map(|lease| (lease.server, lease.info, lease.renewed));
        let mut known = Known::new();
        for (name, info, renewed) in fixed.chain(registered) {
            let client = match before.get(&name) {
                Some(old)
                    if old.info.grpc_address == info.grpc_address
                        && old.info.epoch == info.epoch =>
                {
                    old.client.clone()
                }
                _ => self.connect(&name, &info.grpc_address),
            };
            let comet = Comet {
                name: Arc::clone(&name),
                info,
                renewed,
                client,
            };
            known.insert(name, Arc::new(comet));
        }
        self.known.store(Arc::new(known));
    }

    fn connect(&self, name: &str, address: &str) -> Option<CometClient<Channel>> {
        let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
            Ok(endpoint) if !address.is_empty() => endpoint,
            Ok(_) | Err(_) => {
                tracing::warn!(
                    comet = name,
                    address,
                    "a comet's gRPC address is none: no push can reach it"
                );
                return None;
            }
        };
        let channel = endpoint
            .connect_timeout(self.client.dial.get())
            .http2_keep_alive_interval(self.client.keep_alive_interval.get())
            .keep_alive_timeout(self.client.keep_alive_timeout.get())
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .connect_lazy();
        let max = self.client.max_message;
        Some(
            CometClient::new(channel)
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
        )
    }
}

fn info(comet: &config::FixedComet) -> CometInfo {
    CometInfo {
        grpc_address: comet.grpc_address.clone(),
        addresses: comet.addrs.clone(),
        region: comet.region.clone(),
        zone: comet.zone.clone(),
        env: comet.env.clone(),
        hostname: comet.server.clone(),
        weight: comet.weight,
        offline: comet.offline,
        ..CometInfo::default()
    }
}

#[cfg(test)]
impl Comet {
    pub(crate) fn for_test(name: &str, info: CometInfo) -> Self {
        Self {
            name: name.into(),
            info: Arc::new(info),
            renewed: Instant::now(),
            client: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::Clock,
        config::FixedComet,
        sessions::{MemorySessions, memory::Limits},
    };

    fn limits() -> Limits {
        Limits {
            expire: Duration::from_secs(1),
            lease: Duration::from_secs(1),
            max_sessions: 1,
            max_comets: 9,
        }
    }

    #[tokio::test]
    async fn leases_join_the_configured_and_win_over_them() {
        let store = Arc::new(MemorySessions::new(limits(), Clock::system()));
        let fixed = FixedComet {
            server: "a".into(),
            grpc_address: "1.1.1.1:1".into(),
            ..FixedComet::default()
        };
        let config = config::Comets {
            fixed: vec![fixed],
            ..config::Comets::default()
        };
        let comets = Comets::new(
            Arc::clone(&store) as Arc<dyn Sessions>,
            &config,
            RpcClient::default(),
        );
        assert_eq!(
            comets.known().keys().map(AsRef::as_ref).collect::<Vec<_>>(),
            ["a"]
        );

        let lease = |address: &str| CometInfo {
            grpc_address: address.to_owned(),
            epoch: 1,
            ..CometInfo::default()
        };
        store.renew_lease("a", lease("2.2.2.2:2")).await.unwrap();
        store.renew_lease("b", lease("no address")).await.unwrap();
        comets.refresh().await.unwrap();
        let known = comets.known();
        assert_eq!(known["a"].info.grpc_address, "2.2.2.2:2");
        assert!(known["a"].client.is_some());
        assert!(known["b"].client.is_none());
    }
}
