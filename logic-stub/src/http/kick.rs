//! `POST /comet/kick/*`: closes connections and tells their clients why, and whether to come back. `POST /comet/drain`: the same
//! for a whole comet, which ends.

use std::net::IpAddr;

use axum::extract;
use ipnet::IpNet;
use protocol::{grpc::comet::v1::Comeback, op::MAX_KICK_REASON};
use serde::Serialize;

use super::{
    Reply, State,
    push::absent,
    query::Query,
    reply::{Done, Failure, Outcome},
};
use crate::{
    kick::{KickError, Kicked, Words},
    push::Names,
};

/// The longest time over which clients can be told to come back, in seconds: a day.
const MAX_WITHIN: u32 = 86_400;

/// `?keys=&keys=&reason=`
pub(super) async fn keys(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let keys = query.keys(&state.logic.config)?;
    let words = words(&query)?;
    answer(state.logic.kicker.keys(keys, &words).await)
}

/// `?mids=&mids=&reason=`
pub(super) async fn mids(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let mids = query.list("mids", state.logic.config.http_server.max_values)?;
    let words = words(&query)?;
    answer(state.logic.kicker.mids(mids, &words).await)
}

/// `?type=&room=&reason=`
pub(super) async fn room(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let room = query.room(&state.logic.config)?;
    let words = words(&query)?;
    answer(state.logic.kicker.room(&room, &words).await)
}

/// `?addresses=&addresses=&reason=`
pub(super) async fn addresses(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let max = state.logic.config.http_server.max_values;
    let networks: Vec<String> = query.list("addresses", max)?;
    if let Some(other) = networks.iter().find(|text| !is_network(text)) {
        return Err(Failure::request(format!(
            "parameter addresses: {other:?} is neither an address nor a network"
        )));
    }
    let words = words(&query)?;
    answer(state.logic.kicker.addresses(networks, &words).await)
}

/// `?server=`
pub(super) async fn drain(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Draining> {
    let server = query.text("server")?;
    match state.logic.kicker.drain(&server).await {
        Ok(connections) => Ok(Done::with(Draining { connections })),
        Err(error) => Err(Failure::server(format!("comet {server}: {error}"))),
    }
}

/// A comet that has begun its end.
#[derive(Debug, Serialize)]
pub(super) struct Draining {
    /// Logged in when it began.
    connections: u32,
}

/// `192.0.2.7` or `192.0.2.0/24`.
fn is_network(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// `reason`, `reconnect` and `within`.
fn words(query: &Query) -> Result<Words, Failure> {
    let reason: String = query.optional("reason")?.unwrap_or_default();
    if reason.len() > MAX_KICK_REASON {
        return Err(Failure::request(format!(
            "parameter reason: over the limit of {MAX_KICK_REASON} bytes"
        )));
    }
    let allowed: Option<bool> = query.optional("reconnect")?;
    let within: u32 = query.optional("within")?.unwrap_or_default();
    if within > MAX_WITHIN {
        return Err(Failure::request(format!(
            "parameter within: over the limit of {MAX_WITHIN} s"
        )));
    }
    let comeback = allowed.map(|allowed| Comeback {
        allowed,
        within_ms: within * 1000,
    });
    Ok(Words { reason, comeback })
}

fn answer(outcome: Result<Kicked, KickError>) -> Reply<Kicked> {
    let kicked = outcome.map_err(|error| Failure::server(error.to_string()))?;
    if kicked.unreached.is_empty() {
        let said = absent(&kicked.absent.clone().into());
        return Ok(Done::saying(said, Some(kicked)));
    }
    let unreached = kicked.unreached.iter();
    let unreached = unreached.map(|(comet, why)| format!("comet {comet} ({why})"));
    let unreached: Names = unreached.collect::<Vec<_>>().into();
    let failure = Failure::server(format!("not taken by {unreached}"));
    Err(failure.with(Some(Outcome::Kicked(kicked))))
}
