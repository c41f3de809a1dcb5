//! The WebSocket handshake (RFC 6455 section 4.2), and what is answered to a bad one.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::Body as HttpBody;
use thiserror::Error;
use tokio_tungstenite::tungstenite::{
    Error, error::ProtocolError, handshake::server::create_response_with_body,
};

use super::origins::Origins;
use crate::gate::Refused;

/// Where the WebSocket is.
pub const PATH: &str = "/sub";

/// Why a request was refused: the client is at fault. Its connection stays, as HTTP allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such page: 404.
    #[error("nothing is here; WebSocket is at {PATH}")]
    NotFound,
    /// Not GET: 405.
    #[error("only GET is possible here")]
    Method,
    /// HTTP/1.0, which has no upgrade: 505.
    #[error("WebSocket needs HTTP/1.1")]
    HttpVersion,
    /// A request that does not ask for WebSocket: 426.
    #[error(
        "this path speaks WebSocket: ask for an upgrade to it; or begin a session of long-poll with ?s=&t=<token>, and of Server-Sent \
         Events with Accept: text/event-stream as well"
    )]
    NoUpgrade,
    /// Another version of WebSocket than 13: 426.
    #[error("WebSocket version 13 is spoken here")]
    WebSocketVersion,
    /// `Sec-WebSocket-Key` is missing or not the base64 of 16 bytes: 400.
    #[error("Sec-WebSocket-Key is missing or malformed")]
    Key,
    /// A handshake with a body: 400.
    #[error("a WebSocket handshake has no body")]
    Body,
    /// A page of an origin that may not connect: 403.
    #[error("pages of this origin may not connect here")]
    Origin,
    /// There are too many connections: 503, or 429 where they are the client's own.
    #[error(transparent)]
    Limit(Refused),
}

/// Judges a handshake: the answer that accepts it, and its `Cookie` header. It may come from a page of one of the origins.
///
/// Neither extensions nor subprotocols are agreed on, whatever the client offers.
pub(super) fn handshake<B: HttpBody>(
    request: &Request<B>,
    origins: &Origins,
) -> Result<(Response<Body>, String), Refusal> {
    let response =
        create_response_with_body(request, Body::empty).map_err(|error| refusal(&error))?;
    if !request.body().is_end_stream() {
        return Err(Refusal::Body);
    }
    if !origins.allow(request.headers()) {
        return Err(Refusal::Origin);
    }
    Ok((response, cookie(request.headers())))
}

impl Refusal {
    /// The name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::NoUpgrade => "no_upgrade",
            Self::WebSocketVersion => "websocket_version",
            Self::Key => "websocket_key",
            Self::Body => "body",
            Self::Origin => "origin",
            Self::Limit(refused) => refused.label(),
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NoUpgrade | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Body => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Limit(refused) => refused.status(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Limit(refused) = self {
            return limited(refused);
        }
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        if self.status() == StatusCode::UPGRADE_REQUIRED {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        if self == Self::WebSocketVersion {
            let version = HeaderValue::from_static("13");
            headers.insert(header::SEC_WEBSOCKET_VERSION, version);
        }
        if self == Self::Method {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// The only refusal that says more to programs than its status: whether, and when, to come back.
fn limited(refused: Refused) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (refused.status(), json, refused.json()).into_response();
    if let Some(seconds) = refused.retry_after() {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => Refusal::Method,
        Error::Protocol(ProtocolError::WrongHttpVersion) => Refusal::HttpVersion,
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            Refusal::WebSocketVersion
        }
        Error::Protocol(
            ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey,
        ) => Refusal::Key,
        _ => Refusal::NoUpgrade,
    }
}

/// The `Cookie` header as text, since that is what logic takes; what is not UTF-8 in it is replaced.
pub fn cookie(headers: &HeaderMap) -> String {
    headers
        .get(header::COOKIE)
        .map(|cookie| String::from_utf8_lossy(cookie.as_bytes()).into_owned())
        .unwrap_or_default()
}
