//! goim's HTTP API: what it takes, what it refuses and how, and what it knows.

use std::time::Duration;

use common::config::Human;
use serde_json::{Value, json};

use crate::support::{Client, Door, Server, http, through_both_doors, token, until, within};

through_both_doors!(
    counts_of_who_is_online,
    what_was_accepted_is_delivered_or_counted,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_understood_is_refused_by_name() {
    let server = Server::start_with(|config| config.logic.http_server.max_body = 100).await;
    let mut neighbour = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    let long = "x".repeat(101);
    let cases = [
        ("keys?keys=a", "x", "operation"),
        ("keys?operation=&keys=a", "x", "operation"),
        ("keys?operation=x&keys=a", "x", "operation"),
        ("keys?operation=0&keys=a", "x", "operation"),
        ("keys?operation=-1&keys=a", "x", "operation"),
        ("keys?operation=9&keys=a", "x", "operation"),
        ("keys?operation=99999999999&keys=a", "x", "operation"),
        ("keys?operation=1000", "x", "keys"),
        ("keys?operation=1000&keys=", "x", "keys"),
        ("mids?operation=1000", "x", "mids"),
        ("mids?operation=1000&mids=1&mids=x", "x", "mids"),
        ("room?operation=1000&room=1", "x", "type"),
        ("room?operation=1000&type=live", "x", "room"),
        ("all?speed=1", "x", "operation"),
        ("all?operation=1000&speed=fast", "x", "speed"),
        ("all?operation=1000&speed=-1", "x", "speed"),
        ("keys?operation=1000&keys=a", "", "body"),
        ("mids?operation=1000&mids=1", "", "body"),
        ("room?operation=1000&type=live&room=1", "", "body"),
        ("all?operation=1000", "", "body"),
        ("keys?operation=1000&keys=a", &long, "body"),
        ("all?operation=1000", &long, "body"),
    ];
    for (query, body, named) in cases {
        let path = format!("/goim/push/{query}");
        let answer = http::post(server.push_api(), &path, body.as_bytes()).await;
        let (code, message) = answer.verdict();
        assert_eq!(code, -400, "{query}: {message}");
        assert!(message.contains(named), "{query}: {message}");
    }
    for (path, named) in [
        ("online/top?limit=1", "type"),
        ("online/top?type=live", "limit"),
        ("online/top?type=live&limit=x", "limit"),
        ("online/top?type=live&limit=0", "limit"),
        ("online/room?rooms=1", "type"),
        ("online/room?type=live", "rooms"),
    ] {
        let answer = http::get(server.push_api(), &format!("/goim/{path}")).await;
        let (code, message) = answer.verdict();
        assert_eq!(code, -400, "{path}: {message}");
        assert!(message.contains(named), "{path}: {message}");
    }
    neighbour.has_nothing().await;
    assert_eq!(server.metrics().taken.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_and_methods_have_their_status() {
    let server = Server::start().await;
    let api = server.push_api();
    assert_eq!(http::get(api, "/goim/push/all").await.status, 405);
    assert_eq!(
        http::post(api, "/goim/online/total", b"x").await.status,
        405
    );
    assert_eq!(http::get(api, "/goim").await.status, 404);
    // The page's own port has the API too, for this machine.
    let page = server.door(Door::WebSocket);
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    http::push(page, "keys", "operation=1000&keys=a", "from the page").await;
    client.gets("from the page").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comet_that_is_away_holds_up_no_other() {
    // Bound and not listening: nobody answers there, and nobody else can take the port.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = gone.local_addr().unwrap().to_string();
    let server = Server::start_with(|config| {
        let comet = logic_stub::config::FixedComet {
            server: "away".to_owned(),
            grpc_address: address,
            ..Default::default()
        };
        config.logic.comets.fixed = vec![comet];
        config.logic.lanes.retry = Human::millis(10);
        config.logic.lanes.report = Human::secs(60);
    })
    .await;
    let mut here = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    for query in ["all?operation=1000", "room?operation=1000&type=live&room=1"] {
        let path = format!("/goim/push/{query}&report=1");
        let answer = http::post(server.push_api(), &path, b"x").await;
        assert_eq!(answer.verdict(), (0, String::new()));
        let data = &answer.json()["data"];
        assert_eq!(data["taken"], 1);
        assert_eq!(data["lost"], json!({"comet_away": 1}));
        here.gets("x").await;
    }
    // Who is not online is no error, as in goim.
    for (kind, query) in [("keys", "keys=nobody"), ("mids", "mids=404")] {
        let path = format!("/goim/push/{kind}?operation=1000&{query}");
        let (code, message) = http::post(server.push_api(), &path, b"x").await.verdict();
        assert_eq!(code, 0);
        assert!(message.starts_with("not online: "), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_tell_where_to_connect() {
    let server = Server::start().await;
    let api = server.push_api();
    let weighted = data(&http::get(api, "/goim/nodes/weighted?platform=ios").await);
    assert_eq!(weighted["nodes"], json!(["127.0.0.1"]));
    assert_eq!(
        [&weighted["heartbeat"], &weighted["heartbeat_max"]],
        [&json!(240), &json!(2)]
    );
    for field in ["domain", "tcp_port", "ws_port", "wss_port", "backoff"] {
        assert!(!weighted[field].is_null(), "{field}: {weighted}");
    }
    let web = data(&http::get(api, "/goim/nodes/weighted?platform=web").await);
    assert_eq!(web["nodes"], json!(["standalone"]));
    let instances = data(&http::get(api, "/goim/nodes/instances").await);
    let [instance] = &instances.as_array().unwrap()[..] else {
        panic!("one comet: {instances}");
    };
    assert_eq!(instance["hostname"], "standalone");
    assert_eq!(
        instance["addrs"],
        json!([format!("grpc://{}", server.grpc())])
    );
    assert_eq!(instance["metadata"]["weight"], "10");
}

async fn counts_of_who_is_online(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut clients = Vec::new();
    for (mid, room) in [
        (1, "live://1"),
        (2, "live://1"),
        (3, "live://2"),
        (4, "chat://1"),
        (5, ""),
    ] {
        clients.push(Client::login(&server, door, &token(mid, "", room)).await);
    }
    let one = json!({"room_id": "1", "count": 2});
    let two = json!({"room_id": "2", "count": 1});
    eventually(api, "online/top?type=live&limit=9", json!([one, two])).await;
    eventually(api, "online/top?type=live&limit=1", json!([one])).await;
    eventually(
        api,
        "online/top?type=chat&limit=9",
        json!([{"room_id": "1", "count": 1}]),
    )
    .await;
    eventually(api, "online/top?type=none&limit=9", json!([])).await;
    let rooms = json!({"1": 2, "2": 1, "3": 0});
    eventually(api, "online/room?type=live&rooms=1&rooms=2&rooms=3", rooms).await;
    eventually(api, "online/total", json!({"ip_count": 1, "conn_count": 5})).await;
    clients.truncate(1);
    eventually(
        api,
        "online/top?type=live&limit=9",
        json!([{"room_id": "1", "count": 1}]),
    )
    .await;
    eventually(api, "online/total", json!({"ip_count": 1, "conn_count": 1})).await;
}

async fn what_was_accepted_is_delivered_or_counted(door: Door) {
    const PUSHES: u64 = 300;
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut other = Client::login(&server, door, &token(2, "b", "")).await;
    let api = server.push_api();
    for number in 0..PUSHES / 3 {
        let text = number.to_string();
        http::push(api, "keys", "operation=1000&keys=a&keys=b", &text).await;
        http::push(api, "room", "operation=1000&type=live&room=1", &text).await;
        http::push(api, "all", "operation=7", &text).await;
        client.gets(&text).await;
        client.gets(&text).await;
        other.gets(&text).await;
    }
    let metrics = server.metrics();
    until("each is counted", || {
        metrics.taken.get() == PUSHES && metrics.filtered.get() == PUSHES / 3 * 2
    })
    .await;
    assert_eq!(metrics.delivered.get(), PUSHES);
}

/// Counts travel with the next RenewOnline.
async fn eventually(api: std::net::SocketAddr, path: &str, expected: Value) {
    let mut last = Value::Null;
    let coming = async {
        loop {
            last = data(&http::get(api, &format!("/goim/{path}")).await);
            if last == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(&format!("{path} is {expected}"), coming).await;
}

fn data(answer: &http::Answer) -> Value {
    let json = answer.json();
    assert_eq!((&json["code"], &json["message"]), (&json!(0), &json!("")));
    json["data"].clone()
}
