//! What an idle connection costs: the slope of the server's resident memory over its connections, which have a key, a mid and a
//! room. Server and clients are processes of their own, so that nothing else is in the figure.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use protocol::{
    HEADER_LEN, Header,
    grpc::goim::logic::{
        ConnectReply, ConnectReq, DisconnectReply, DisconnectReq, HeartbeatReply, HeartbeatReq,
        NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply, ReceiveReq,
        logic_server::{Logic, LogicServer},
    },
    op,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Where the client process finds its door and server.
const DOOR: &str = "COMET_TEST_DOOR";

/// Where the client process finds the certificate that it trusts, if its door is behind TLS.
const CERTIFICATE: &str = "COMET_TEST_CERTIFICATE";

/// Connections at which the memory is read.
const COUNTS: [usize; 3] = [5_000, 10_000, 15_000];

/// The same behind TLS, whose handshakes take a while.
const TLS_COUNTS: [usize; 3] = [2_000, 4_000, 6_000];

/// Bytes a connection: 1 KiB, and an eighth of it because tables grow by doubling, wherever the counts happen to be.
const MAX_SLOPE: f64 = 1152.0;

/// Bytes a connection behind TLS, of which the session's keys and state are most.
const MAX_TLS_SLOPE: f64 = 8192.0;

#[tokio::test]
async fn an_idle_tcp_connection_costs_about_1_kib() {
    let slope = slope("tcp").await;
    assert!(slope <= MAX_SLOPE, "{slope:.0} bytes a connection");
}

#[tokio::test]
async fn an_idle_websocket_connection_costs_about_1_kib() {
    let slope = slope("websocket").await;
    assert!(slope <= MAX_SLOPE, "{slope:.0} bytes a connection");
}

#[tokio::test]
async fn an_idle_wss_connection_costs_at_most_8_kib() {
    let slope = slope("wss").await;
    assert!(slope <= MAX_TLS_SLOPE, "{slope:.0} bytes a connection");
}

/// Not a test: the process of the clients. It logs in as many as it is told on standard input, says so, and waits for more.
#[test]
#[ignore = "started by the tests here"]
fn clients() {
    let Ok(door) = env::var(DOOR) else { return };
    let (door, addr) = door.split_once(' ').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let mut clients = Vec::new();
    for line in std::io::stdin().lines() {
        let count: usize = line.unwrap().parse().unwrap();
        while clients.len() < count {
            clients.push(log_in(door, addr, clients.len()));
        }
        println!("online {count}");
    }
}

async fn slope(door: &str) -> f64 {
    let logic = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let logic_addr = logic.local_addr().unwrap();
    let service = Server::builder().add_service(LogicServer::new(AnyLogic));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(logic)));
    let door = door.to_owned();
    tokio::task::spawn_blocking(move || measure(&door, logic_addr))
        .await
        .unwrap()
}

