//! `auth`: who a client is.

use std::time::Duration;

use common::config::{Checks, Human};
use serde::{Deserialize, Serialize};

/// The longest name of a claim, in bytes.
const MAX_NAME: usize = 256;

/// `auth`: how logic-stub knows who a client is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Auth {
    /// What the token of a login is.
    pub mode: AuthMode,
    /// A JSON Web Key Set: whose signatures count.
    pub jwks_file: String,
    /// Secrets for HS256, one a line.
    pub secret_file: String,
    /// Whom a token must be for: its `aud` names one of these. Empty: it names nobody.
    pub audience: Vec<String>,
    /// Who must have issued it: its `iss` is one of these. Empty: anyone.
    pub issuer: Vec<String>,
    /// Whether a token must say when it expires.
    pub require_exp: bool,
    /// By how much the clocks of issuer and logic-stub may differ.
    pub leeway: Human,
    /// The names of claims.
    pub claims: Claims,
}

/// What the token of a login is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// What [`crate::Business::authenticate`] takes; if nobody says otherwise, goim's JSON, which is believed as it stands.
    #[default]
    Open,
    /// A JWT that is signed by a known key.
    Jwt,
}

/// Which claim of a JWT says what. One with an empty name is not looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Claims {
    /// The user: an integer, or one as text, as `sub` is.
    pub mid: String,
    /// The connection's name.
    pub key: String,
    /// The room to join.
    pub room_id: String,
    /// `web`, `ios`, ...
    pub platform: String,
    /// The operations that the connection accepts: a list of integers.
    pub accepts: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Open,
            jwks_file: String::new(),
            secret_file: String::new(),
            audience: Vec::new(),
            issuer: Vec::new(),
            require_exp: true,
            leeway: Human::secs(30),
            claims: Claims::default(),
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            mid: "mid".to_owned(),
            key: "key".to_owned(),
            room_id: "room_id".to_owned(),
            platform: "platform".to_owned(),
            accepts: "accepts".to_owned(),
        }
    }
}

impl Auth {
    pub(super) fn validate(&self, checks: &mut Checks) {
        let has_keys = !self.jwks_file.is_empty() || !self.secret_file.is_empty();
        checks.that(
            "auth.mode",
            "jwt",
            self.mode == AuthMode::Open || has_keys,
            "open, unless auth.jwksFile or auth.secretFile names a file",
        );
        let minutes = Duration::from_mins(10);
        checks.duration("auth.leeway", self.leeway, Duration::ZERO..=minutes);
        let claims = &self.claims;
        for (key, name, least) in [
            ("auth.claims.mid", &claims.mid, 1),
            ("auth.claims.key", &claims.key, 0),
            ("auth.claims.roomId", &claims.room_id, 0),
            ("auth.claims.platform", &claims.platform, 0),
            ("auth.claims.accepts", &claims.accepts, 0),
        ] {
            let fits = (least..=MAX_NAME).contains(&name.len());
            checks.that(key, name, fits, "the name of a claim");
        }
    }
}
