//! Server-Sent Events: a stream that a browser comes back to.

use std::sync::Arc;

use common::config::Human;
use protocol::op;
use serde_json::json;

use crate::support::{
    Client, Door, Server,
    grpc::{kick, kick_keys},
    http,
    server::without_bounds,
    subscription::{Events, encoded, reason, send, texts, turned_away, words},
    token, until, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_push_arrives() {
    let server = Server::start().await;
    let api = server.push_api();
    let mut events = Events::login(&server, &token(1, "a", "live://1")).await;
    http::push(api, "keys", "operation=1000&keys=a", "by key").await;
    http::push(api, "mids", "operation=1000&mids=1", "by mid").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "line\nline").await;
    http::push(api, "all", "operation=1000", "all").await;
    for text in ["by key", "by mid", "line\nline", "all"] {
        events.gets(text).await;
    }
    let path = "/goim/push/keys?operation=1001&keys=a&report=1";
    http::post(api, path, b"\xff\xfe").await;
    let event = events.message().await;
    assert_eq!(
        (&event.data["op"], &event.data["base64"]),
        (&json!(1001), &json!("//4="))
    );
    // The event's id names session, number and message.
    let parts: Vec<&str> = event.id.split('.').collect();
    assert_eq!(
        (parts[1], parts[2]),
        ("6", event.data["id"].as_str().unwrap())
    );
    let metrics = server.metrics();
    assert_eq!(metrics.logins(comet::transport::Door::Sse).get(), 1);
    until("all are delivered", || metrics.delivered.get() == 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_event_says_what_a_client_needs() {
    let server = Server::start().await;
    let query = format!("t={}&seq=9", encoded(&token(7, "a", "").to_json()));
    let stream = Events::open(server.door(Door::WebSocket), &query, "").await;
    let mut events = stream.unwrap();
    let opening = events.next().await.unwrap();
    let session = events.session().to_owned();
    assert_eq!(
        opening.data,
        json!({"session": session, "key": "a", "mid": 7, "heartbeat": 25_000, "resumed": false, "missed": 0})
    );
    assert_eq!(session.len(), 32);
    let auth = events.message().await;
    assert_eq!(
        (&auth.data["op"], &auth.data["seq"]),
        (&json!(op::AUTH_REPLY), &json!(9))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_broke_goes_on_where_it_was() {
    let server = Server::start().await;
    let api = server.push_api();
    let mut events = Events::login(&server, &token(1, "a", "live://1")).await;
    http::push(api, "keys", "operation=1000&keys=a", "before").await;
    events.gets("before").await;
    let id = events.id.clone();
    http::push(api, "keys", "operation=1000&keys=a", "unread").await;
    drop(events);
    http::push(api, "room", "operation=1000&type=live&room=1", "meanwhile").await;

    let query = format!("t={}", encoded(&token(1, "a", "live://1").to_json()));
    let line = format!("Last-Event-ID: {id}\r\n");
    let addr = server.door(Door::WebSocket);
    let mut events = Events::open(addr, &query, &line).await.unwrap();
    let opening = events.next().await.unwrap();
    assert_eq!(
        (&opening.data["resumed"], &opening.data["missed"]),
        (&json!(true), &json!(0))
    );
    events.gets("unread").await;
    events.gets("meanwhile").await;
    let metrics = server.metrics();
    assert_eq!(metrics.logic_calls("connect", "ok").get(), 1);
    assert_eq!(metrics.resumed("whole").get(), 1);
    until("each is delivered once", || metrics.delivered.get() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_held_any_more_is_told_and_counted() {
    let server = Server::start_with(|config| config.comet.subscription.replay = 2).await;
    let mut events = Events::login(&server, &token(1, "a", "")).await;
    let after_auth = events.id.clone();
    for n in 0..5 {
        let text = n.to_string();
        http::push(server.push_api(), "keys", "operation=1000&keys=a", &text).await;
        events.gets(&text).await;
    }
    until("all are delivered", || {
        server.metrics().delivered.get() == 5
    })
    .await;
    drop(events);
    let line = format!("Last-Event-ID: {after_auth}\r\n");
    let addr = server.door(Door::WebSocket);
    let mut events = Events::open(addr, "", &line).await.unwrap();
    let opening = events.next().await.unwrap();
    assert_eq!(
        (&opening.data["resumed"], &opening.data["missed"]),
        (&json!(true), &json!(3))
    );
    events.gets("3").await;
    events.gets("4").await;
    let metrics = server.metrics();
    assert_eq!((metrics.missed.get(), metrics.resumed("gap").get()), (3, 1));
    assert_eq!(metrics.delivered.get(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_gone_is_begun_anew_with_a_token() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let line = format!("Last-Event-ID: {}.7\r\n", "0".repeat(32));
    let refused = Events::open(addr, "", &line).await.unwrap_err();
    assert_eq!(refused.status, 404);
    let query = format!("t={}", encoded(&token(1, "a", "").to_json()));
    let mut events = Events::open(addr, &query, &line).await.unwrap();
    assert_eq!(events.next().await.unwrap().data["resumed"], false);
    assert_eq!(server.metrics().resumed("unknown").get(), 2);
    let refused = Events::open(addr, "t=nonsense", "").await.unwrap_err();
    assert_eq!(refused.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_tell_who_is_online() {
    let server = Server::start_with(|config| {
        config.comet.subscription.heartbeat = Human::millis(20);
        config.comet.subscription.idle = Human::millis(200);
        config.comet.protocol.sweep = Human::millis(100);
    })
    .await;
    let mut events = Events::login(&server, &token(1, "a", "live://1")).await;
    let _other = Client::login(&server, Door::Tcp, &token(2, "b", "live://1")).await;
    // For longer than a session may be without a stream.
    for _ in 0..50 {
        assert_eq!(events.next().await.unwrap().name, "heartbeat");
    }
    loop {
        let event = events.next().await.unwrap();
        assert_eq!(event.name, "heartbeat");
        if event.data["online"] == 2 {
            break;
        }
    }
    drop(events);
    server.closed("heartbeat_timeout", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_the_end_is_told_and_browsers_stay_away() {
    let server = Server::start().await;
    let mut events = Events::login(&server, &token(1, "a", "")).await;
    assert_eq!(kick(&server, kick_keys(&["a"]), "enough").await, 1);
    let last = events.message().await;
    assert_eq!(reason(&last.data), "kicked");
    assert_eq!(events.next().await, None);
    // As a browser comes back by itself.
    let query = format!("t={}", encoded(&token(1, "a", "").to_json()));
    let line = format!("Last-Event-ID: {}\r\n", events.id);
    let addr = server.door(Door::WebSocket);
    let stay_away = Events::open(addr, &query, &line).await.unwrap_err();
    assert_eq!(stay_away.status, 204);
    // As a person who opens the page again.
    assert!(Events::open(addr, &query, "").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_come_back_comes_back() {
    let server = Server::start().await;
    let mut events = Events::login(&server, &token(1, "a", "")).await;
    let path = "/comet/kick/addresses?addresses=127.0.0.1&reconnect=true&within=10";
    let answer = http::post(server.push_api(), path, b"").await;
    assert_eq!(answer.json()["data"]["kicked"], 1);
    let last = events.message().await;
    let words = words(&last.data);
    assert_eq!(
        (&words["reason"], &words["reconnect"]),
        (&json!("kicked"), &json!(true))
    );
    // A browser waits for as long as it is advised.
    assert_eq!(json!(last.retry), words["delay_ms"]);
    assert_eq!(events.next().await, None);
    let query = format!("t={}", encoded(&token(1, "a", "").to_json()));
    let line = format!("Last-Event-ID: {}\r\n", events.id);
    let addr = server.door(Door::WebSocket);
    let mut events = Events::open(addr, &query, &line).await.unwrap();
    assert_eq!(events.next().await.unwrap().data["resumed"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_takes_the_place_of_the_older() {
    let server = Server::start().await;
    let mut older = Events::login(&server, &token(1, "a", "")).await;
    let line = format!("Last-Event-ID: {}\r\n", older.id);
    let addr = server.door(Door::WebSocket);
    let mut newer = Events::open(addr, "", &line).await.unwrap();
    assert_eq!(older.next().await, None);
    assert_eq!(newer.next().await.unwrap().data["resumed"], true);
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "newer").await;
    newer.gets("newer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_ask_by_post_and_are_answered_by_events() {
    let server = Server::start().await;
    let mut events = Events::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    let session = events.session().to_owned();
    let taken = send(addr, &session, op::CHANGE_ROOM, 3, b"live://7").await;
    assert_eq!(taken.verdict(), (0, String::new()));
    let answer = events.message().await;
    assert_eq!(
        texts(std::slice::from_ref(&answer.data)),
        [(op::CHANGE_ROOM_REPLY.into(), "live://7")]
    );
    assert_eq!(answer.data["seq"], 3);
    http::push(
        server.push_api(),
        "room",
        "operation=1000&type=live&room=7",
        "room",
    )
    .await;
    events.gets("room").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_loses_only_what_is_counted() {
    let server = Server::start_with(|config| {
        config.comet.protocol.svr_proto = 16;
        config.comet.tcp.sndbuf = 4096;
    })
    .await;
    let query = format!("t={}", encoded(&token(1, "slow", "live://1").to_json()));
    let addr = server.door(Door::WebSocket);
    let mut slow = Events::open_narrow(addr, &query).await;
    let mut other = Client::login(&server, Door::Tcp, &token(2, "other", "live://1")).await;
    let text = "x".repeat(1000);
    for _ in 0..500 {
        http::push(
            server.push_api(),
            "room",
            "operation=1000&type=live&room=1",
            &text,
        )
        .await;
        other.gets(&text).await;
    }
    let metrics = server.metrics();
    let dropped = metrics.dropped("backlog_full").get();
    assert!(dropped > 100, "{dropped} dropped");
    assert_eq!(metrics.taken.get() + dropped, 1000);
    assert_eq!(slow.next().await.unwrap().name, "session");
    assert_eq!(slow.message().await.data["op"], op::AUTH_REPLY);
    for _ in 0..500 - dropped {
        slow.gets(&text).await;
    }
    until("all that was taken is delivered", || {
        metrics.delivered.get() == metrics.taken.get()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_closed_where_that_is_the_policy() {
    let server = Server::start_with(|config| {
        config.comet.protocol.svr_proto = 16;
        config.comet.protocol.full_policy = comet::channel::FullPolicy::Disconnect;
        config.comet.protocol.close_timeout = Human::millis(50);
        config.comet.tcp.sndbuf = 4096;
    })
    .await;
    let query = format!("t={}", encoded(&token(1, "slow", "live://1").to_json()));
    let slow = Events::open_narrow(server.door(Door::WebSocket), &query).await;
    let metrics = server.metrics();
    let text = "x".repeat(1000);
    for _ in 0..500 {
        let path = "/goim/push/room?operation=1000&type=live&room=1&report=1";
        http::post(server.push_api(), path, text.as_bytes()).await;
    }
    server.closed("slow", 1).await;
    let lost = metrics.lost("slow").get();
    assert!(lost > 0);
    assert_eq!(metrics.taken.get(), metrics.delivered.get() + lost);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_comet_ends_streams_when_they_have_what_waits() {
    let server = Server::start_with(without_bounds).await;
    let mut events = Events::login(&server, &token(1, "a", "live://1")).await;
    let room = "operation=1000&type=live&room=1";
    http::push_numbers(server.push_api(), "room", room, 100).await;
    let metrics = Arc::clone(server.metrics());
    let stopping = tokio::spawn(server.stop());
    for n in 0..100 {
        events.gets(&n.to_string()).await;
    }
    let last = events.message().await;
    assert_eq!(reason(&last.data), "going_away");
    assert_eq!(events.next().await, None);
    assert_eq!(events.id.split('.').nth(1), Some("102"));
    drop(events);
    within("the end", stopping).await.unwrap();
    assert_eq!((metrics.taken.get(), metrics.delivered.get()), (100, 100));
    assert_eq!(metrics.closes("going_away").get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_will_pass_is_told_by_an_event() {
    let server = Server::start_with(|config| config.comet.subscription.sessions = 1).await;
    let _first = Events::login(&server, &token(1, "a", "")).await;
    let query = format!("t={}", encoded(&token(2, "b", "").to_json()));
    let last = turned_away(server.door(Door::WebSocket), &query).await;
    assert_eq!(last.retry, Some(3000));
    assert_eq!(reason(&last.data), "too_many_sessions");
}
