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
    http::HeaderMap,
    middleware::{self, Next},
    routing::{get, post},
};

use common::{listen::Callers, same_site};

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

/// Who may call a router: whoever shows a token, where it asks for one. Where it does not, nobody whom a page of another site makes
/// call, and where it is for this machine alone, nobody by a name that is not this machine's. A page cannot show a token that it
/// does not have, nor without being asked about it first.
pub fn guarded(router: Router, logic: &Logic) -> Router {
    match logic.config.http_server.callers() {
        Callers::Proven => for_bearers(router, logic),
        Callers::Local => unless_foreign(router, |headers| {
            same_site::is_from_here(headers) && same_site::is_no_other_page(headers)
        }),
        Callers::Anyone => unless_foreign(router, same_site::is_no_other_page),
    }
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

/// Refuses the requests whose headers do not say that they may be taken.
fn unless_foreign(router: Router, may: fn(&HeaderMap) -> bool) -> Router {
    let ask = move |request: Request, next: Next| {
        let taken = may(request.headers());
        async move {
            if taken {
                next.run(request).await
            } else {
                foreign_site().await
            }
        }
    };
    router.route_layer(middleware::from_fn(ask))
}
