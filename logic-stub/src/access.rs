//! Who may call, and what those are shown who are called: the files that the configuration names.

use common::{
    bearer::{Credential, Tokens},
    ends::Ends,
    mutual::{Acceptor, Dialer},
    watched::WatchError,
};
use thiserror::Error;

use crate::{
    auth::Jwt,
    config::{AuthMode, Config},
};

/// The tokens, keys and certificates of one logic-stub. Each file is read again when it changes.
#[derive(Debug, Default)]
pub struct Access {
    /// Those of which whoever calls the gRPC service shows one; none are asked for without.
    pub callers: Option<Tokens>,
    /// Those of which whoever calls the HTTP API shows one; none are asked for without.
    pub pushers: Option<Tokens>,
    /// How the gRPC service speaks TLS; it does not without.
    pub acceptor: Option<Acceptor>,
    /// What comets are shown.
    pub credential: Credential,
    /// How comets are connected to.
    pub dialer: Dialer,
    /// What says who a client is; [`crate::Business`] does without.
    pub clients: Option<Jwt>,
}

/// A file that cannot be used at the start; the operator is at fault.
#[derive(Debug, Error)]
#[error("{key}: {error}")]
pub struct AccessError {
    key: &'static str,
    error: WatchError,
}

impl Access {
    /// Reads the files. Must be called in a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, AccessError> {
        let named = |key| move |error| AccessError { key, error };
        let callers = Tokens::configured(&config.rpc_server.token_file);
        let pushers = Tokens::configured(&config.http_server.token_file);
        let credential = Credential::configured(&config.rpc_client.token_file);
        let acceptor = Acceptor::configured(&config.rpc_server.tls);
        let dialer = Dialer::configured(&config.rpc_client.tls);
        let clients = match config.auth.mode {
            AuthMode::Open => None,
            AuthMode::Jwt => Some(Jwt::start(&config.auth).map_err(named("auth"))?),
        };
        Ok(Self {
            clients,
            callers: callers.map_err(named("rpcServer.tokenFile"))?,
            pushers: pushers.map_err(named("httpServer.tokenFile"))?,
            acceptor: acceptor.map_err(named("rpcServer.tls"))?,
            credential: credential.map_err(named("rpcClient.tokenFile"))?,
            dialer: dialer.map_err(named("rpcClient.tls"))?,
        })
    }

    /// Has the certificates that comets are shown in the metrics.
    pub fn show(&self, ends: &Ends) {
        if let Some(acceptor) = self.acceptor.clone() {
            ends.add(move || acceptor.shown());
        }
        let dialer = self.dialer.clone();
        ends.add(move || dialer.shown());
    }
}
