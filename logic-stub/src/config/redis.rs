//! `redis`: where sessions and pushes are kept, for several logic-stubs.

use std::{fmt, path::Path, time::Duration};

use common::{
    config::{Checks, Human},
    ends::Shown,
    mutual::check_caller,
};
use redis::{ClientTlsConfig, TlsCertificates};
use serde::{Deserialize, Serialize};

use super::Config;
use crate::sessions::redis::{Place, PlaceError, Waits};

/// `redis`: where sessions are kept, for several logic-stubs. goim's names where goim has them.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Redis {
    /// `redis://host:port/db`; for a cluster, `redis+cluster://host:port,host:port`; for a master with sentinels,
    /// `redis+sentinel://host:port,host:port/master/db`; each with `user:password@` before the first host. Empty: what goim's
    /// `addr` says; if that is empty too, sessions are kept in memory.
    pub url: String,
    /// goim's `host:port`.
    pub addr: String,
    /// goim's password for `addr`.
    pub auth: String,
    /// The password that sentinels themselves ask for.
    pub sentinel_auth: String,
    /// The authorities that Redis's certificates must be from, in PEM. Empty: the system's.
    pub ca_file: String,
    /// Our own certificate, where Redis asks for one, and those above it, in PEM, its own first. Empty: we show none.
    pub cert_file: String,
    /// Its key, in PEM.
    pub private_file: String,
    /// Longest time for a connection to come about. Redis is near: goim has 200 ms.
    pub dial_timeout: Human,
    /// Longest time for an answer. Redis forks for its snapshots and may be silent for some 100 ms; a comet waits for 3 s.
    pub read_timeout: Human,
    /// Longest pause between attempts to connect again.
    pub reconnect_delay: Human,
    /// So long a sum of all room counts is good for. 100 comets with 10,000 rooms of 40 bytes each are 40 MB to read; goim reads
    /// them every 10 s.
    pub room_counts: Human,
}

impl Config {
    /// Where sessions are kept: nowhere but in memory, if neither address is set.
    pub fn store_place(&self) -> Result<Option<Place>, PlaceError> {
        let Redis {
            url,
            addr,
            auth,
            sentinel_auth,
            ..
        } = &self.redis;
        let place = match (url.as_str(), addr.as_str()) {
            ("", "") => return Ok(None),
            ("", addr) => Place::of_goim(addr, auth)?,
            (url, _) => Place::parse(url)?,
        };
        Ok(Some(place.with_sentinel_password(sentinel_auth)))
    }

    /// How long Redis is waited for.
    pub fn store_waits(&self) -> Waits {
        Waits {
            dial: self.redis.dial_timeout.get(),
            answer: self.redis.read_timeout.get(),
            pause: self.redis.reconnect_delay.get(),
            room_counts: self.redis.room_counts.get(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: String::new(),
            addr: String::new(),
            auth: String::new(),
            sentinel_auth: String::new(),
            ca_file: String::new(),
            cert_file: String::new(),
            private_file: String::new(),
            dial_timeout: Human::millis(500),
            read_timeout: Human::secs(1),
            reconnect_delay: Human::secs(1),
            room_counts: Human::secs(2),
        }
    }
}

impl Redis {
    /// The files of TLS to Redis, as far as they are named.
    pub(crate) fn files(&self) -> Vec<&Path> {
        let names = [&self.ca_file, &self.cert_file, &self.private_file];
        let files = names.into_iter().filter(|name| !name.is_empty());
        files.map(Path::new).collect()
    }

    /// What is in [`Self::files`]: what is shown to Redis and until when that is valid, and what its certificates must be from. An
    /// error says what is wrong.
    pub(crate) fn certificates(
        &self,
        contents: &[Vec<u8>],
    ) -> Result<(TlsCertificates, Option<Shown>), String> {
        let mut contents = contents.iter();
        let mut next = |name: &str| (!name.is_empty()).then(|| contents.next()).flatten();
        let root_cert = next(&self.ca_file);
        let pair = next(&self.cert_file).zip(next(&self.private_file));
        let slices = pair.map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
        let shown = check_caller(root_cert.map(Vec::as_slice), slices, &self.cert_file)?;
        let client_tls = pair.map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone(),
            client_key: key.clone(),
        });
        let certificates = TlsCertificates {
            client_tls,
            root_cert: root_cert.cloned(),
        };
        Ok((certificates, shown))
    }

    pub(super) fn validate(&self, checks: &mut Checks) {
        let times = || Duration::from_millis(1)..=Duration::from_mins(1);
        let both = self.cert_file.is_empty() == self.private_file.is_empty();
        let expected = "a path, as redis.privateFile, or both empty";
        checks.that("redis.certFile", &self.cert_file, both, expected);
        checks.duration("redis.dialTimeout", self.dial_timeout, times());
        checks.duration("redis.readTimeout", self.read_timeout, times());
        checks.duration("redis.reconnectDelay", self.reconnect_delay, times());
        let counts = Duration::ZERO..=Duration::from_mins(1);
        checks.duration("redis.roomCounts", self.room_counts, counts);
    }
}

impl fmt::Debug for Redis {
    /// Leaves out what may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("addr", &self.addr)
            .field("dial_timeout", &self.dial_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("reconnect_delay", &self.reconnect_delay)
            .field("room_counts", &self.room_counts)
            .finish_non_exhaustive()
    }
}
