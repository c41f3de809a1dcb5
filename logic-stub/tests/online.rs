//! What comets say of themselves, as the HTTP API and `Nodes` show it: rooms, totals, nodes.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{net::IpAddr, sync::Arc};

use logic_stub::{Business, LogicStub};
use protocol::grpc::goim::logic::{CometInfo, DisconnectReq, NodesReq};
use serde_json::json;
use support::{config, connection, info, start, start_with};

#[tokio::test]
async fn online_shows_rooms_and_totals() {
    let logic = start(config());
    let counted = |connections, client_addresses| CometInfo {
        connections,
        client_addresses,
        ..info(1)
    };
    let rooms = [
        ("live://1", 2),
        ("live://2", 5),
        ("live://3", 5),
        ("video://1", 9),
        ("odd", 100),
    ];
    logic
        .renew("a", Some(counted(20, 10)), &rooms)
        .await
        .unwrap();
    logic
        .renew("b", Some(counted(3, 2)), &[("live://1", 1)])
        .await
        .unwrap();

    assert_eq!(
        logic.get("/goim/online/total").await,
        json!({"ip_count": 12, "conn_count": 23})
    );
    assert_eq!(
        logic.get("/goim/online/top?type=live&limit=2").await,
        json!([{"room_id": "2", "count": 5}, {"room_id": "3", "count": 5}])
    );
    assert_eq!(
        logic.get("/goim/online/top?type=live&limit=100").await,
        json!([{"room_id": "2", "count": 5}, {"room_id": "3", "count": 5}, {"room_id": "1", "count": 3}])
    );
    assert_eq!(
        logic.get("/goim/online/top?type=none&limit=1").await,
        json!([])
    );
    assert_eq!(
        logic
            .get("/goim/online/room?type=live&rooms=1&rooms=9")
            .await,
        json!({"1": 3, "9": 0})
    );
    for (path, message) in [
        ("top?limit=1", "parameter type is missing"),
        ("top?type=live", "parameter limit is missing"),
        ("top?type=live&limit=0", "parameter limit: must be above 0"),
        (
            "top?type=live&limit=-1",
            "parameter limit: \"-1\", expected a whole number from 0 to 18446744073709551615",
        ),
        (
            "top?type=live&limit=10001",
            "parameter limit: at most 10000",
        ),
        ("room?rooms=1", "parameter type is missing"),
        ("room?type=live", "parameter rooms is missing"),
    ] {
        let (status, answer) = logic
            .http("GET", &format!("/goim/online/{path}"), b"")
            .await;
        assert_eq!(
            (status, answer),
            (200, json!({"code": -400, "message": message}))
        );
    }
}

#[tokio::test]
async fn nodes_are_weighed_and_listed() {
    struct Somewhere;
    impl Business for Somewhere {
        fn province(&self, address: IpAddr) -> Option<String> {
            address.is_loopback().then(|| "Shanghai".to_owned())
        }
    }
    let mut config = config();
    config.node.host_domain = ".example.org".into();
    config.node.default_domain = "default.example.org".into();
    config
        .regions
        .insert("sh".to_owned(), vec!["Shanghai".to_owned()]);
    let logic = start_with(LogicStub::builder(config).business(Arc::new(Somewhere)));
    assert_eq!(logic.get("/goim/nodes/instances").await, json!([]));
    let weighted = logic.get("/goim/nodes/weighted").await;
    assert_eq!(
        weighted,
        json!({
            "domain": "default.example.org", "tcp_port": 3101, "ws_port": 3102, "wss_port": 3103,
            "heartbeat": 240, "heartbeat_max": 2, "nodes": ["default.example.org"],
            "backoff": {"max_delay": 300, "base_delay": 3, "factor": 1.8, "jitter": 0.3},
        })
    );

    for (server, region, offline) in [("c1", "bj", false), ("c2", "sh", false), ("c3", "sh", true)]
    {
        let addresses = vec![format!("{server}-v4"), format!("{server}-v6")];
        let comet = CometInfo {
            region: region.to_owned(),
            addresses,
            offline,
            hostname: format!("{server}-host"),
            connections: 3,
            client_addresses: 2,
            version: "1".to_owned(),
            ..info(1)
        };
        logic.renew(server, Some(comet), &[]).await.unwrap();
    }
    let web = logic.get("/goim/nodes/weighted?platform=web").await;
    assert_eq!(
        web["nodes"],
        json!(["c2-host.example.org", "c1-host.example.org"])
    );
    let app = logic.get("/goim/nodes/weighted?platform=android").await;
    assert_eq!(app["nodes"], json!(["c2-v4", "c2-v6", "c1-v4", "c1-v6"]));
    let request = NodesReq {
        platform: "web".to_owned(),
        client_ip: "192.0.2.1".to_owned(),
    };
    let reply = logic
        .client
        .clone()
        .nodes(request)
        .await
        .unwrap()
        .into_inner();
    // From nowhere, and c2 has been offered twice.
    assert_eq!(reply.nodes, ["c1-host.example.org", "c2-host.example.org"]);
    assert_eq!((reply.tcp_port, reply.heartbeat), (3101, 240));

    let instances = logic.get("/goim/nodes/instances").await;
    assert_eq!(instances.as_array().unwrap().len(), 3);
    let mut third = instances[2].clone();
    assert!(third["latest_timestamp"].take().as_u64().unwrap() > 1_700_000_000_000_000_000);
    assert_eq!(
        third,
        json!({
            "region": "sh", "zone": "", "env": "", "appid": "goim.comet", "hostname": "c3-host",
            "addrs": ["grpc://127.0.0.1:1"], "version": "1", "latest_timestamp": null,
            "metadata": {
                "addrs": "c3-v4,c3-v6", "conn_count": "3", "ip_count": "2", "offline": "true", "weight": "10",
            },
        })
    );
}

#[tokio::test]
async fn users_are_online_while_they_have_connections() {
    let logic = start(config());
    logic.renew("a", Some(info(1)), &[]).await.unwrap();
    for (id, mid, key) in [(1, 7, "one"), (2, 7, "two"), (3, 8, "three"), (4, 0, "x")] {
        let token = json!({"mid": mid, "key": key}).to_string();
        let reply = logic.connect_as("a", &token, connection(1, id)).await;
        reply.unwrap();
    }
    let counts = async |query: &str| logic.get(&format!("/comet/online/mids?{query}")).await;
    assert_eq!(
        counts("mids=9&mids=7&mids=8&mids=7&mids=0").await,
        json!({"0": 0, "7": 2, "8": 1, "9": 0})
    );
    let goodbye = DisconnectReq {
        mid: 7,
        key: "one".to_owned(),
        server: "a".to_owned(),
        connection: Some(connection(1, 1)),
    };
    logic.client.clone().disconnect(goodbye).await.unwrap();
    assert_eq!(counts("mids=7").await, json!({"7": 1}));
    for (query, message) in [
        ("", "parameter mids is missing"),
        (
            "mids=a",
            "parameter mids: \"a\", expected a whole number from -9223372036854775808 to 9223372036854775807",
        ),
    ] {
        let path = format!("/comet/online/mids?{query}");
        let (status, answer) = logic.http("GET", &path, b"").await;
        assert_eq!(
            (status, answer),
            (200, json!({"code": -400, "message": message}))
        );
    }
}
