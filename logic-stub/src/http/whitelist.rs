//! `GET /comet/whitelist`, `POST /comet/whitelist/*`: whose steps the comets note.

use axum::extract;
use protocol::grpc::comet::v1::whitelist_request::Change;

use super::{
    Reply, State,
    query::Query,
    reply::{Done, Failure, Outcome},
};
use crate::{push::Names, whitelist::Listed};

/// Who is on the lists.
pub(super) async fn list(extract::State(state): extract::State<State>) -> Reply<Listed> {
    change(&state, Change::None, Vec::new(), Vec::new()).await
}

/// `?mids=&mids=&keys=&keys=`
pub(super) async fn add(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Listed> {
    let (mids, keys) = named(&state, &query)?;
    change(&state, Change::Add, mids, keys).await
}

/// `?mids=&mids=&keys=&keys=`
pub(super) async fn remove(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Listed> {
    let (mids, keys) = named(&state, &query)?;
    change(&state, Change::Remove, mids, keys).await
}

/// Takes everyone off.
pub(super) async fn clear(extract::State(state): extract::State<State>) -> Reply<Listed> {
    change(&state, Change::Replace, Vec::new(), Vec::new()).await
}

/// Users, or keys, or both; somebody at least.
fn named(state: &State, query: &Query) -> Result<(Vec<i64>, Vec<String>), Failure> {
    let config = &state.logic.config;
    let has = |name| Ok::<_, Failure>(query.optional::<String>(name)?.is_some());
    let (has_mids, has_keys) = (has("mids")?, has("keys")?);
    if !has_mids && !has_keys {
        return Err(Failure::request("parameters mids and keys are missing"));
    }
    let mids = if has_mids {
        query.list("mids", config.http_server.max_values)?
    } else {
        Vec::new()
    };
    let keys = if has_keys {
        query.keys(config)?
    } else {
        Vec::new()
    };
    Ok((mids, keys))
}

async fn change(state: &State, change: Change, mids: Vec<i64>, keys: Vec<String>) -> Reply<Listed> {
    let listed = state.logic.whitelists.change(change, mids, keys).await;
    let listed = listed.map_err(|error| Failure::server(error.to_string()))?;
    if listed.unreached.is_empty() {
        return Ok(Done::with(listed));
    }
    let unreached = listed.unreached.iter();
    let unreached = unreached.map(|(comet, why)| format!("comet {comet} ({why})"));
    let unreached: Names = unreached.collect::<Vec<_>>().into();
    let failure = Failure::server(format!("not taken by {unreached}"));
    Err(failure.with(Some(Outcome::Whitelisted(listed))))
}
