//! A certificate, the chain above it, and its key.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use thiserror::Error;

use crate::ends::Shown;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where a pair lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate and those above it, in PEM, its own first.
    pub certificate: PathBuf,
    /// Its private key, in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why a pair cannot be used; the operator is at fault.
#[derive(Debug, Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{}: {error}", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {why}", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together, or the key is of a kind that cannot be used.
    #[error("{} with {}: {why}", .files.certificate.display(), .files.key.display())]
    Mismatch {
        /// Which.
        files: PairFiles,
        /// What is wrong.
        why: rustls::Error,
    },
    /// The certificate is not valid any more.
    #[error("{}: the certificate has ended", .file.display())]
    Ended {
        /// Which.
        file: PathBuf,
    },
    /// There are not as many keys as certificates.
    #[error("{certificates} certificate files, but {keys} key files: each certificate has its own")]
    Count {
        /// Files of certificates.
        certificates: usize,
        /// Files of keys.
        keys: usize,
    },
    /// No pair at all.
    #[error("no certificate is named")]
    None,
    /// A certificate for development could not be made.
    #[error("no development certificate could be made: {0}")]
    Development(String),
}

/// A certificate with its key, ready to be used.
#[derive(Debug)]
pub struct Pair {
    shown: Shown,
    certified: Arc<CertifiedKey>,
    /// Of the contents of its files.
    pub(super) fingerprint: u64,
}

/// The contents of a pair's two files.
#[derive(Debug, Hash)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl PairFiles {
    /// Pairs from goim's two lists: file names with commas between them, the first certificate with the first key.
    pub fn from_lists(certificates: &str, keys: &str) -> Result<Vec<Self>, PairError> {
        let names = |list: &'_ str| -> Vec<PathBuf> {
            let names = list.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(PathBuf::from)
                .collect()
        };
        let (certificates, keys) = (names(certificates), names(keys));
        if certificates.len() != keys.len() {
            return Err(PairError::Count {
                certificates: certificates.len(),
                keys: keys.len(),
            });
        }
        let pairs = certificates.into_iter().zip(keys);
        Ok(pairs
            .map(|(certificate, key)| Self { certificate, key })
            .collect())
    }

    pub(super) fn read(&self) -> Result<Contents, PairError> {
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }
}

impl Contents {
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Pair {
    /// Reads a pair.
    pub(super) fn load(files: &PairFiles) -> Result<Self, PairError> {
        Self::parse(files, &files.read()?)
    }

    pub(super) fn parse(files: &PairFiles, contents: &Contents) -> Result<Self, PairError> {
        let content = |file: &Path, why: String| PairError::Content {
            file: file.to_owned(),
            why,
        };
        let chain = CertificateDer::pem_slice_iter(&contents.certificate);
        let chain = chain
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| content(&files.certificate, error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| {
            content(
                &files.certificate,
                "no certificate in PEM is in it".to_owned(),
            )
        })?;
        let shown = Shown::read(files.certificate.display().to_string(), leaf)
            .map_err(|why| content(&files.certificate, why))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| content(&files.key, format!("no private key in PEM: {error}")))?;
        let mismatch = |why| PairError::Mismatch {
            files: files.clone(),
            why,
        };
        let certified = CertifiedKey::from_der(chain, key, &super::provider()).map_err(mismatch)?;
        Ok(Self {
            shown,
            certified: Arc::new(certified),
            fingerprint: contents.fingerprint(),
        })
    }

    /// Signed by itself, until the end of the next year.
    pub(super) fn development() -> Result<Self, PairError> {
        let wrong = |error: rcgen::Error| PairError::Development(error.to_string());
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = rcgen::CertificateParams::new(names).map_err(wrong)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "development certificate");
        let year = this_year();
        params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
        let key = rcgen::KeyPair::generate().map_err(wrong)?;
        let certificate = params.self_signed(&key).map_err(wrong)?;
        let files = PairFiles {
            certificate: "development".into(),
            key: "development".into(),
        };
        let contents = Contents {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        };
        Self::parse(&files, &contents)
    }

    /// The file of its certificate, or `development`.
    pub fn name(&self) -> &str {
        &self.shown.file
    }

    /// Whom the certificate is for, as `CN=push.example.com`; empty if it says so by its alternative names alone.
    pub fn subject(&self) -> &str {
        &self.shown.subject
    }

    /// Until when it is valid, in seconds since 1970.
    pub fn ends(&self) -> i64 {
        self.shown.ends
    }

    /// The same together.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// What TLS needs of it.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    pub(super) fn has_ended(&self) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.unwrap_or_default().as_secs();
        i64::try_from(now).is_ok_and(|now| self.shown.ends < now)
    }

    /// Whether the certificate names this host, also by `*.` in front of a domain.
    pub(super) fn is_for(&self, name: &ServerName<'_>) -> bool {
        let leaf = self.certified.cert.first();
        let leaf = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        leaf.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}

fn read(file: &Path) -> Result<Vec<u8>, PairError> {
    let read = || {
        if fs::metadata(file)?.len() > MAX_FILE {
            return Err(io::Error::other(format!(
                "it has more than {MAX_FILE} bytes"
            )));
        }
        fs::read(file)
    };
    read().map_err(|error| PairError::Read {
        file: file.to_owned(),
        error,
    })
}

/// Of the calendar, as nearly as an end two years away needs it.
fn this_year() -> i32 {
    const YEAR: Duration = Duration::from_secs(31_556_952);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let years = since.unwrap_or_default().as_secs() / YEAR.as_secs();
    i32::try_from(1970 + years).unwrap_or(2026)
}
