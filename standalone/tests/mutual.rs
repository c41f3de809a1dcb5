//! Both services with certificates on both sides: nobody else gets in.

use std::{fs, net::SocketAddr, path::PathBuf};

use axum::Router;
use comet::Comet;
use common::{
    bearer, health,
    listen::Callers,
    mutual::{ClientTls, Dialer, ServerTls},
};
use prometheus_client::registry::Registry;
use protocol::{
    grpc::{
        comet::v1::{KickRequest, comet_client::CometClient as CometV1Client},
        goim::{
            comet::{RoomsReq, comet_client::CometClient},
            logic::{ConnectReq, NodesReq, logic_client::LogicClient},
        },
    },
    op,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, transport::Channel};

use crate::support::{Client, Door, Server, http, metrics::Shown, server, token, until, within};

/// An authority, and a directory for what it signs, which goes with the test.
struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("services-{name}-{}", std::process::id()));
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

    /// What a service shows that has the name `name`, to its callers and to those that it calls.
    fn sign(&self, name: &str) -> (ServerTls, ClientTls) {
        self.sign_until(name, 2050)
    }

    /// The same, valid until this year begins.
    fn sign_until(&self, name: &str, year: i32) -> (ServerTls, ClientTls) {
        let key = KeyPair::generate().unwrap();
        let hosts = [name, "127.0.0.1"];
        let mut params = params(name, &hosts);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, private_file) = (self.path(name), self.path(&format!("{name}.key")));
        fs::write(&cert_file, certificate.pem()).unwrap();
        fs::write(&private_file, key.serialize_pem()).unwrap();
        let server = ServerTls {
            cert_file: cert_file.clone(),
            private_file: private_file.clone(),
            client_ca_file: self.path("ca.pem"),
            ..ServerTls::default()
        };
        let client = ClientTls {
            ca_file: self.path("ca.pem"),
            cert_file,
            private_file,
            ..ClientTls::default()
        };
        (server, client)
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

/// Both services, which know each other by certificates of one authority.
async fn start(authority: &Authority) -> Server {
    let (comets, _) = authority.sign("comet");
    let (_, to_logic) = authority.sign("comet calls");
    let (logics, _) = authority.sign("logic");
    let (_, to_comets) = authority.sign("logic calls");
    Server::start_with(|config| {
        config.comet.rpc_server.tls = comets;
        config.comet.rpc_client.tls = to_logic;
        config.logic.rpc_server.tls = logics;
        config.logic.rpc_client.tls = ClientTls {
            server_name: "comet".to_owned(),
            ..to_comets
        };
    })
    .await
}

fn channel(tls: &ClientTls, addr: SocketAddr) -> Channel {
    let dialer = Dialer::configured(tls).unwrap();
    dialer.connect_lazy(&dialer.endpoint(addr).unwrap())
}

/// Calls each service as someone who shows this.
async fn calls(server: &Server, tls: &ClientTls) -> [Result<(), Status>; 4] {
    let comet = channel(tls, server.grpc());
    let logic = channel(tls, server.standalone.logic.grpc_addr());
    let connect = ConnectReq {
        server: "stranger".to_owned(),
        token: r#"{"mid":2,"key":"b"}"#.into(),
        ..ConnectReq::default()
    };
    within("the answers", async {
        [
            CometClient::new(comet.clone())
                .rooms(RoomsReq {})
                .await
                .map(drop),
            CometV1Client::new(comet)
                .kick(KickRequest::default())
                .await
                .map(drop),
            LogicClient::new(logic.clone())
                .nodes(NodesReq::default())
                .await
                .map(drop),
            LogicClient::new(logic).connect(connect).await.map(drop),
        ]
    })
    .await
}

