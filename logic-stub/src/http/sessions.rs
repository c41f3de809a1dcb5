//! `GET /comet/sessions`: the connections of users; `GET /comet/online/mids`: how many they have.

use std::collections::BTreeMap;

use axum::extract;
use serde::Serialize;

use super::{
    Reply, State,
    query::Query,
    reply::{Done, Failure},
};
use crate::sessions;

/// The connections of some users.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    /// How many there are.
    total: usize,
    /// Some of them.
    sessions: Vec<Session>,
}

/// One connection.
#[derive(Debug, Serialize)]
struct Session {
    mid: i64,
    key: String,
    /// The comet's name.
    server: String,
    /// The comet's start and the connection among its own; goim's comet does not say.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    connection: Option<Connection>,
    door: String,
    address: String,
    platform: String,
}

#[derive(Debug, Serialize)]
struct Connection {
    epoch: u64,
    id: u64,
    /// About when it logged in, in microseconds since 1970.
    login: u64,
}

/// `?mids=&mids=`
pub(super) async fn of_mids(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Found> {
    let max = state.logic.config.http_server.max_values;
    let mids: Vec<i64> = query.list("mids", max)?;
    let found = state.logic.sessions.of_mids(&mids).await;
    let mut found = found.map_err(|error| Failure::server(error.to_string()))?;
    found.sort_by(|a, b| (a.mid, &a.key).cmp(&(b.mid, &b.key)));
    let total = found.len();
    let sessions = found.into_iter().take(max).map(Session::from).collect();
    Ok(Done::with(Found { total, sessions }))
}

/// `?mids=&mids=`: how many connections each of these users has; 0: not online.
pub(super) async fn counts(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<BTreeMap<i64, u64>> {
    let max = state.logic.config.http_server.max_values;
    let mids: Vec<i64> = query.list("mids", max)?;
    let found = state.logic.sessions.of_mids(&mids).await;
    let found = found.map_err(|error| Failure::server(error.to_string()))?;
    let mut counts: BTreeMap<i64, u64> = mids.into_iter().map(|mid| (mid, 0)).collect();
    for session in found {
        *counts.entry(session.mid).or_default() += 1;
    }
    Ok(Done::with(counts))
}

impl From<sessions::Session> for Session {
    fn from(session: sessions::Session) -> Self {
        let connection = session.holder.connection;
        Self {
            mid: session.mid,
            key: session.key,
            server: session.holder.server.as_ref().to_owned(),
            connection: connection.map(|connection| Connection {
                epoch: connection.epoch,
                id: connection.id,
                login: connection.login(),
            }),
            door: session.client.door,
            address: session.client.address,
            platform: session.client.platform,
        }
    }
}
