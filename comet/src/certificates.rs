//! The certificates of the doors behind TLS: what the configuration names, followed while it runs, and what is counted of that.

use std::sync::Arc;

use anyhow::Context as _;
use common::tls::{Certificates, PairFiles, Reload};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, metrics::Metrics, transport::tls::Acceptor};

/// How the doors behind TLS accept.
#[derive(Debug)]
pub(crate) struct Acceptors {
    /// For goim's frames.
    pub(crate) tcp: Acceptor,
    /// For HTTP, which is agreed on by ALPN.
    pub(crate) http: Acceptor,
}

/// Loads the certificates and follows them until `over`; nothing if no door is behind TLS. An error names the file.
pub(crate) fn start(
    config: &Config,
    metrics: &Arc<Metrics>,
    over: &CancellationToken,
) -> anyhow::Result<Option<Acceptors>> {
    if !config.has_tls() {
        return Ok(None);
    }
    let certificates = load(config)?;
    let min_version = config.tls.min_version;
    let acceptor = |protocols: &[&[u8]]| {
        let server = certificates.server_config(min_version, protocols);
        server.map(Acceptor::new).context("TLS")
    };
    let acceptors = Acceptors {
        tcp: acceptor(&[])?,
        http: acceptor(&[b"http/1.1"])?,
    };
    let (metrics, shown) = (Arc::clone(metrics), Arc::clone(&certificates));
    metrics.certificates.add(move || shown.shown());
    let following = certificates.follow(config.tls.reload.get(), move |reload| {
        let result = match reload {
            Reload::Taken(_) => "taken",
            Reload::Refused(_) => "refused",
        };
        metrics.tls_reloads(result).inc();
    });
    tokio::spawn(over.clone().run_until_cancelled_owned(following));
    Ok(Some(acceptors))
}

fn load(config: &Config) -> anyhow::Result<Arc<Certificates>> {
    if config.tls.development_certificate {
        tracing::warn!(
            "tls.developmentCertificate: a certificate is made that no client trusts by itself; for development only"
        );
        return Ok(Certificates::development()?);
    }
    let (certificates, keys) = (&config.websocket.cert_file, &config.websocket.private_file);
    let files = PairFiles::from_lists(certificates, keys);
    files
        .and_then(Certificates::load)
        .context("websocket.certFile, websocket.privateFile")
}
