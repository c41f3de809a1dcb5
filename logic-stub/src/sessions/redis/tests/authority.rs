//! An authority for Redis over TLS, with a certificate for this machine and one for callers.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use redis::{ClientTlsConfig, TlsCertificates};

/// What servers behind TLS ask for beside a certificate.
pub(crate) const PASSWORD: &str = "hush";

/// Files that go with the value: `ca.pem`, `server.pem`, `server.key`, `caller.pem`, `caller.key`.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let directory = std::env::temp_dir().join(format!("redis-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&directory).unwrap();
        let authority = Self { directory };
        let mut params = params("authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(authority.path("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        authority.sign("server", &["127.0.0.1"], &issuer);
        authority.sign("caller", &[], &issuer);
        Arc::new(authority)
    }

    /// What a caller shows and believes.
    pub(crate) fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: Some(ClientTlsConfig {
                client_cert: self.read("caller.pem"),
                client_key: self.read("caller.key"),
            }),
            root_cert: Some(self.read("ca.pem")),
        }
    }

    /// Settings of a server, or of a sentinel, at this port.
    pub(super) fn of_a_server(&self, port: String) -> Vec<(&'static str, String)> {
        vec![
            ("port", "0".to_owned()),
            ("tls-port", port),
            ("tls-ca-cert-file", self.path("ca.pem")),
            ("tls-cert-file", self.path("server.pem")),
            ("tls-key-file", self.path("server.key")),
            ("tls-auth-clients", "yes".to_owned()),
            ("tls-replication", "yes".to_owned()),
            ("tls-cluster", "yes".to_owned()),
        ]
    }

    /// Arguments of `redis-cli`.
    pub(super) fn of_a_caller(&self) -> Vec<String> {
        let mut arguments = vec!["--tls".to_owned()];
        for (name, value) in [
            ("--cacert", self.path("ca.pem")),
            ("--cert", self.path("caller.pem")),
            ("--key", self.path("caller.key")),
            ("-a", PASSWORD.to_owned()),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        arguments
    }

    fn sign(&self, name: &str, hosts: &[&str], issuer: &Issuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, hosts).signed_by(&key, issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