fn measure(door: &str, logic: SocketAddr) -> f64 {
    let certificate = Certificate::new();
    let (server, addr) = start_server(door, logic, &certificate);
    let mut clients = Process(
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "clients", "--ignored", "--nocapture"])
            .env(DOOR, format!("{door} {addr}"))
            .env(CERTIFICATE, certificate.file("pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(clients.0.stdout.take().unwrap()).lines();
    let mut tell = clients.0.stdin.take().unwrap();
    let counts = if door == "wss" { TLS_COUNTS } else { COUNTS };
    let points = counts.map(|count| {
        writeln!(tell, "{count}").unwrap();
        let awaited = format!("online {count}");
        assert!(
            said.any(|line| line.unwrap().ends_with(&awaited)),
            "the clients ended"
        );
        (count, resident(server.0.id()))
    });
    println!("{door}: {points:?}");
    least_squares(&points)
}

/// Starts comet with one door; returns it and the door's address, from its log.
fn start_server(door: &str, logic: SocketAddr, certificate: &Certificate) -> (Process, SocketAddr) {
    let bind = |name| {
        if door == name {
            "[\"127.0.0.1:0\"]"
        } else {
            "[]"
        }
    };
    let (tcp, http, wss) = (bind("tcp"), bind("websocket"), bind("wss"));
    let mut server = Process(
        Command::new(env!("CARGO_BIN_EXE_comet"))
            .args([
                "--set",
                &format!("tcp.bind={tcp}"),
                "--set",
                &format!("websocket.bind={http}"),
            ])
            .args(["--set", &format!("websocket.tlsOpen={}", door == "wss")])
            .args(["--set", &format!("websocket.tlsBind={wss}")])
            .args([
                "--set",
                &format!("websocket.certFile={}", certificate.file("pem")),
            ])
            .args([
                "--set",
                &format!("websocket.privateFile={}", certificate.file("key")),
            ])
            .args([
                "--set",
                "rpcServer.addr=127.0.0.1:0",
                "--set",
                "monitor.addrs=127.0.0.1:0",
                "--set",
                "tcp.backlog=4096",
            ])
            .args(["--set", &format!("logic.addresses=[\"{logic}\"]")])
            // Longer than a busy machine may stand still.
            .args(["--set", "protocol.handshakeTimeout=2m"])
            .args(["--set", "rpcClient.timeout=2m"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let line = log
        .find(|line| line.as_ref().unwrap().contains("comet listens"))
        .unwrap()
        .unwrap();
    // The log is JSON with the addresses as text: the first one after the door's field.
    let field = match door {
        "websocket" => "http",
        "wss" => "https",
        door => door,
    };
    let from = line.find(&format!("\"{field}\"")).unwrap();
    let text = &line[from + line[from..].find("127.0.0.1").unwrap()..];
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap();
    (server, text[..end].parse().unwrap())
}

/// A socket, or TLS on one.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn connect(door: &str, addr: SocketAddr) -> Box<dyn Stream> {
    let socket = TcpStream::connect(addr).unwrap();
    if door != "wss" {
        return Box::new(socket);
    }
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(env::var(CERTIFICATE).unwrap()).unwrap();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::builder_with_provider(common::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let name = "localhost".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Box::new(StreamOwned::new(session, socket))
}

fn log_in(door: &str, addr: SocketAddr, number: usize) -> Box<dyn Stream> {
    let mut stream = connect(door, addr);
    let token = format!(
        r#"{{"mid":{number},"key":"key-of-client-number-{number:08}","room_id":"live://room-{}"}}"#,
        number % 1000
    );
    let mut auth = Vec::new();
    Header {
        ver: 1,
        op: op::AUTH,
        seq: 1,
    }
    .encode(token.as_bytes(), &mut auth);
    let mut reply = [0; HEADER_LEN + 2];
    if door == "tcp" {
        stream.write_all(&auth).unwrap();
        stream.read_exact(&mut reply[2..]).unwrap();
    } else {
        upgrade(&mut *stream);
        // A masked binary message, with a mask of zeros.
        let len = u8::try_from(auth.len()).unwrap();
        let head = if len < 126 {
            vec![0x82, 0x80 | len]
        } else {
            vec![0x82, 0xfe, 0, len]
        };
        stream
            .write_all(&[head, vec![0; 4], auth].concat())
            .unwrap();
        stream.read_exact(&mut reply).unwrap();
    }
    assert_eq!(reply[10..14], op::AUTH_REPLY.to_be_bytes());
    stream
}

fn upgrade(stream: &mut dyn Stream) {
    let request = "GET /sub HTTP/1.1\r\nHost: comet\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
}

/// Resident bytes of a process.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn least_squares(points: &[(usize, usize)]) -> f64 {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0 as f64).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1 as f64).sum::<f64>() / n;
    let covariance: f64 = points
        .iter()
        .map(|p| (p.0 as f64 - mean_x) * (p.1 as f64 - mean_y))
        .sum();
    let variance: f64 = points.iter().map(|p| (p.0 as f64 - mean_x).powi(2)).sum();
    covariance / variance
}

/// A certificate for localhost, in files that go with it.
struct Certificate(PathBuf);

impl Certificate {
    fn new() -> Self {
        let name = format!("comet-memory-{:?}", std::time::Instant::now());
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let certificate = Self(env::temp_dir().join(name));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(certificate.file("pem"), made.cert.pem()).unwrap();
        fs::write(certificate.file("key"), made.signing_key.serialize_pem()).unwrap();
        certificate
    }

    fn file(&self, end: &str) -> String {
        self.0.with_extension(end).display().to_string()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        for end in ["pem", "key"] {
            fs::remove_file(self.file(end)).unwrap_or_default();
        }
    }
}

/// A child that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets everybody in, as the token says.
struct AnyLogic;

#[tonic::async_trait]
impl Logic for AnyLogic {
    async fn connect(
        &self,
        request: Request<ConnectReq>,
    ) -> Result<Response<ConnectReply>, Status> {
        let token = protocol::Token::from_json(&request.into_inner().token).unwrap();
        Ok(Response::new(ConnectReply {
            mid: token.mid,
            key: token.key,
            room_id: token.room_id,
            accepts: vec![1000, 1001],
            heartbeat: 480_000_000_000,
            ..ConnectReply::default()
        }))
    }

    async fn disconnect(
        &self,
        _: Request<DisconnectReq>,
    ) -> Result<Response<DisconnectReply>, Status> {
        Ok(Response::new(DisconnectReply { has: true }))
    }

    async fn heartbeat(
        &self,
        _: Request<HeartbeatReq>,
    ) -> Result<Response<HeartbeatReply>, Status> {
        Ok(Response::new(HeartbeatReply {}))
    }

    async fn renew_online(&self, _: Request<OnlineReq>) -> Result<Response<OnlineReply>, Status> {
        let all_room_count = HashMap::new();
        Ok(Response::new(OnlineReply {
            all_room_count,
            ..OnlineReply::default()
        }))
    }

    async fn receive(&self, _: Request<ReceiveReq>) -> Result<Response<ReceiveReply>, Status> {
        Ok(Response::new(ReceiveReply {}))
    }

    async fn nodes(&self, _: Request<NodesReq>) -> Result<Response<NodesReply>, Status> {
        Ok(Response::new(NodesReply::default()))
    }
}
