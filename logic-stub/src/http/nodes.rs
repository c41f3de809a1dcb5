//! `GET /goim/nodes/*`: where clients should connect, and what comets there are.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::extract::{self, ConnectInfo};
use protocol::grpc::goim::logic::NodesReply;
use serde::Serialize;

use super::{Reply, State, query::Query, reply::Done};
use crate::comets::Comet;

/// goim's name for comets among what its discovery service knows.
const APPID: &str = "goim.comet";

/// goim's answer for clients.
#[derive(Debug, Serialize)]
pub(super) struct Weighted {
    domain: String,
    tcp_port: i32,
    ws_port: i32,
    wss_port: i32,
    /// Seconds.
    heartbeat: i32,
    nodes: Vec<String>,
    backoff: Option<Backoff>,
    heartbeat_max: i32,
}

#[derive(Debug, Serialize)]
struct Backoff {
    max_delay: i32,
    base_delay: i32,
    factor: f32,
    jitter: f32,
}

/// One comet, as goim's discovery service has it.
#[derive(Debug, Serialize)]
pub(super) struct Instance {
    region: String,
    zone: String,
    env: String,
    appid: &'static str,
    hostname: String,
    addrs: Vec<String>,
    version: String,
    /// Nanoseconds since 1970.
    latest_timestamp: u64,
    metadata: Metadata,
}

/// All texts, as in goim.
#[derive(Debug, Serialize)]
struct Metadata {
    addrs: String,
    conn_count: String,
    ip_count: String,
    offline: String,
    weight: String,
}

/// `?platform=`
pub(super) async fn weighted(
    extract::State(state): extract::State<State>,
    client: Option<extract::Extension<ConnectInfo<SocketAddr>>>,
    query: Query,
) -> Reply<Weighted> {
    let platform = query.optional::<String>("platform")?.unwrap_or_default();
    let address = client.map(|extract::Extension(ConnectInfo(client))| client.ip().to_canonical());
    Ok(Done::with(state.logic.nodes(&platform, address).into()))
}

/// Every comet, also those that are offline.
pub(super) async fn instances(
    extract::State(state): extract::State<State>,
) -> Reply<Vec<Instance>> {
    let known = state.logic.comets.known();
    Ok(Done::with(
        known.values().map(|comet| instance(comet)).collect(),
    ))
}

fn instance(comet: &Comet) -> Instance {
    let info = &comet.info;
    let renewed = SystemTime::now()
        .checked_sub(comet.renewed.elapsed())
        .unwrap_or(UNIX_EPOCH);
    let since_1970 = renewed.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Instance {
        region: info.region.clone(),
        zone: info.zone.clone(),
        env: info.env.clone(),
        appid: APPID,
        hostname: comet.hostname().to_owned(),
        addrs: vec![format!("grpc://{}", info.grpc_address)],
        version: info.version.clone(),
        latest_timestamp: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        metadata: Metadata {
            addrs: info.addresses.join(","),
            conn_count: info.connections.to_string(),
            ip_count: info.client_addresses.to_string(),
            offline: info.offline.to_string(),
            weight: info.weight.to_string(),
        },
    }
}

impl From<NodesReply> for Weighted {
    fn from(reply: NodesReply) -> Self {
        let NodesReply {
            domain,
            tcp_port,
            ws_port,
            wss_port,
            heartbeat,
            nodes,
            backoff,
            heartbeat_max,
        } = reply;
        let backoff = backoff.map(|backoff| Backoff {
            max_delay: backoff.max_delay,
            base_delay: backoff.base_delay,
            factor: backoff.factor,
            jitter: backoff.jitter,
        });
        Self {
            domain,
            tcp_port,
            ws_port,
            wss_port,
            heartbeat,
            nodes,
            backoff,
            heartbeat_max,
        }
    }
}
