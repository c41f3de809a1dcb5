//! What browsers are told of pages of other sites (CORS): whether these may ask, and read the answer.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::transport::http::origins::Origins;

/// How long a browser may remember what it was told, in seconds.
const MAX_AGE: &str = "600";

const METHODS: &str = "GET, POST";
const HEADERS: &str = "content-type, cache-control, last-event-id";

/// Where a browser says whether the page that asks came from here.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// What a browser is told of an answer: that the page may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leave {
    origin: Option<HeaderValue>,
    /// Whether the browser may send cookies.
    with_credentials: bool,
}

/// Judges whether whoever asks may; if not, there is none. Programs that are no browsers name no origin, and may.
pub(super) fn judge(origins: &Origins, headers: &HeaderMap) -> Option<Leave> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return is_without_origin(origins, headers).then_some(Leave {
            origin: None,
            with_credentials: false,
        });
    };
    if origins.has_all() {
        return Some(Leave {
            origin: Some(HeaderValue::from_static("*")),
            with_credentials: false,
        });
    }
    origins.allow(headers).then(|| Leave {
        origin: Some(origin.clone()),
        // Any page can make itself one whose origin is not told.
        with_credentials: origin != "null",
    })
}

impl Leave {
    /// Tells the browser.
    pub(super) fn mark(self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = self.origin else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.with_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

/// The answer to a browser that asks before it asks.
pub(super) fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request without an origin may come from where it does: a browser names none with a script, and where a page asks
/// its own host.
fn is_without_origin(origins: &Origins, headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE);
    if origins.has_all() || site.is_some_and(|site| site == "same-origin" || site == "none") {
        return true;
    }
    match headers.get(header::REFERER) {
        Some(page) => origins.has(origin_of(page.as_bytes())),
        None => site.is_none(),
    }
}

/// The origin of a page's address: scheme and authority.
fn origin_of(address: &[u8]) -> &[u8] {
    let slashes = address
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/');
    let end = slashes.map(|(at, _)| at).nth(2);
    &address[..end.unwrap_or(address.len())]
}
