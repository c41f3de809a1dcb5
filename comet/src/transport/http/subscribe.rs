//! Long-poll and Server-Sent Events on the wire: what a request asks for, and how it is answered. No session is known here.
//!
//! # Layout
//!
//! - [`Subscribe`]: who answers these requests, and which they are
//! - [`json`]: protos and answers as JSON; [`event`]: as Server-Sent Events
//! - `cors`: what browsers are told of pages of other sites

mod cors;
pub mod event;
pub mod json;

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use protocol::query::Form;

pub use self::cors::Page;
use self::json::Verdict;
use super::{Door, Refusal};

/// Where the session and the number of the last event that a browser has got are.
const LAST_EVENT_ID: &str = "last-event-id";

/// Answers the requests to [`super::PATH`] that do not ask for WebSocket. Each has its [`Page`] among its extensions.
pub type Subscribe =
    Arc<dyn Fn(Request<Incoming>, SocketAddr) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Whether a request to [`super::PATH`] is for long-poll or Server-Sent Events: one that asks for nothing in particular is
/// a WebSocket client's mistake.
pub(super) fn is_subscription<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    if headers.contains_key(header::UPGRADE) {
        return false;
    }
    match *request.method() {
        Method::GET => {
            request.uri().query().is_some_and(|query| !query.is_empty())
                || wants_events(headers)
                || headers.contains_key(LAST_EVENT_ID)
        }
        Method::POST | Method::OPTIONS => true,
        _ => false,
    }
}

/// Has a request answered if its page may ask, and tells its browser so.
pub(super) async fn answer(
    door: &Door,
    subscribe: &Subscribe,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Body> {
    let Some((leave, page)) = cors::judge(&door.origins, request.headers()) else {
        (door.on_refused)(Refusal::Origin);
        let (status, words) = (StatusCode::FORBIDDEN, Refusal::Origin.to_string());
        return Verdict::refused(status, Refusal::Origin.label(), words).into_response(&Form::Json);
    };
    let mut response = if request.method() == Method::OPTIONS {
        cors::preflight()
    } else {
        request.extensions_mut().insert(page);
        subscribe(request, peer).await
    };
    leave.mark(&mut response);
    response
}

/// Whether a client reads Server-Sent Events.
pub fn wants_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter();
    accepted.any(|accepts| {
        let text = accepts.to_str().unwrap_or_default();
        let mut kinds = text
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim());
        kinds.any(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
    })
}

/// What a browser says that it has got last, if it says so.
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()
}

#[cfg(test)]
mod tests;
