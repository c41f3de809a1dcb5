//! The page to try Comet with, and the push API at the page's own origin.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use common::same_site;
use logic_stub::LogicStub;

/// Nothing but this origin, and WebSockets to wherever the page is told to connect.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:";

/// The files of the page: path, type, content.
const FILES: [(&str, &str, &str); 7] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../page/index.html"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("../page/style.css"),
    ),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/app.js"),
    ),
    (
        "/chart.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/chart.js"),
    ),
    (
        "/goim.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/goim.js"),
    ),
    (
        "/transports.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/transports.js"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("../page/icon.svg"),
    ),
];

/// The page, and goim's HTTP API for callers on this machine, or for everyone where that is allowed.
pub fn router(logic: &LogicStub, allow_unauthenticated: bool) -> Router {
    let mut api = logic.http_router();
    if !allow_unauthenticated {
        api = api.route_layer(middleware::from_fn(loopback_only));
    }
    let files = FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, content)| {
            router.route(path, get(move || async move { file(kind, content) }))
        });
    files.merge(api)
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, content).into_response()
}

/// Pushes are not authenticated, so only this machine may make them, and of the pages that its browsers show only the one
/// from here.
async fn loopback_only(
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let refusal = if !client.ip().to_canonical().is_loopback() {
        "pushes are taken from this machine only"
    } else if !same_site::is_from_here(request.headers()) {
        "pushes are not taken from pages of other sites"
    } else {
        return next.run(request).await;
    };
    let text = format!("{refusal}; page.allowUnauthenticated changes that\n");
    (StatusCode::FORBIDDEN, text).into_response()
}
