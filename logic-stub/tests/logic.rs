//! goim's `Logic` service as a comet calls it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use logic_stub::{Business, LogicStub, clock::Clock};
use parking_lot::Mutex;
use protocol::grpc::goim::{
    logic::{
        ConnectReq, ConnectionRef, DisconnectReq, HeartbeatReq, OnlineReq, ReceiveReq,
        logic_client::LogicClient,
    },
    protocol::Proto,
};
use support::{Running, config, connection, info, start, start_with};
use tokio::sync::mpsc;
use tonic::{Code, Status, codec::CompressionEncoding, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// A logic-stub whose store goes by a clock that the test moves.
fn start_with_clock() -> (Running, impl Fn(Duration)) {
    let ahead = Arc::new(Mutex::new(Duration::ZERO));
    let (begin, hand) = (Instant::now(), Arc::clone(&ahead));
    let clock = Clock::new(move || begin + *hand.lock());
    let logic = start_with(LogicStub::builder(config()).clock(clock));
    (logic, move |time| *ahead.lock() += time)
}

async fn online(logic: &Running, key: &str) -> bool {
    let holders = logic
        .stub
        .logic()
        .sessions
        .holders(&[key.to_owned()])
        .await
        .unwrap();
    holders[0].is_some()
}

#[tokio::test]
async fn connect_reads_goims_token() {
    let logic = start(config());
    let token =
        r#"{"mid":123,"key":"k","room_id":"live://1000","platform":"web","accepts":[1000,1001]}"#;
    let reply = logic.connect("a", token).await.unwrap();
    assert_eq!(
        (reply.mid, reply.key.as_str(), reply.room_id.as_str()),
        (123, "k", "live://1000")
    );
    assert_eq!(reply.accepts, [1000, 1001]);
    assert_eq!(reply.heartbeat, 480_000_000_000);

    let first = logic.connect("a", r#"{"mid":123}"#).await.unwrap();
    let second = logic.connect("a", r#"{"mid":123,"key":""}"#).await.unwrap();
    assert!(uuid::Uuid::parse_str(&first.key).is_ok());
    assert_ne!(first.key, second.key);
    assert!(online(&logic, &first.key).await && online(&logic, "k").await);
}

#[tokio::test]
async fn a_connection_that_asks_again_gets_the_key_that_it_had() {
    let logic = start(config());
    logic.renew("a", Some(info(1)), &[]).await.unwrap();
    let ask = async |id| {
        let reply = logic.connect_as("a", r#"{"mid":123}"#, connection(1, id));
        reply.await.unwrap().key
    };
    let key = ask(1).await;
    assert_eq!(ask(1).await, key);
    assert_ne!(ask(2).await, key);
}

#[tokio::test]
async fn bad_logins_are_told_which_field() {
    let logic = start(config());
    let long = "x".repeat(257);
    let accepts = vec!["1"; 1_025].join(",");
    let cases = [
        ("a", "no json".to_owned(), "JSON"),
        ("a", String::new(), "JSON"),
        ("a", r#"{"mid":"x"}"#.to_owned(), "mid"),
        ("a", format!(r#"{{"key":"{long}"}}"#), "key"),
        ("a", format!(r#"{{"room_id":"{long}"}}"#), "room_id"),
        ("a", format!(r#"{{"accepts":[{accepts}]}}"#), "accepts"),
        (
            "a",
            format!(r#"{{"platform":"{}"}}"#, "x".repeat(4_096)),
            "token",
        ),
        ("", "{}".to_owned(), "server"),
        (long.as_str(), "{}".to_owned(), "server"),
    ];
    for (server, token, field) in cases {
        let status = logic.connect(server, &token).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(field), "{field}: {status}");
    }
}

#[tokio::test]
async fn sessions_live_by_heartbeats_and_end_by_their_own_goodbye() {
    let (logic, pass) = start_with_clock();
    let mut client = logic.client.clone();
    let heartbeat = |server: &str, connection: Option<ConnectionRef>| HeartbeatReq {
        mid: 7,
        key: "k".to_owned(),
        server: server.to_owned(),
        connection,
    };
    let goodbye = |server: &str, connection: Option<ConnectionRef>| DisconnectReq {
        mid: 7,
        key: "k".to_owned(),
        server: server.to_owned(),
        connection,
    };
    logic.connect("a", r#"{"mid":7,"key":"k"}"#).await.unwrap();
    pass(Duration::from_mins(20));
    client.heartbeat(heartbeat("a", None)).await.unwrap();
    pass(Duration::from_mins(20));
    assert!(online(&logic, "k").await);
    pass(Duration::from_mins(20));
    assert!(!online(&logic, "k").await);
    // As in goim, the heartbeat of a forgotten session brings it back.
    client.heartbeat(heartbeat("a", None)).await.unwrap();
    assert!(online(&logic, "k").await);
    assert!(
        !client
            .disconnect(goodbye("b", None))
            .await
            .unwrap()
            .into_inner()
            .has
    );
    assert!(
        client
            .disconnect(goodbye("a", None))
            .await
            .unwrap()
            .into_inner()
            .has
    );
    assert!(!online(&logic, "k").await);

    // With connections: the key moves from a to b, and a's goodbye and heartbeat come late.
    for server in ["a", "b"] {
        logic.renew(server, Some(info(1)), &[]).await.unwrap();
        logic
            .connect_as(server, r#"{"mid":7,"key":"k"}"#, connection(1, 1))
            .await
            .unwrap();
    }
    client
        .heartbeat(heartbeat("a", Some(connection(1, 1))))
        .await
        .unwrap();
    assert!(
        !client
            .disconnect(goodbye("a", Some(connection(1, 1))))
            .await
            .unwrap()
            .into_inner()
            .has
    );
    assert!(online(&logic, "k").await);
    let late = logic
        .connect_as("b", r#"{"mid":7,"key":"k"}"#, connection(1, 0))
        .await
        .unwrap_err();
    assert_eq!(late.code(), Code::Aborted);
    assert!(
        client
            .disconnect(goodbye("b", Some(connection(1, 1))))
            .await
            .unwrap()
            .into_inner()
            .has
    );
}

#[tokio::test]
async fn leases_come_with_renew_online_and_die() {
    let (logic, pass) = start_with_clock();
    let first = logic
        .renew("a", Some(info(5)), &[("live://1", 2)])
        .await
        .unwrap();
    assert!(!first.lease_known);
    assert_ne!(first.store_generation, 0);
    let second = logic
        .renew("a", Some(info(5)), &[("live://1", 3)])
        .await
        .unwrap();
    assert!(second.lease_known);
    assert_eq!(second.store_generation, first.store_generation);
    assert_eq!(second.all_room_count["live://1"], 3);

    let older = logic.renew("a", Some(info(4)), &[]).await.unwrap_err();
    assert_eq!(older.code(), Code::FailedPrecondition);
    let none = logic.renew("b", Some(info(0)), &[]).await.unwrap_err();
    assert!(none.message().contains("comet.epoch"), "{none}");

    // goim's own comet says nothing of itself and gets the same counts.
    let goims = logic
        .renew("g", None, &[("live://1", 10), ("live://2", -1)])
        .await
        .unwrap();
    assert_eq!(
        (goims.lease_known, goims.all_room_count["live://1"]),
        (false, 13)
    );
    assert!(!goims.all_room_count.contains_key("live://2"));
    pass(Duration::from_secs(30));
    let alone = logic.renew("g", None, &[("live://1", 10)]).await.unwrap();
    assert_eq!(alone.all_room_count["live://1"], 10);

    let other = start(config());
    let elsewhere = other.renew("a", Some(info(5)), &[]).await.unwrap();
    assert!(!elsewhere.lease_known);
    assert_ne!(elsewhere.store_generation, first.store_generation);
}

#[tokio::test]
async fn compressed_reports_are_taken() {
    let logic = start(config());
    let endpoint = Endpoint::from_shared(format!("http://{}", logic.stub.grpc_addr())).unwrap();
    let client = LogicClient::new(endpoint.connect_lazy());
    let mut client = client
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let room_count = (0..1_000).map(|n| (format!("live://{n}"), n)).collect();
    let request = OnlineReq {
        server: "g".to_owned(),
        room_count,
        comet: None,
    };
    let reply = client.renew_online(request).await.unwrap().into_inner();
    assert_eq!(reply.all_room_count.len(), 1_000);
}

#[tokio::test]
async fn business_decides_who_comes_in_and_what_becomes_of_messages() {
    struct Strict(mpsc::UnboundedSender<ReceiveReq>);
    impl Business for Strict {
        fn authenticate<'a>(
            &'a self,
            request: &'a ConnectReq,
        ) -> BoxFuture<'a, Result<protocol::Token, logic_stub::business::Refusal>> {
            Box::pin(async move {
                match &request.token[..] {
                    b"open sesame" => Ok(protocol::Token {
                        mid: 1,
                        ..protocol::Token::default()
                    }),
                    _ => Err(logic_stub::business::Refusal::Unauthenticated(
                        "who are you?".to_owned(),
                    )),
                }
            })
        }

        fn receive(&self, message: ReceiveReq) -> BoxFuture<'_, Result<(), Status>> {
            self.0.send(message).unwrap();
            Box::pin(async { Ok(()) })
        }
    }
    let (sender, mut received) = mpsc::unbounded_channel();
    let logic = start_with(LogicStub::builder(config()).business(Arc::new(Strict(sender))));
    let refused = logic.connect("a", "{}").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "who are you?")
    );
    assert_eq!(logic.connect("a", "open sesame").await.unwrap().mid, 1);
    let proto = Some(Proto {
        ver: 1,
        op: 4,
        seq: 2,
        body: "hi".into(),
    });
    let message = ReceiveReq {
        mid: 1,
        proto,
        connection: Some(connection(1, 2)),
    };
    logic.client.clone().receive(message.clone()).await.unwrap();
    assert_eq!(received.recv().await.unwrap(), message);
}

#[tokio::test]
async fn a_full_store_refuses_logins() {
    let mut config = config();
    config.sessions.max = 1;
    let logic = start(config);
    logic.connect("a", r#"{"key":"one"}"#).await.unwrap();
    let refused = logic.connect("a", r#"{"key":"two"}"#).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    logic.connect("a", r#"{"key":"one"}"#).await.unwrap();
}

#[tokio::test]
async fn it_ends_when_told() {
    let logic = start(config());
    let addr = logic.stub.http_addr();
    let (status, _) = support::http(addr, "GET", "/goim/online/total", b"").await;
    assert_eq!(status, 200);
    logic.shutdown.cancel();
    support::within(logic.stub.join()).await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let logic = start(config());
    let endpoint = format!("http://{}", logic.stub.grpc_addr());
    let channel = Endpoint::from_shared(endpoint).unwrap().connect_lazy();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "goim.logic.Logic"] {
        let service = service.to_owned();
        let request = HealthCheckRequest { service };
        let reply = health.check(request).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(
            "goim.logic.Logic".to_owned(),
        )),
    };
    let requests = tokio_stream::once(request);
    let mut reflection = ServerReflectionClient::new(channel);
    let mut replies = reflection
        .server_reflection_info(requests)
        .await
        .unwrap()
        .into_inner();
    let reply = replies
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(
        matches!(reply, MessageResponse::FileDescriptorResponse(files) if !files.file_descriptor_proto.is_empty())
    );
}
