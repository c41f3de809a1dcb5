//! Client tokens that someone has signed: a client is who the signer says it is, and can be nobody else.
//!
//! # Layout
//!
//! - [`Jwt`]: the check of a token; [`Refused`]: why it lets nobody in
//! - `keys`: whose signatures count
//! - `claims`: what a token says of a client

mod claims;
mod keys;

use std::{fmt, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::watched::{WatchError, Watched};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use protocol::Token;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use thiserror::Error;

use self::keys::Key;
use crate::config;

/// Says who a client is by a JSON Web Token in its compact form, signed with HS256, RS256, ES256 or `EdDSA` (Ed25519).
///
/// A key counts for one algorithm: whatever a token says of itself, it is checked by that. The files of the keys are read
/// again when they change.
pub struct Jwt {
    keys: Vec<Watched<Vec<Key>>>,
    rules: [Validation; ALGORITHMS.len()],
    names: config::Claims,
}

/// Why a token lets nobody in. The client is at fault, and is told the words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// It has not the form of one.
    #[error("the token is no JWT")]
    Malformed,
    /// `none`, one that is not taken here, or another than that of the key.
    #[error("the token is signed by an algorithm that is not taken")]
    Algorithm,
    /// There is no key of its `kid`.
    #[error("the token is signed by an unknown key")]
    UnknownKey,
    /// It was not signed by the key that it names.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its `aud` names somebody else.
    #[error("the token is for another service")]
    Audience,
    /// Its `iss` is somebody else.
    #[error("the token is from another issuer")]
    Issuer,
    /// A claim is missing, or is not what it should be.
    #[error("the token's {0}")]
    Claim(String),
}

/// The algorithms by their names in a token.
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

impl Jwt {
    /// Reads the keys of the configuration. Must be called in a tokio runtime.
    pub fn start(config: &config::Auth) -> Result<Self, WatchError> {
        let mut keys = Vec::new();
        if !config.jwks_file.is_empty() {
            keys.push(Watched::start(
                Path::new(&config.jwks_file),
                keys::of_a_set,
            )?);
        }
        if !config.secret_file.is_empty() {
            keys.push(Watched::start(
                Path::new(&config.secret_file),
                keys::of_secrets,
            )?);
        }
        Ok(Self {
            keys,
            rules: ALGORITHMS.map(|(_, algorithm)| rules(config, algorithm)),
            names: config.claims.clone(),
        })
    }

    /// Who shows this token. Its length is for the caller to bound.
    pub fn check(&self, token: &[u8]) -> Result<Token, Refused> {
        let token = std::str::from_utf8(token).map_err(|_| Refused::Malformed)?;
        let head = Head::read(token).ok_or(Refused::Malformed)?;
        let mut named = ALGORITHMS.iter().zip(&self.rules);
        let rules = named.find(|((name, _), _)| *name == head.alg);
        let ((_, algorithm), rules) = rules.ok_or(Refused::Algorithm)?;
        if head.crit.is_some() {
            return Err(Refused::Malformed);
        }
        let mut why = Refused::UnknownKey;
        for file in &self.keys {
            for key in file.get().iter() {
                if !key.may_have_signed(head.kid.as_deref()) {
                    continue;
                }
                if key.algorithm != *algorithm {
                    why = why.or(Refused::Algorithm);
                    continue;
                }
                match jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, rules) {
                    Ok(data) => return claims::read(&data.claims, &self.names),
                    Err(error) => match refusal(error.kind()) {
                        // Another key may have signed it.
                        Refused::Signature => why = Refused::Signature,
                        refused => return Err(refused),
                    },
                }
            }
        }
        Err(why)
    }
}

impl Refused {
    /// The name for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Claim(_) => "claim",
        }
    }

    /// The better reason of two: that there is no such key says the least.
    fn or(self, other: Self) -> Self {
        if self == Self::UnknownKey {
            other
        } else {
            self
        }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// What of a token's header matters.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Parts of the header that must be understood; none are here.
    crit: Option<IgnoredAny>,
}

impl Head {
    /// That of a token of three parts.
    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let head = parts.next()?;
        if parts.count() != 2 {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(head).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

fn rules(config: &config::Auth, algorithm: Algorithm) -> Validation {
    let mut rules = Validation::new(algorithm);
    let (audience, issuer) = (&config.audience, &config.issuer);
    let required = [
        ("exp", config.require_exp),
        ("aud", !audience.is_empty()),
        ("iss", !issuer.is_empty()),
    ];
    let required = required.iter().filter(|(_, is)| *is);
    rules.required_spec_claims = required.map(|(name, _)| (*name).to_owned()).collect();
    rules.validate_exp = true;
    rules.validate_nbf = true;
    rules.validate_aud = true;
    rules.leeway = config.leeway.get().as_secs();
    if !audience.is_empty() {
        rules.set_audience(audience);
    }
    if !issuer.is_empty() {
        rules.set_issuer(issuer);
    }
    rules
}

fn refusal(error: &ErrorKind) -> Refused {
    match error {
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::ExpiredSignature => Refused::Expired,
        ErrorKind::ImmatureSignature => Refused::NotYetValid,
        ErrorKind::InvalidAudience => Refused::Audience,
        ErrorKind::InvalidIssuer => Refused::Issuer,
        ErrorKind::InvalidAlgorithm => Refused::Algorithm,
        ErrorKind::MissingRequiredClaim(name) => Refused::Claim(format!("{name} is missing")),
        ErrorKind::InvalidClaimFormat(name) => Refused::Claim(format!("{name} is no time")),
        _ => Refused::Malformed,
    }
}

#[cfg(test)]
mod tests;
