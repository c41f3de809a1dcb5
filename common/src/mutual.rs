//! TLS between the services: what a gRPC server shows and asks for, and what its callers do.
//!
//! Certificates, keys and authorities are files in PEM that are read again when they change: what is new counts for the
//! connections that begin after it. TLS 1.3 is spoken and nothing older, since services are at both ends.
//!
//! # Layout
//!
//! - [`ServerTls`], [`ClientTls`]: the keys of a configuration
//! - [`Acceptor`]: a server's end of it; [`Dialer`]: a caller's
//! - `files`: what rustls makes of the files
//! - `anyone`: for the question of `--health`

mod anyone;
mod dialer;
mod files;
#[cfg(test)]
mod tests;

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use self::files::Loaded;
pub use self::{dialer::Dialer, files::check_caller};
use crate::{
    config::{Checks, Human},
    ends::Shown,
    watched::{WatchError, Watched},
};

/// `rpcServer.tls`: what a gRPC server shows, and what it asks of callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerTls {
    /// The server's certificate and those above it, in PEM, its own first. Empty: no TLS.
    pub cert_file: String,
    /// The private key of it, in PEM.
    pub private_file: String,
    /// Certificates of authorities, in PEM: one of them must have signed that of a caller. Empty: callers need none.
    pub client_ca_file: String,
    /// How long a caller's handshake may take.
    pub handshake_timeout: Human,
}

/// `rpcClient.tls`: what a caller expects of a gRPC server, and what it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTls {
    /// Certificates of authorities, in PEM: one of them must have signed that of the server. Empty: no TLS.
    pub ca_file: String,
    /// The caller's certificate and those above it, in PEM, its own first. Empty: it shows none.
    pub cert_file: String,
    /// The private key of it, in PEM.
    pub private_file: String,
    /// The name for which the server's certificate must be. Empty: the host of its address.
    pub server_name: String,
}

/// A server's end of TLS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acceptor {
    current: Arc<Watched<Loaded<ServerConfig>>>,
    patience: Duration,
}

impl ServerTls {
    /// Whether callers must speak TLS.
    pub fn is_on(&self) -> bool {
        !self.cert_file.is_empty()
    }

    /// Whether callers must show a certificate.
    pub fn asks(&self) -> bool {
        !self.client_ca_file.is_empty()
    }

    /// Checks the values, whose keys stand under the table `tls`.
    pub fn validate(&self, checks: &mut Checks) {
        let has_key = !self.private_file.is_empty();
        let both = "a path, as privateFile, or both empty";
        checks.that("certFile", &self.cert_file, self.is_on() == has_key, both);
        let path = &self.client_ca_file;
        let unused = "empty, unless certFile is a path";
        checks.that("clientCaFile", path, self.is_on() || !self.asks(), unused);
        let times = Duration::from_millis(100)..=Duration::from_mins(1);
        checks.duration("handshakeTimeout", self.handshake_timeout, times);
    }
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            cert_file: String::new(),
            private_file: String::new(),
            client_ca_file: String::new(),
            handshake_timeout: Human::secs(5),
        }
    }
}

impl ClientTls {
    /// Whether the server must speak TLS.
    pub fn is_on(&self) -> bool {
        !self.ca_file.is_empty()
    }

    /// Checks the values, whose keys stand under the table `tls`.
    pub fn validate(&self, checks: &mut Checks) {
        let (has_certificate, has_key) =
            (!self.cert_file.is_empty(), !self.private_file.is_empty());
        let both = "a path, as privateFile, or both empty";
        checks.that(
            "certFile",
            &self.cert_file,
            has_certificate == has_key,
            both,
        );
        let is_used = self.is_on() || !has_certificate;
        let unused = "empty, unless caFile is a path";
        checks.that("certFile", &self.cert_file, is_used, unused);
        let name = self.server_name.as_str();
        let is_name = ServerName::try_from(name).is_ok() && self.is_on();
        let expected = "a name or an address, with a caFile; or empty";
        checks.that("serverName", name, name.is_empty() || is_name, expected);
    }
}

impl Acceptor {
    /// That of a configuration, if it has TLS. Must be called in a tokio runtime.
    pub fn configured(tls: &ServerTls) -> Result<Option<Self>, WatchError> {
        if !tls.is_on() {
            return Ok(None);
        }
        let mut paths = vec![Path::new(&tls.cert_file), Path::new(&tls.private_file)];
        if tls.asks() {
            paths.push(Path::new(&tls.client_ca_file));
        }
        let file = tls.cert_file.clone();
        let load = move |contents: &[Vec<u8>]| files::of_a_server(&file, contents);
        Ok(Some(Self {
            current: Arc::new(Watched::start_together(&paths, load)?),
            patience: tls.handshake_timeout.get(),
        }))
    }

    /// What callers are shown now.
    pub fn shown(&self) -> Option<Shown> {
        self.current.get().shown.clone()
    }

    /// Shakes hands with a caller.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.get().config));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake takes too long");
        timeout(self.patience, acceptor.accept(stream))
            .await
            .unwrap_or_else(|elapsed| Err(late(elapsed)))
    }
}

/// The cryptography of all TLS here. It is named wherever one is needed, so that no other one in the same process matters.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
