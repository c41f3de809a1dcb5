//! goim's HTTP API for pushers: `POST /goim/push/*`, `GET /goim/online/*`, `GET /goim/nodes/*`; and beside it what goim has not:
//! `POST /comet/kick/*`, `GET /comet/sessions`, `GET /comet/online/mids`, `/comet/whitelist`.
//!
//! Every answer, also one of an error, is HTTP 200 with `{"code":0,"message":"","data":..}`; only an unknown path (404), a
//! wrong method (405), a request of another site's page (403) and one without a token that is wanted (401) have a status of their
//! own beside it.

mod kick;
mod nodes;
mod online;
mod push;
mod query;
mod reply;
mod sessions;
mod whitelist;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    routing::{get, post},
};

use common::same_site;

use crate::logic::Logic;
use reply::{Reply, foreign_site, not_allowed, not_found, unauthenticated};

/// What the handlers share.
#[derive(Debug, Clone)]
struct State {
    logic: Arc<Logic>,
}

/// The API's paths and nothing else, to be merged with others; answers 405 itself, and leaves 404 to whoever has the rest.
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
        .route("/comet/kick/keys", post(kick::keys))
        .route("/comet/kick/mids", post(kick::mids))
        .route("/comet/kick/room", post(kick::room))
        .route("/comet/kick/addresses", post(kick::addresses))
        .route("/comet/drain", post(kick::drain))
        .route("/comet/sessions", get(sessions::of_mids))
        .route("/comet/online/mids", get(sessions::counts))
        .route("/comet/whitelist", get(whitelist::list))
        .route("/comet/whitelist/add", post(whitelist::add))
        .route("/comet/whitelist/remove", post(whitelist::remove))
        .route("/comet/whitelist/clear", post(whitelist::clear))
        .method_not_allowed_fallback(not_allowed)
        .with_state(State { logic })
}

/// Refuses what pages of other sites make a browser on this machine send: the API asks for no proof of who calls.
pub fn from_this_machine(router: Router) -> Router {
    router.route_layer(middleware::from_fn(async |request: Request, next: Next| {
        if same_site::is_from_here(request.headers()) {
            next.run(request).await
        } else {
            foreign_site().await
        }
    }))
}

/// Refuses whoever shows none of the API's tokens, where it has some.
pub fn for_bearers(router: Router, logic: &Logic) -> Router {
    let Some(tokens) = logic.access.pushers.clone() else {
        return router;
    };
    let metrics = Arc::clone(&logic.metrics);
    let ask = move |request: Request, next: Next| {
        let checked = tokens.check(request.headers());
        let metrics = Arc::clone(&metrics);
        async move {
            match checked {
                Ok(()) => next.run(request).await,
                Err(refused) => {
                    metrics.api_refusals(refused.label()).inc();
                    unauthenticated(refused)
                }
            }
        }
    };
    router.route_layer(middleware::from_fn(ask))
}

/// The whole API, with its own 404.
pub fn router(logic: Arc<Logic>) -> Router {
    routes(logic).fallback(not_found)
}
