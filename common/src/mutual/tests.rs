use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use tokio::net::TcpListener;
use tonic::{
    body::Body,
    transport::{Channel, Server},
};
use tower::{Service as _, ServiceExt as _};

use super::*;
use crate::{bearer::Guard, health, incoming::Incoming, listen::Callers};

/// An authority, and a directory for what it signs, which goes with the test.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::named(name, name)
    }

    fn named(dir: &str, name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mutual-{dir}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a certificate for these hosts, and its key.
    fn sign(&self, name: &str, hosts: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, hosts).signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A server with a certificate for the loopback address, which asks callers for theirs.
    fn server(&self) -> ServerTls {
        self.sign("server", &["127.0.0.1"]);
        ServerTls {
            cert_file: self.path("server.pem"),
            private_file: self.path("server.key"),
            client_ca_file: self.path("ca.pem"),
            ..ServerTls::default()
        }
    }

    /// A caller that shows a certificate.
    fn client(&self) -> ClientTls {
        self.sign("client", &["client.example"]);
        ClientTls {
            cert_file: self.path("client.pem"),
            private_file: self.path("client.key"),
            ..self.stranger()
        }
    }

    /// A caller that shows nothing.
    fn stranger(&self) -> ClientTls {
        ClientTls {
            ca_file: self.path("ca.pem"),
            ..ClientTls::default()
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A gRPC server with the health service alone.
struct Serving {
    addr: SocketAddr,
    /// Handshakes that failed.
    failed: Arc<AtomicU64>,
    /// Why calls were refused.
    refused: Arc<Mutex<Vec<&'static str>>>,
}

impl Serving {
    async fn start(tls: &ServerTls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (failed, refused) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (counted, told) = (Arc::clone(&failed), Arc::clone(&refused));
        let on_failed = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let guard = Guard::new(None, tls.asks(), move |refused| {
            told.lock().push(refused.label());
        });
        let (reporter, service) = tonic_health::server::health_reporter();
        let ready = tonic_health::ServingStatus::Serving;
        reporter.set_service_status(health::READY, ready).await;
        let acceptor = Acceptor::configured(tls).unwrap();
        let stuck = Duration::from_mins(1);
        let incoming = Incoming::new(listener, 16, stuck, acceptor, on_failed);
        let server = Server::builder().layer(guard).add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self {
            addr,
            failed,
            refused,
        }
    }

    /// The gRPC status of a call of something that the server does not have.
    async fn call(&self, tls: &ClientTls) -> Result<String, String> {
        let dialer = Dialer::configured(tls).unwrap();
        let endpoint = dialer.endpoint(self.addr).unwrap();
        let channel = within(dialer.connect(&endpoint)).await;
        call(channel.map_err(|error| format!("{error:?}"))?).await
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Passed, and there is no such call.
const PASSED: &str = "12";
const UNAUTHENTICATED: &str = "16";

async fn call(mut channel: Channel) -> Result<String, String> {
    let request = http::Request::post("/any.Service/Call")
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap();
    let answer = async { channel.ready().await?.call(request).await };
    let answer = within(answer).await.map_err(|error| format!("{error:?}"))?;
    let status = answer.headers().get("grpc-status").unwrap();
    Ok(status.to_str().unwrap().to_owned())
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_mins(1), what).await.unwrap()
}

async fn until(is_so: impl AsyncFn() -> bool) {
    within(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_shows_a_certificate_of_the_authority_gets_in_and_nobody_else() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let serving = Serving::start(&ours.server()).await;
    let passed = Ok(PASSED.to_owned());
    assert_eq!(serving.call(&ours.client()).await, passed);
    assert_eq!((serving.failed(), serving.refused.lock().len()), (0, 0));

    // No certificate.
    let refused = serving.call(&ours.stranger()).await;
    assert_eq!(refused, Ok(UNAUTHENTICATED.to_owned()));
    assert_eq!(*serving.refused.lock(), ["no_certificate"]);
    // One of another authority, or of one that has its name.
    let impostor = Authority::named("impostor", "ours");
    for other in [&theirs, &impostor] {
        let shown = ClientTls {
            ca_file: ours.path("ca.pem"),
            ..other.client()
        };
        assert!(serving.call(&shown).await.is_err());
    }
    until(async || serving.failed() == 2).await;
    // No TLS at all.
    assert!(serving.call(&ClientTls::default()).await.is_err());
    until(async || serving.failed() == 3).await;
    assert_eq!(serving.refused.lock().len(), 1);
    assert_eq!(serving.call(&ours.client()).await, passed);
}

#[tokio::test]
async fn a_caller_speaks_to_the_server_that_it_means_and_to_nobody_else() {
    let (ours, theirs) = (Authority::new("meant"), Authority::new("other"));
    let serving = Serving::start(&ours.server()).await;
    let named = |name: &str| ClientTls {
        server_name: name.to_owned(),
        ..ours.client()
    };
    let why = serving.call(&named("other.example")).await.unwrap_err();
    assert!(why.contains("NotValidForName"), "{why}");
    let other = ClientTls {
        ca_file: theirs.path("ca.pem"),
        ..ours.client()
    };
    let why = serving.call(&other).await.unwrap_err();
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert_eq!(
        serving.call(&named("127.0.0.1")).await.as_deref(),
        Ok(PASSED)
    );

    // A server without TLS.
    let plain = Serving::start(&ServerTls::default()).await;
    assert!(plain.call(&ours.client()).await.is_err());
    let unproven = plain.call(&ClientTls::default()).await;
    assert_eq!(unproven.as_deref(), Ok(PASSED));
}

#[tokio::test]
async fn a_name_that_addresses_were_found_under_is_expected_unless_another_is_configured() {
    let authority = Authority::new("found");
    let mut tls = authority.server();
    authority.sign("named", &["logic.example"]);
    tls.cert_file = authority.path("named.pem");
    tls.private_file = authority.path("named.key");
    let serving = Serving::start(&tls).await;
    let reaches = async |client: &ClientTls, host: &str| {
        let dialer = Dialer::configured(client).unwrap().to_host(host);
        let endpoint = dialer.endpoint(serving.addr).unwrap();
        within(dialer.connect(&endpoint)).await.is_ok()
    };
    let client = authority.client();
    assert!(reaches(&client, "logic.example").await);
    assert!(!reaches(&client, "other.example").await);
    let named = |name: &str| ClientTls {
        server_name: name.to_owned(),
        ..client.clone()
    };
    assert!(reaches(&named("logic.example"), "other.example").await);
    assert!(!reaches(&named("other.example"), "logic.example").await);
}

#[tokio::test]
async fn health_is_told_without_a_certificate() {
    let authority = Authority::new("health");
    let serving = Serving::start(&authority.server()).await;
    let addr = serving.addr.to_string();
    let ask = async |tls| {
        let addr = addr.clone();
        let asking = move || health::check(&addr, Callers::Proven, tls);
        within(tokio::task::spawn_blocking(asking)).await.unwrap()
    };
    ask(true).await.unwrap();
    ask(false).await.unwrap_err();
}

#[tokio::test]
async fn certificates_are_replaced_and_connections_stay() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = old.server();
    let serving = Serving::start(&tls).await;
    let client = old.client();
    let dialer = Dialer::configured(&client).unwrap();
    let endpoint = dialer.endpoint(serving.addr).unwrap();
    let channel = dialer.connect(&endpoint).await.unwrap();
    assert_eq!(call(channel.clone()).await.as_deref(), Ok(PASSED));

    // The authority of callers, and with it what both ends show.
    let replacement = new.server();
    fs::copy(&replacement.cert_file, &tls.cert_file).unwrap();
    fs::copy(&replacement.private_file, &tls.private_file).unwrap();
    fs::copy(&replacement.client_ca_file, &tls.client_ca_file).unwrap();
    let renewed = new.client();
    until(async || serving.call(&renewed).await.as_deref() == Ok(PASSED)).await;
    // The old authority's file is the new one's now: what is the old one's is the certificate that is shown.
    assert!(serving.call(&client).await.is_err());
    assert_eq!(call(channel).await.as_deref(), Ok(PASSED));
    // The caller's files have changed too.
    fs::copy(&renewed.cert_file, &client.cert_file).unwrap();
    fs::copy(&renewed.private_file, &client.private_file).unwrap();
    until(async || {
        let channel = dialer.connect(&endpoint).await;
        match channel {
            Ok(channel) => call(channel).await.as_deref() == Ok(PASSED),
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_at_its_end() {
    let authority = Authority::new("slow");
    let mut tls = authority.server();
    tls.handshake_timeout = Human::millis(100);
    let serving = Serving::start(&tls).await;
    let silent = TcpStream::connect(serving.addr).await.unwrap();
    until(async || serving.failed() == 1).await;
    drop(silent);
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() {
    let authority = Authority::new("wrong");
    let server = authority.server();
    let client = authority.client();
    fs::write(authority.path("nothing"), "nothing").unwrap();
    let nothing = authority.path("nothing");
    let start = |change: fn(&mut ServerTls, String)| {
        let mut tls = server.clone();
        change(&mut tls, nothing.clone());
        Acceptor::configured(&tls).unwrap_err().to_string()
    };
    let error = start(|tls, path| tls.cert_file = path);
    assert!(error.ends_with(": no certificate is in it"), "{error}");
    let error = start(|tls, path| tls.client_ca_file = path);
    assert!(error.ends_with(": no certificate is in it"), "{error}");
    let error = start(|tls, path| tls.private_file = path);
    assert!(error.contains(": no private key: "), "{error}");
    let error = start(|tls, path| tls.private_file = path + ".missing");
    assert!(error.contains("nothing.missing: "), "{error}");
    let mut mixed = server.clone();
    mixed.private_file.clone_from(&client.private_file);
    let error = Acceptor::configured(&mixed).unwrap_err().to_string();
    assert!(error.contains("keys may not be consistent"), "{error}");

    let mut client = client;
    client.private_file.clone_from(&server.private_file);
    assert!(Dialer::configured(&client).is_err());
    assert!(
        Acceptor::configured(&ServerTls::default())
            .unwrap()
            .is_none()
    );
}