/// A comet beside the others that shows logic this.
async fn comet(server: &Server, name: &str, tls: ClientTls) -> (Comet, DropGuard) {
    let mut config = server::config().comet;
    name.clone_into(&mut config.env.host);
    config.logic.addresses = vec![server.standalone.logic.grpc_addr().to_string()];
    config.rpc_client.tls = tls;
    let end = CancellationToken::new();
    let comet = Comet::start(&config, Router::new(), Registry::default(), end.clone());
    (comet.await.unwrap(), end.drop_guard())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_flow_between_services_that_show_certificates() {
    let authority = Authority::new("flow");
    let server = start(&authority).await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    let api = server.push_api();
    http::push(api, "keys", "operation=1000&keys=a", "for the key").await;
    client.gets("for the key").await;
    http::push(
        api,
        "room",
        "operation=1000&type=live&room=1",
        "for the room",
    )
    .await;
    client.gets("for the room").await;
    let kicked = http::post(api, "/comet/kick/keys?keys=a", b"").await;
    assert_eq!(kicked.json()["code"], 0, "{kicked:?}");
    client.ended().await.is("kicked", 4002, Door::Tcp);

    for addr in [server.grpc(), server.standalone.logic.grpc_addr()] {
        let addr = addr.to_string();
        let asking = move || health::check(&addr, Callers::Proven, true);
        let asking = tokio::task::spawn_blocking(asking);
        within("the health", asking).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_no_certificate_of_the_authority_can_do_nothing() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = start(&ours).await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    let (_, known) = ours.sign("known");
    for answer in calls(&server, &known).await {
        if let Err(status) = answer {
            assert!(!bearer::is_refused(&status), "{status:?}");
        }
    }
    let nothing = ClientTls {
        ca_file: known.ca_file.clone(),
        ..ClientTls::default()
    };
    for answer in calls(&server, &nothing).await {
        let status = answer.unwrap_err();
        assert!(bearer::is_refused(&status), "{status:?}");
    }
    let (_, foreign) = theirs.sign("foreign");
    let foreign = ClientTls {
        ca_file: known.ca_file.clone(),
        ..foreign
    };
    for stranger in [&foreign, &ClientTls::default()] {
        for answer in calls(&server, stranger).await {
            let status = answer.unwrap_err();
            assert!(!bearer::is_refused(&status), "{status:?}");
        }
    }
    let refusals = |reason| server.metrics().rpc_refusals(reason);
    assert_eq!(refusals("no_certificate").get(), 2);
    until("failed handshakes", || refusals("handshake").get() >= 2).await;

    // Comets without a certificate that logic takes: their clients are not at fault.
    for (name, tls) in [("nothing", nothing), ("foreign", foreign)] {
        let (stranger, _end) = comet(&server, name, tls).await;
        let door = Door::WebSocket;
        let mut lost = Client::open(stranger.http_addrs()[0], door, None).await;
        let auth = token(1, "a", "").to_json();
        lost.send(op::AUTH, 1, auth.as_bytes()).await;
        lost.ended().await.is("logic_unavailable", 1013, door);
        assert!(stranger.readiness().report().is_err());
    }
    client.has_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ends_of_certificates_are_shown_and_those_of_new_ones() {
    const IN_2050: u64 = 2_524_608_000;
    const IN_2060: u64 = 2_840_140_800;
    let authority = Authority::new("ends");
    let server = start(&authority).await;
    let (comet, logic) = (&server.standalone.comet, &server.standalone.logic);
    for (monitor, service) in [
        (comet.monitor_addrs()[0], "comet"),
        (logic.monitor_addrs()[0], "logic"),
    ] {
        let metric = format!("{service}_tls_certificate_end_seconds");
        for name in [service.to_owned(), format!("{service} calls")] {
            let labels = [
                format!("file=\"{}\"", authority.path(&name)),
                format!("subject=\"CN={name}\""),
            ];
            let labels = labels.each_ref().map(String::as_str);
            let end = async || Shown::at(monitor).await.sum(&metric, &labels);
            assert_eq!(end().await, IN_2050, "{name}");
            authority.sign_until(&name, 2060);
            within("the new end", async {
                while end().await != IN_2060 {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_ask_for_certificates_may_listen_everywhere() {
    let authority = Authority::new("everywhere");
    let (tls, _) = authority.sign("comet");
    let listens = async |tls: &ServerTls| {
        let mut config = server::config().comet;
        config.rpc_server.addr = ":0".to_owned();
        config.rpc_server.tls = tls.clone();
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        let comet = Comet::start(&config, Router::new(), Registry::default(), end);
        comet.await.unwrap().grpc_addr()
    };
    assert!(listens(&tls).await.ip().is_unspecified());
    let unasked = ServerTls {
        client_ca_file: String::new(),
        ..tls
    };
    assert!(listens(&unasked).await.ip().is_loopback());
}
