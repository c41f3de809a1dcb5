//! Keys of each kind, and the tokens that they sign.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key with an id.
pub struct Signer {
    pub id: String,
    pub algorithm: &'static str,
    key: Key,
}

enum Key {
    Secret(String),
    Rsa(RsaKeyPair),
    Point(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl Signer {
    pub fn hs256(id: &str, secret: &str) -> Self {
        Self::of(id, "HS256", Key::Secret(secret.to_owned()))
    }

    pub fn rs256(id: &str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self::of(id, "RS256", Key::Rsa(key))
    }

    pub fn es256(id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::of(id, "ES256", Key::Point(key))
    }

    pub fn eddsa(id: &str) -> Self {
        Self::of(
            id,
            "EdDSA",
            Key::Edwards(Ed25519KeyPair::generate().unwrap()),
        )
    }

    fn of(id: &str, algorithm: &'static str, key: Key) -> Self {
        Self {
            id: id.to_owned(),
            algorithm,
            key,
        }
    }

    /// What others need to check its signatures.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Secret(secret) => json!({"kty": "oct", "k": b64(secret)}),
            Key::Rsa(key) => {
                let public = key.public_key();
                let n = public.modulus();
                let e = public.exponent();
                json!({
                    "kty": "RSA",
                    "n": b64(n.big_endian_without_leading_zero()),
                    "e": b64(e.big_endian_without_leading_zero()),
                })
            }
            Key::Point(key) => {
                // 4, and both coordinates.
                let point = &key.public_key().as_ref()[1..];
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[..32]), "y": b64(&point[32..])})
            }
            Key::Edwards(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// A token of these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let head = json!({"alg": self.algorithm, "typ": "JWT", "kid": self.id});
        self.sign_as(&head, claims)
    }

    /// A token with a head of its own.
    pub fn sign_as(&self, head: &Value, claims: &Value) -> String {
        self.seal(&format!(
            "{}.{}",
            b64(head.to_string()),
            b64(claims.to_string())
        ))
    }

    /// A token of these two parts.
    pub fn seal(&self, message: &str) -> String {
        let signature = self.signature(message.as_bytes());
        format!("{message}.{}", b64(signature))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Key::Point(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Edwards(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// The file of these keys.
pub fn set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// So many seconds from now.
pub fn time(seconds: i64) -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    i64::try_from(now.map_or(0, |now: Duration| now.as_secs())).unwrap() + seconds
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
