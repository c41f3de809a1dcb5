//! Whose signatures count: the keys of a JSON Web Key Set (RFC 7517), and secrets.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Keys in a file: a few for each rotation under way. A token without a `kid` is checked against each of its algorithm.
const MAX_KEYS: usize = 64;
/// Bytes of a secret: those of the hash (RFC 7518 section 3.2).
const MIN_SECRET: usize = 32;
/// Bytes of an RSA key's modulus: 2048 bits (RFC 7518 section 3.3).
const MIN_MODULUS: usize = 256;
/// Bytes of a coordinate of P-256, and of a key of Ed25519.
const COORDINATE: usize = 32;

/// A key, and the one algorithm that it counts for.
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// Whether it may be the key that a token means. One that has no id may be any.
    pub(super) fn may_have_signed(&self, id: Option<&str>) -> bool {
        match (self.id.as_deref(), id) {
            (Some(mine), Some(wanted)) => mine == wanted,
            _ => true,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The keys of a set. Those that are for something else are left out, which the log says; with none left it is no set.
pub(super) fn of_a_set(content: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(content)
        .map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let mut keys = Vec::new();
    for (index, key) in set.keys.into_iter().enumerate() {
        match of_a_jwk(key) {
            Ok(key) => keys.push(key),
            Err(why) => tracing::warn!(index, why, "a key of a JSON Web Key Set is left out"),
        }
    }
    bounded(keys)
}

/// The secrets of a file, one a line.
pub(super) fn of_secrets(content: &[u8]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let secret = line.trim();
        if secret.is_empty() || secret.starts_with('#') {
            continue;
        }
        if secret.len() < MIN_SECRET {
            let line = index + 1;
            return Err(format!(
                "line {line}: a secret has {MIN_SECRET} bytes at least"
            ));
        }
        keys.push(Key {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        });
    }
    bounded(keys)
}

fn bounded(keys: Vec<Key>) -> Result<Vec<Key>, String> {
    match keys.len() {
        0 => Err("it has no key".to_owned()),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(format!("it has more than {MAX_KEYS} keys")),
    }
}

fn of_a_jwk(key: Value) -> Result<Key, &'static str> {
    let jwk: Jwk = serde_json::from_value(key).map_err(|_| "of a kind that is not taken")?;
    let common = &jwk.common;
    let for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|of| *of == PublicKeyUse::Signature);
    let for_checks = common
        .key_operations
        .as_ref()
        .is_none_or(|may| may.contains(&KeyOperations::Verify));
    if !for_signatures || !for_checks {
        return Err("not for checking signatures");
    }
    let algorithm = algorithm(&jwk)?;
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| "malformed")?;
    Ok(Key {
        id: jwk.common.key_id,
        algorithm,
        decoding,
    })
}

/// The algorithm of a key, if it is one that is taken and the key is good enough for it.
fn algorithm(jwk: &Jwk) -> Result<Algorithm, &'static str> {
    let named = jwk.common.key_algorithm;
    let (algorithm, name, is_good) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let is_good = length(&rsa.n) >= MIN_MODULUS;
            (Algorithm::RS256, KeyAlgorithm::RS256, is_good)
        }
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => {
            let is_good = length(&point.x) == COORDINATE && length(&point.y) == COORDINATE;
            (Algorithm::ES256, KeyAlgorithm::ES256, is_good)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            let is_good = length(&pair.x) == COORDINATE;
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA, is_good)
        }
        AlgorithmParameters::OctetKey(secret) => {
            let is_good = length(&secret.value) >= MIN_SECRET;
            (Algorithm::HS256, KeyAlgorithm::HS256, is_good)
        }
        _ => return Err("of a kind that is not taken"),
    };
    if named.is_some_and(|named| named != name) {
        return Err("for an algorithm that is not taken");
    }
    if is_good {
        Ok(algorithm)
    } else {
        Err("too short, or malformed")
    }
}

/// Bytes of a value in base64; 0 if it is none.
fn length(value: &str) -> usize {
    URL_SAFE_NO_PAD.decode(value).map_or(0, |bytes| bytes.len())
}
