//! What rustls makes of files in PEM.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::provider;
use crate::ends::Shown;

/// What gRPC speaks: HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// What files come to.
#[derive(Debug)]
pub(super) struct Loaded<C> {
    /// As rustls has it.
    pub(super) config: Arc<C>,
    /// What the other end is shown, if that is something.
    pub(super) shown: Option<Shown>,
}

/// Of a certificate, which is from `file`, its key, and perhaps the authorities of callers. A caller without a certificate gets a
/// connection all the same: what it may call there is for the service to say.
pub(super) fn of_a_server(
    file: &str,
    contents: &[Vec<u8>],
) -> Result<Loaded<ServerConfig>, String> {
    let [certificate, key, authorities @ ..] = contents else {
        return Err("a certificate and a key are needed".to_owned());
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(in_words)?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let roots = Arc::new(roots(authorities)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build();
            builder.with_client_cert_verifier(verifier.map_err(in_words)?)
        }
    };
    let chain = chain(certificate)?;
    let shown = shown(file, &chain)?;
    let config = builder.with_single_cert(chain, private_key(key)?);
    let mut config = config.map_err(in_words)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A session that is resumed would outlive the authority that its caller's certificate is from.
    config.send_tls13_tickets = 0;
    Ok(Loaded {
        config: Arc::new(config),
        shown,
    })
}

/// Of the authorities of servers, and perhaps of a certificate, which is from `file`, and its key.
pub(super) fn of_a_client(
    file: &str,
    contents: &[Vec<u8>],
) -> Result<Loaded<ClientConfig>, String> {
    let (authorities, pair) = contents.split_first().ok_or("authorities are needed")?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(in_words)?
        .with_root_certificates(roots(authorities)?);
    let (mut config, shown) = match pair {
        [certificate, key] => {
            let chain = chain(certificate)?;
            let shown = shown(file, &chain)?;
            let config = builder.with_client_auth_cert(chain, private_key(key)?);
            (config.map_err(in_words)?, shown)
        }
        _ => (builder.with_no_client_auth(), None),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        shown,
    })
}

/// Says what is wrong with the authorities of servers, or with a certificate and its key, for callers whose TLS is made elsewhere.
/// Returns until when the certificate, which is from `file`, is valid.
pub fn check_caller(
    authorities: Option<&[u8]>,
    pair: Option<(&[u8], &[u8])>,
    file: &str,
) -> Result<Option<Shown>, String> {
    let roots = authorities.map_or_else(|| Ok(RootCertStore::empty()), roots)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(in_words)?
        .with_root_certificates(roots);
    let Some((certificate, key)) = pair else {
        return Ok(None);
    };
    let chain = chain(certificate)?;
    let shown = shown(file, &chain)?;
    let checked = builder.with_client_auth_cert(chain, private_key(key)?);
    checked.map_err(in_words)?;
    Ok(shown)
}

fn chain(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no certificate is in it".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("a certificate is malformed: {error}")),
    }
}

/// The first of a chain.
fn shown(file: &str, chain: &[CertificateDer<'_>]) -> Result<Option<Shown>, String> {
    let first = chain.first();
    let shown = first.map(|first| Shown::read(file.to_owned(), first));
    let malformed = |error| format!("a certificate is malformed: {error}");
    shown.transpose().map_err(malformed)
}

fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| format!("no private key: {error}"))
}

fn roots(content: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in chain(content)? {
        let added = roots.add(authority);
        added.map_err(|error| format!("an authority cannot be used: {error}"))?;
    }
    Ok(roots)
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
