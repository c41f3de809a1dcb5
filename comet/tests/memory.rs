//! What an idle connection costs: the slope of the server's resident memory over its connections, which have a key, a mid and a
//! room. Server and clients are processes of their own, so that nothing else is in the figure.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::{
    collections::HashMap,
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
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
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Where the client process finds its door and server.
const DOOR: &str = "COMET_TEST_DOOR";

/// Connections at which the memory is read.
const COUNTS: [usize; 3] = [5_000, 10_000, 15_000];

/// Bytes a connection: 1 KiB, and an eighth of it because tables grow by doubling, wherever the counts happen to be.
const MAX_SLOPE: f64 = 1152.0;

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
    let (server, addr) = start_server(door, logic);
    let mut clients = Process(
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "clients", "--ignored", "--nocapture"])
            .env(DOOR, format!("{door} {addr}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(clients.0.stdout.take().unwrap()).lines();
    let mut tell = clients.0.stdin.take().unwrap();
    let points = COUNTS.map(|count| {
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
fn start_server(door: &str, logic: SocketAddr) -> (Process, SocketAddr) {
    let (tcp, http) = if door == "tcp" {
        ("[\"127.0.0.1:0\"]", "[]")
    } else {
        ("[]", "[\"127.0.0.1:0\"]")
    };
    let mut server = Process(
        Command::new(env!("CARGO_BIN_EXE_comet"))
            .args([
                "--set",
                &format!("tcp.bind={tcp}"),
                "--set",
                &format!("websocket.bind={http}"),
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
    let field = if door == "tcp" { "tcp" } else { "http" };
    let from = line.find(&format!("\"{field}\"")).unwrap();
    let text = &line[from + line[from..].find("127.0.0.1").unwrap()..];
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap();
    (server, text[..end].parse().unwrap())
}

fn log_in(door: &str, addr: SocketAddr, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
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
        upgrade(&mut stream);
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

fn upgrade(stream: &mut TcpStream) {
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
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
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
