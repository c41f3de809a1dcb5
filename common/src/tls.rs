//! TLS for servers: certificates by the name that a client asks for, read again when their files change.
//!
//! # Layout
//!
//! - [`Certificates`]: the pairs of certificate and key that a server has now
//! - `pair`: one pair, from its files or made here for development
//! - `reload`: following the files

mod pair;
mod reload;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use serde::{Deserialize, Serialize};

pub use self::{
    pair::{Pair, PairError, PairFiles},
    reload::Reload,
};
use crate::ends::Shown;

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    Tls13,
}

/// The cryptography of all TLS here. It is named wherever one is needed, so that no other one in the same process matters.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The pairs that a server has, of which the client's hello chooses: the first that is for the name it asks for (SNI), else
/// the first of all; of those, one whose kind of key the client knows.
#[derive(Debug)]
pub struct Certificates {
    pairs: ArcSwap<Vec<Arc<Pair>>>,
    /// Where they come from, in the same order; none for a development certificate.
    files: Vec<PairFiles>,
}

impl Certificates {
    /// Reads the pairs, of which there must be at least one. A certificate that has ended is taken with a warning.
    pub fn load(files: Vec<PairFiles>) -> Result<Arc<Self>, PairError> {
        let pairs = files.iter().map(|files| Pair::load(files).map(Arc::new));
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        if pairs.is_empty() {
            return Err(PairError::None);
        }
        for pair in pairs.iter().filter(|pair| pair.has_ended()) {
            tracing::error!(
                file = pair.name(),
                subject = pair.subject(),
                "a certificate has ended: clients will refuse it"
            );
        }
        Ok(Arc::new(Self {
            pairs: ArcSwap::from_pointee(pairs),
            files,
        }))
    }

    /// A pair made on the spot for `localhost`, `127.0.0.1` and `::1`, signed by itself. It lives as long as this value.
    pub fn development() -> Result<Arc<Self>, PairError> {
        let pairs = vec![Arc::new(Pair::development()?)];
        Ok(Arc::new(Self {
            pairs: ArcSwap::from_pointee(pairs),
            files: Vec::new(),
        }))
    }

    /// The pairs as they are now.
    pub fn pairs(&self) -> Arc<Vec<Arc<Pair>>> {
        self.pairs.load_full()
    }

    /// What their certificates are, as they are now.
    pub fn shown(&self) -> Vec<Shown> {
        let pairs = self.pairs.load();
        pairs.iter().map(|pair| pair.shown().clone()).collect()
    }

    /// How a server speaks TLS with these, without asking clients for certificates. `protocols` are those of ALPN; none: it is
    /// not answered.
    ///
    /// A session is resumed by a ticket that the client keeps: a server remembers none.
    pub fn server_config(
        self: &Arc<Self>,
        min_version: MinVersion,
        protocols: &[&[u8]],
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    /// The pair for a name, of those whose key `can_sign`.
    fn choose(&self, name: Option<&str>, can_sign: impl Fn(&Pair) -> bool) -> Option<Arc<Pair>> {
        let pairs = self.pairs.load();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| {
            let is_for = |pair: &&Arc<Pair>| can_sign(pair) && pair.is_for(&name);
            pairs.iter().find(is_for)
        });
        let default = || pairs.iter().find(|pair| can_sign(pair));
        named.or_else(default).or(pairs.first()).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let can_sign = |pair: &Pair| pair.certified().key.choose_scheme(schemes).is_some();
        let pair = self.choose(hello.server_name(), can_sign)?;
        Some(Arc::clone(pair.certified()))
    }
}
