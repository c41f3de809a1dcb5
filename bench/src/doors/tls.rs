//! TLS as a client needs it here: whoever the server says it is, and each connection with a whole handshake.

use std::{
    io::{self, Read as _, Write as _},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// One connection's side of TLS.
#[derive(Debug)]
pub struct Tls(Box<ClientConnection>);

impl Tls {
    /// With a hello to be flushed.
    pub fn new() -> Result<Self, Error> {
        let name = ServerName::try_from("localhost").map_err(|_| Error::UnsupportedNameType)?;
        let connection = ClientConnection::new(config()?, name)?;
        Ok(Self(Box::new(connection)))
    }

    /// Takes what came, and appends what it holds to `plain`. There may be answers to be flushed.
    pub fn open(&mut self, mut input: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !input.is_empty() {
            if self.0.read_tls(&mut input)? == 0 {
                // The server has said its last word: what comes behind it means nothing.
                return Ok(());
            }
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[start..])?;
        }
        Ok(())
    }

    /// Encrypts this, to be flushed; during the handshake, as soon as that is over.
    pub fn seal(&mut self, plain: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(plain)
    }

    /// Writes what waits. What clients send is far smaller than any socket's buffer: one that does not take it at once has failed.
    pub fn flush(&mut self, socket: &mut impl io::Write) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(socket)?;
        }
        Ok(())
    }
}

fn config() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Trusts every server: what is measured is a server of one's own.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
