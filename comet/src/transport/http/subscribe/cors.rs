//! What browsers are told of pages of other sites (CORS): whether these may ask, and read the answer; and of whom the request of a
//! script, whose answer every page can read, is taken.

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

/// What is known of the page that asks. A script's answer can be read by whichever page has it run, so what is given as one has
/// to look at this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// It is one of those that may ask.
    Known,
    /// Every page may ask: what a browser sends by itself, its cookies, says nothing of the page.
    Any,
    /// Nothing tells which it is, nor that there is one.
    Untold,
}

/// Judges whether whoever asks may, and what is known of it; if it may not, there is none. Programs that are no browsers name no
/// origin, and may.
pub(super) fn judge(origins: &Origins, headers: &HeaderMap) -> Option<(Leave, Page)> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        let leave = Leave {
            origin: None,
            with_credentials: false,
        };
        return without_origin(origins, headers).map(|page| (leave, page));
    };
    if origins.has_all() {
        let leave = Leave {
            origin: Some(HeaderValue::from_static("*")),
            with_credentials: false,
        };
        return Some((leave, Page::Any));
    }
    let leave = || Leave {
        origin: Some(origin.clone()),
        // Any page can make itself one whose origin is not told.
        with_credentials: origin != "null",
    };
    origins.allow(headers).then(|| (leave(), Page::Known))
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

/// What is known of a page that names no origin, if it may ask: a browser names none with a script, and where a page asks its own
/// host.
fn without_origin(origins: &Origins, headers: &HeaderMap) -> Option<Page> {
    if origins.has_all() {
        return Some(Page::Any);
    }
    let site = headers.get(SEC_FETCH_SITE);
    if site.is_some_and(|site| site == "same-origin" || site == "none") {
        return Some(Page::Known);
    }
    let Some(page) = headers.get(header::REFERER) else {
        return site.is_none().then_some(Page::Untold);
    };
    let may = origins.has(origin_of(page.as_bytes()));
    may.then_some(Page::Known)
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
