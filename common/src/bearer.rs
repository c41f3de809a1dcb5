//! Bearer tokens between services: whoever shows one of a list may call.
//!
//! A file has one token a line; empty lines, and those that begin with `#`, are ignored. A service takes each of them, a client
//! shows the first. The file is read again when it changes, so tokens are replaced without a restart.
//!
//! # Layout
//!
//! - [`Tokens`]: what a service takes; [`Refused`]: why it takes a call not
//! - [`Guard`]: the layer that asks for them, and for certificates, on a gRPC server
//! - [`Credential`]: what a client shows

mod guard;

use std::{fmt, path::Path, sync::Arc};

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;
use tonic::{Code, Status, metadata::MetadataMap};

pub use self::guard::{Guard, Guarded};
use crate::watched::{WatchError, Watched};

/// Characters of the shortest token: 16 random ones are 96 bits.
const MIN_LENGTH: usize = 16;
/// Characters of the longest token.
const MAX_LENGTH: usize = 1024;
/// Tokens in a file: a few for each rotation under way.
const MAX_TOKENS: usize = 64;

/// The scheme of RFC 6750.
const SCHEME: &str = "Bearer";
/// What a service says that wants a certificate.
const CERTIFICATE: &str = "Certificate";

/// The tokens that a service takes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Watched<Vec<Token>>>);

/// What a client shows with each call; perhaps nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Credential(Option<Arc<Watched<Vec<Token>>>>);

/// Why a call is not taken. The caller is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It shows no token.
    #[error("this service wants a bearer token")]
    Missing,
    /// It shows one that is not on the list.
    #[error("the bearer token is none of this service's")]
    Wrong,
    /// Its connection has no certificate.
    #[error("this service wants a client certificate")]
    NoCertificate,
}

impl Tokens {
    /// Those of a file, as `path` of a configuration names it; none when that is empty. Must be called in a tokio runtime.
    pub fn configured(path: &str) -> Result<Option<Self>, WatchError> {
        Ok(open(path)?.map(Self))
    }

    /// Whether a request with these headers shows one of the tokens. How long that takes does not tell how much of a token
    /// is right.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let shown = shown(headers)?.as_bytes();
        let mut found = Choice::from(0);
        for token in self.0.get().iter() {
            found |= token.text.as_bytes().ct_eq(shown);
        }
        if bool::from(found) {
            Ok(())
        } else {
            Err(Refused::Wrong)
        }
    }
}

impl Credential {
    /// The first token of a file, as `path` of a configuration names it; nothing when that is empty. Must be called in a tokio
    /// runtime.
    pub fn configured(path: &str) -> Result<Self, WatchError> {
        open(path).map(Self)
    }

    /// A request that shows it.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let tokens = self.0.as_ref().map(|tokens| tokens.get());
        if let Some(first) = tokens.as_ref().and_then(|tokens| tokens.first()) {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, first.header.clone());
            *request.metadata_mut() = MetadataMap::from_headers(headers);
        }
        request
    }
}

impl Refused {
    /// The name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::Wrong => "wrong_token",
            Self::NoCertificate => "no_certificate",
        }
    }

    /// What an answer says of it beside its status: the header `WWW-Authenticate`.
    pub fn challenge(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Missing | Self::Wrong => SCHEME,
            Self::NoCertificate => CERTIFICATE,
        })
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, refused.challenge());
        let metadata = MetadataMap::from_headers(headers);
        Self::with_metadata(Code::Unauthenticated, refused.to_string(), metadata)
    }
}

/// Whether a call failed since its caller did not show who it is. A service's own UNAUTHENTICATED, about someone else than its
/// caller, is something else.
pub fn is_refused(status: &Status) -> bool {
    let challenge = status.metadata().get(WWW_AUTHENTICATE.as_str());
    let is_ours = |challenge: &[u8]| {
        let schemes = [SCHEME, CERTIFICATE];
        schemes
            .iter()
            .any(|scheme| challenge.starts_with(scheme.as_bytes()))
    };
    status.code() == Code::Unauthenticated
        && challenge.is_some_and(|challenge| is_ours(challenge.as_bytes()))
}

/// One token of a list.
struct Token {
    text: String,
    /// `Bearer` and the token; no log shows it.
    header: HeaderValue,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

fn open(path: &str) -> Result<Option<Arc<Watched<Vec<Token>>>>, WatchError> {
    if path.is_empty() {
        return Ok(None);
    }
    let watched = Watched::start(Path::new(path), parse)?;
    Ok(Some(Arc::new(watched)))
}

/// The token that a request shows.
fn shown(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refused::Missing)?;
    if values.next().is_some() {
        return Err(Refused::Wrong);
    }
    let value = value.to_str().map_err(|_| Refused::Wrong)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(token.trim()),
        _ => Err(Refused::Missing),
    }
}

/// Reads a list of tokens. No error shows one.
fn parse(content: &[u8]) -> Result<Vec<Token>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let header = header(line).ok_or_else(|| {
            format!(
                "line {}: a token has {MIN_LENGTH} to {MAX_LENGTH} characters out of A-Z a-z 0-9 - . _ ~ + / =",
                index + 1
            )
        })?;
        tokens.push(Token {
            text: line.to_owned(),
            header,
        });
    }
    match tokens.len() {
        0 => Err("it has no token".to_owned()),
        1..=MAX_TOKENS => Ok(tokens),
        _ => Err(format!("it has more than {MAX_TOKENS} tokens")),
    }
}

/// A token as its client sends it, if it is one.
fn header(token: &str) -> Option<HeaderValue> {
    let is_of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&token.len()) || !token.bytes().all(is_of_a_token) {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("{SCHEME} {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests;
