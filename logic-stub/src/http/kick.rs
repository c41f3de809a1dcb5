//! `POST /comet/kick/*`: closes connections and tells their clients why.

use axum::extract;
use protocol::op::MAX_KICK_REASON;

use super::{
    Reply, State,
    push::absent,
    query::Query,
    reply::{Done, Failure, Outcome},
};
use crate::{
    kick::{KickError, Kicked},
    push::Names,
};

/// `?keys=&keys=&reason=`
pub(super) async fn keys(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let keys = query.keys(&state.logic.config)?;
    let reason = reason(&query)?;
    answer(state.logic.kicker.keys(keys, &reason).await)
}

/// `?mids=&mids=&reason=`
pub(super) async fn mids(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let mids = query.list("mids", state.logic.config.http_server.max_values)?;
    let reason = reason(&query)?;
    answer(state.logic.kicker.mids(mids, &reason).await)
}

/// `?type=&room=&reason=`
pub(super) async fn room(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Kicked> {
    let room = query.room(&state.logic.config)?;
    let reason = reason(&query)?;
    answer(state.logic.kicker.room(&room, &reason).await)
}

fn reason(query: &Query) -> Result<String, Failure> {
    let reason: String = query.optional("reason")?.unwrap_or_default();
    if reason.len() > MAX_KICK_REASON {
        return Err(Failure::request(format!(
            "parameter reason: over the limit of {MAX_KICK_REASON} bytes"
        )));
    }
    Ok(reason)
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
