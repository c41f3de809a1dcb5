//! What the gRPC service and the HTTP API share.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use protocol::grpc::goim::logic::{Backoff, NodesReply};

use crate::{
    access::Access,
    business::Business,
    comets::Comets,
    config::Config,
    kick::{self, Kicker, later::Later},
    lanes::Lanes,
    metrics::Metrics,
    nodes::Balancer,
    push::Pusher,
    queue::{Queue, Stored},
    sessions::Sessions,
    whitelist::Whitelists,
};

/// goim's name for clients that connect from a browser: they get host names, for the sake of certificates.
const PLATFORM_WEB: &str = "web";

/// One logic-stub, without its sockets. Shared by all calls.
pub struct Logic {
    /// How it is configured.
    pub config: Config,
    /// Who may call, and what comets are shown.
    pub access: Access,
    /// Where clients are.
    pub sessions: Arc<dyn Sessions>,
    /// Which comets there are.
    pub comets: Arc<Comets>,
    /// The way of a push.
    pub pusher: Arc<Pusher>,
    /// Where pushes are stored before, if they are.
    pub queue: Option<Stored>,
    /// Kicks that someone asks for.
    pub kicker: Kicker,
    /// Connections that must go by themselves.
    pub later: Later,
    /// Whose steps the comets note.
    pub whitelists: Whitelists,
    /// What a product decides for itself.
    pub business: Arc<dyn Business>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    balancer: Balancer,
    /// The region of each province.
    regions: HashMap<String, String>,
}

impl Logic {
    /// Pushes are stored in `queue`, if there is one. Must be called in a tokio runtime.
    pub fn new(
        config: Config,
        access: Access,
        sessions: Arc<dyn Sessions>,
        queue: Option<Arc<dyn Queue>>,
        business: Arc<dyn Business>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lanes = lanes(&config, &access, queue.is_some(), &metrics);
        let comets = Arc::new(Comets::new(Arc::clone(&sessions), &config.comets, lanes));
        let limits = kick_limits(&config);
        let parts = || {
            let (sessions, comets) = (Arc::clone(&sessions), Arc::clone(&comets));
            (sessions, comets, Arc::clone(&metrics))
        };
        let (in_sessions, at_comets, counted) = parts();
        let pusher = Pusher::new(in_sessions, at_comets, limits.keys_per_call, counted);
        let (in_sessions, at_comets, counted) = parts();
        let kicker = Kicker::new(in_sessions, at_comets, counted, limits);
        let (in_sessions, at_comets, counted) = parts();
        let later = Later::start(in_sessions, at_comets, counted, &config, limits);
        let report_keys = config.lanes.report_keys;
        Self {
            pusher: Arc::new(pusher),
            queue: queue.map(|queue| Stored::new(queue, Arc::clone(&metrics), report_keys)),
            kicker,
            later,
            whitelists: Whitelists::new(Arc::clone(&comets), limits),
            balancer: Balancer::default(),
            regions: regions(&config),
            config,
            access,
            sessions,
            comets,
            business,
            metrics,
        }
    }

    /// Where a client of this platform and address should connect to.
    pub fn nodes(&self, platform: &str, client: Option<IpAddr>) -> NodesReply {
        let node = &self.config.node;
        let province = client.and_then(|address| self.business.province(address));
        let region = province.and_then(|province| self.regions.get(&province));
        let known = self.comets.known();
        let chosen = self.balancer.choose(
            known.values(),
            region.map(String::as_str),
            node.region_weight,
        );
        let mut nodes: Vec<String> = if platform == PLATFORM_WEB {
            let domain = &node.host_domain;
            chosen
                .iter()
                .map(|comet| format!("{}{domain}", comet.hostname()))
                .collect()
        } else {
            chosen
                .iter()
                .flat_map(|comet| comet.info.addresses.iter().cloned())
                .collect()
        };
        if nodes.is_empty() {
            nodes.push(node.default_domain.clone());
        }
        let backoff = &self.config.backoff;
        NodesReply {
            domain: node.default_domain.clone(),
            tcp_port: node.tcp_port.into(),
            ws_port: node.ws_port.into(),
            wss_port: node.wss_port.into(),
            heartbeat: i32::try_from(node.heartbeat.get().as_secs()).unwrap_or(i32::MAX),
            nodes,
            backoff: Some(Backoff {
                max_delay: backoff.max_delay,
                base_delay: backoff.base_delay,
                factor: backoff.factor,
                jitter: backoff.jitter,
            }),
            heartbeat_max: i32::try_from(node.heartbeat_max).unwrap_or(i32::MAX),
        }
    }
}

impl fmt::Debug for Logic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logic")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The lanes of all comets. What is stored waits longer in them.
fn lanes(config: &Config, access: &Access, stored: bool, metrics: &Arc<Metrics>) -> Lanes {
    let mut lanes = config.lanes.clone();
    if stored {
        lanes.retry = config.queue.retry;
    }
    let (credential, dialer) = (access.credential.clone(), access.dialer.clone());
    let client = config.rpc_client.clone();
    Lanes::new(lanes, client, credential, dialer, Arc::clone(metrics))
}

fn kick_limits(config: &Config) -> kick::Limits {
    kick::Limits {
        timeout: config.kick.timeout.get(),
        keys_per_call: config.rpc_client.keys_per_call,
        max_message: config.rpc_client.max_message,
    }
}

/// The region of each province.
fn regions(config: &Config) -> HashMap<String, String> {
    let regions = config.regions.iter();
    regions
        .flat_map(|(region, provinces)| {
            let provinces = provinces.iter();
            provinces.map(|province| (province.clone(), region.clone()))
        })
        .collect()
}
