//! The page to try Comet with, and the push API at the page's own origin.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use logic_stub::LogicStub;

/// Nothing but this origin, and WebSockets to wherever the page is told to connect.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:";

/// The files of the page: path, type, content.
const FILES: [(&str, &str, &str); 5] = [
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
        "/goim.js",
        "text/javascript; charset=utf-8",
        include_str!("../page/goim.js"),
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
        api = api.layer(middleware::from_fn(loopback_only));
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
    } else if !is_from_here(request.headers()) {
        "pushes are not taken from pages of other sites"
    } else {
        return next.run(request).await;
    };
    let text = format!("{refusal}; page.allowUnauthenticated changes that\n");
    (StatusCode::FORBIDDEN, text).into_response()
}

/// Whether a request is not another site's doing. A name that is not this machine's own may be a site's that leads to a
/// loopback address (DNS rebinding); browsers say by `Origin` whose page sends a POST.
fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(host) = only(headers, header::HOST) else {
        return false;
    };
    let own = format!("http://{host}");
    let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    is_loopback_name(host) && headers.get_all(header::ORIGIN).iter().all(is_own)
}

/// The value of a header that came once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a `Host` is `localhost` or a loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}
