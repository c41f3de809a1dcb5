//! The monitors of both services: every metric is described, and every message is in one counter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
};

use protocol::grpc::comet::v1::kick_request::Target;
use serde_json::json;

use crate::support::{
    Client, Door, Lane, Server,
    grpc::{self, kick},
    http,
    metrics::Shown,
    token, until,
};

/// More messages than the backlog and the socket of a client that does not read hold.
const BURST: u64 = 64;

/// Kind and labels.
pub type Described = (String, BTreeSet<String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_described_and_every_described_one_is_there() {
    let server = Server::start().await;
    for door in [Door::Tcp, Door::WebSocket] {
        let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
        http::push(
            server.push_api(),
            "room",
            "operation=1000&type=live&room=1",
            "x",
        )
        .await;
        client.gets("x").await;
    }
    let described = described();
    let mut found = BTreeSet::new();
    for monitor in monitors(&server) {
        for (name, metric) in Shown::at(monitor).await.metrics {
            let Some((kind, labels)) = described.get(&name) else {
                panic!("{name} is not in docs/operations.md");
            };
            assert_eq!(*kind, metric.kind, "{name}");
            let shown = metric.labels;
            assert!(shown.is_subset(labels), "{name} has the labels {shown:?}");
            found.insert(name);
        }
    }
    let missing = described.keys().filter(|name| !found.contains(*name));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_accepted_and_not_delivered_is_in_one_counter() {
    let server = Server::start().await;
    let mut reader = Client::login(&server, Door::Tcp, &token(1, "reader", "live://1")).await;
    let mut deaf = token(2, "deaf", "live://2");
    deaf.accepts = vec![1001];
    let deaf = Client::login(&server, Door::WebSocket, &deaf).await;
    let mut slow = Client::connect_narrow(&server, Door::Tcp).await;
    slow.auth(&token(3, "slow", "live://1")).await;

    // Receivers that are here: one delivered, one that does not accept it, and one that is not here.
    let mut lane = Lane::open(&server).await;
    let three = grpc::keys(&["reader", "deaf", "nobody"]);
    lane.push(three, 1000, "hello").await;
    reader.gets("hello").await;
    let mut pushed = 3;
    // A room in which nobody is.
    lane.push(grpc::room("live://9"), 1000, "is someone here?")
        .await;
    pushed += 1;
    // More than the slow one's backlog and socket hold; the reader may lose some as well.
    let body = "x".repeat(16 << 10);
    for _ in 0..BURST {
        lane.push(grpc::room("live://1"), 1000, &body).await;
    }
    pushed += 2 * BURST;
    // Refused whole, so in none of the counters of messages.
    lane.send(vec![grpc::message(grpc::room("live://1"), 9, b"")])
        .await;
    assert_ne!(lane.any_receipt().await.refusal, 0);
    // What waits is lost with its connection.
    for room in ["live://1", "live://2"] {
        kick(&server, Target::Room(room.to_owned()), "").await;
    }
    drop((reader, deaf, slow));
    until("all connections are closed", || {
        let closed = ["kicked", "peer_closed", "socket_error"];
        let closed = closed.map(|reason| server.metrics().closes(reason).get());
        closed.into_iter().sum::<u64>() == 3
    })
    .await;

    let comet = Shown::at(monitors(&server)[0]).await;
    let of = |name: &str| comet.sum(&format!("comet_messages_{name}_total"), &[]);
    let ends = [
        "delivered",
        "lost",
        "absent",
        "filtered",
        "dropped",
        "nobody",
    ];
    let ends = ends.map(|name| (name, of(name)));
    let sum: u64 = ends.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, pushed, "{ends:?}");
    assert!(ends.iter().all(|(_, count)| *count > 0), "{ends:?}");
    assert_eq!(of("taken"), of("delivered") + of("lost"), "{ends:?}");
    let written = comet.sum_of("comet_write_messages");
    assert_eq!(written, of("delivered"), "by writes");
    let out = ["operation=\"application\""];
    assert_eq!(comet.sum("comet_protos_out_total", &out), of("taken"));
    let refused = comet.sum("comet_refused_pushes_total", &["reason=\"invalid\""]);
    assert_eq!(refused, 1);
    assert!(comet.sum("comet_push_seconds", &[]) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logic_counts_who_has_no_session() {
    let server = Server::start().await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    for (path, offline) in [
        ("keys?operation=1000&keys=a&keys=b&keys=c&report=1", "b, c"),
        ("mids?operation=1000&mids=1&mids=2&report=1", "2"),
    ] {
        let path = format!("/goim/push/{path}");
        let answer = http::post(server.push_api(), &path, b"x").await;
        assert_eq!(answer.json()["code"], json!(0), "{answer:?}");
        let message = format!("not online: {offline}");
        assert_eq!(answer.verdict().1, message);
        client.gets("x").await;
    }
    let logic = Shown::at(monitors(&server)[1]).await;
    assert_eq!(logic.sum("logic_messages_offline_total", &[]), 3);
    assert_eq!(logic.sum("logic_messages_taken_total", &[]), 2);
    let ok = "result=\"ok\"";
    let connects = ["call=\"connect\"", ok];
    assert_eq!(logic.sum("logic_calls_total", &connects), 1);
    assert_eq!(logic.sum("logic_call_seconds", &connects[..1]), 1);
    assert_eq!(logic.sum("logic_comets", &[]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_services_say_that_they_are_ready() {
    let server = Server::start().await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    client.online().await;
    for monitor in monitors(&server) {
        for (path, body) in [
            ("/monitor/ping", "ok"),
            ("/readyz", "ready\n"),
            ("/healthz", "ok\n"),
        ] {
            let answer = http::get(monitor, path).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        }
    }
    let comet = Shown::at(monitors(&server)[0]).await;
    assert_eq!(comet.sum("comet_online", &[]), 1);
    assert_eq!(comet.sum("comet_rooms", &[]), 1);
    assert_eq!(comet.sum("comet_connections", &["door=\"tcp\""]), 1);
    assert_eq!(comet.sum("comet_lanes", &[]), 0);
    assert_eq!(comet.sum("comet_inbox_depth", &[]), 0);
    drop(client);
}

fn monitors(server: &Server) -> [SocketAddr; 2] {
    let (comet, logic) = (&server.standalone.comet, &server.standalone.logic);
    [comet.monitor_addrs()[0], logic.monitor_addrs()[0]]
}

/// The rows `| `name` | kind | `label`, `label` | ...` of docs/operations.md.
pub fn described() -> BTreeMap<String, Described> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let document = fs::read_to_string(path).unwrap();
    let mut described = BTreeMap::new();
    let mut is_inside = false;
    for line in document.lines() {
        is_inside = line.starts_with("| Metric |") || (is_inside && line.starts_with('|'));
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next().and_then(|name| name.strip_prefix('`'));
        let Some(name) = name.filter(|_| is_inside) else {
            continue;
        };
        let name = name.trim_end_matches('`').to_owned();
        let kind = cells.next().unwrap().to_owned();
        let labels = cells.next().unwrap().split('`').skip(1).step_by(2);
        let labels = labels.map(ToOwned::to_owned).collect();
        let before = described.insert(name.clone(), (kind, labels));
        assert!(before.is_none(), "{name} is described twice");
    }
    assert!(described.len() > 40, "are they still recognized?");
    described
}
