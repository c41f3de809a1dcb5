//! goim's HTTP API for pushers: `POST /goim/push/*`, `GET /goim/online/*`, `GET /goim/nodes/*`.
//!
//! Every answer, also one of an error, is HTTP 200 with `{"code":0,"message":"","data":..}`; only an unknown path (404) and a
//! wrong method (405) have a status of their own beside it.

mod nodes;
mod online;
mod push;
mod query;
mod reply;
mod serve;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub use serve::serve;

use crate::logic::Logic;
use reply::{Reply, not_allowed, not_found};

/// What the handlers share.
#[derive(Debug, Clone)]
struct State {
    logic: Arc<Logic>,
}

/// goim's paths and nothing else, to be merged with others; answers 405 itself, and leaves 404 to whoever has the rest.
pub fn routes(logic: Arc<Logic>) -> Router {
    Router::new()
        .route("/goim/push/keys", post(push::keys))
        .route("/goim/push/mids", post(push::mids))
        .route("/goim/push/room", post(push::room))
        .route("/goim/push/all", post(push::everyone))
        .route("/goim/online/top", get(online::top))
        .route("/goim/online/room", get(online::room))
        .route("/goim/online/total", get(online::total))
        .route("/goim/nodes/weighted", get(nodes::weighted))
        .route("/goim/nodes/instances", get(nodes::instances))
        .method_not_allowed_fallback(not_allowed)
        .with_state(State { logic })
}

/// The whole API, with its own 404.
pub fn router(logic: Arc<Logic>) -> Router {
    routes(logic).fallback(not_found)
}
