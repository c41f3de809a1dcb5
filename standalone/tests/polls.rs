//! Long-poll: sessions that live from one request to the next.

use std::{collections::HashSet, sync::Arc};

use common::config::Human;
use logic_stub::config::PerMid;
use protocol::{grpc::goim::comet::BroadcastRoomReq, op};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{
    Client, Door, Server,
    grpc::{self, kick, kick_keys},
    http,
    server::without_bounds,
    subscription::{Poller, encoded, get, reason, send, texts},
    token, until, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_push_arrives() {
    let server = Server::start().await;
    let api = server.push_api();
    let mut poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    http::push(api, "keys", "operation=1000&keys=a", "by key").await;
    poller.gets("by key").await;
    http::push(api, "mids", "operation=1000&mids=1", "by mid").await;
    poller.gets("by mid").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "room").await;
    poller.gets("room").await;
    http::push(api, "all", "operation=1000", "all").await;
    poller.gets("all").await;
    // One that it does not accept, and one whose body is no text.
    http::push(api, "keys", "operation=9999&keys=a", "filtered").await;
    push_bytes(&server, "a", b"\xff\0").await;
    let messages = poller.poll().await;
    assert_eq!(messages.len(), 1);
    assert_eq!(
        (&messages[0]["base64"], &messages[0]["body"]),
        (&json!("/wA="), &Value::Null)
    );
    assert_eq!(messages[0]["id"].as_str().unwrap().len(), 32);
    assert_eq!(
        server.metrics().logins(comet::transport::Door::Poll).get(),
        1
    );
    assert_eq!(server.metrics().logic_calls("connect", "ok").get(), 1);
    assert_eq!(server.metrics().logic_calls("disconnect", "ok").get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_is_held_until_something_comes() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    let polling = tokio::spawn(async move {
        poller.gets("now").await;
        poller
    });
    // The request is there when it has acknowledged the login's answer; a push before that would wait.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "now").await;
    polling.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_between_two_polls_waits_in_order_up_to_its_bound() {
    let server = Server::start_with(|config| config.comet.protocol.svr_proto = 16).await;
    let mut poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    let room = "operation=1000&type=live&room=1";
    http::push_numbers(server.push_api(), "room", room, 20).await;
    let metrics = server.metrics();
    let messages = poller.poll().await;
    assert_eq!(texts(&messages), numbered(&numbers(16)));
    assert_eq!(
        (metrics.taken.get(), metrics.dropped("backlog_full").get()),
        (16, 4)
    );
    until("all are delivered", || metrics.delivered.get() == 16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_joined_for_others_comes_apart_and_keeps_its_names() {
    let server = Server::start_with(without_bounds).await;
    let mut poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    let mut comet = grpc::goim(&server).await;
    let all = numbers(50);
    let parts: Vec<(i32, &str)> = all.iter().map(|text| (1000, text.as_str())).collect();
    let to_room = BroadcastRoomReq {
        room_id: "live://1".to_owned(),
        proto: Some(grpc::raw(&parts)),
    };
    comet.broadcast_room(to_room).await.unwrap();
    let messages = poller.poll().await;
    assert_eq!(texts(&messages), numbered(&all));
    let names: HashSet<String> = messages
        .iter()
        .map(|message| message["id"].to_string())
        .collect();
    assert_eq!(names.len(), 50);
    let delivered = &server.metrics().delivered;
    until("all are delivered", || delivered.get() == 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_did_not_arrive_is_repeated() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "first").await;
    let lost = poller.ask().await;
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "second").await;
    let repeated = poller.ask().await;
    assert_eq!(repeated.json(), lost.json());
    poller.gets("first").await;
    poller.gets("second").await;
    let delivered = &server.metrics().delivered;
    until("each is delivered once", || delivered.get() >= 2).await;
    assert_eq!(delivered.get(), 2);
    poller.ack += 100;
    let refused = poller.ask().await;
    assert_eq!((refused.status, code(&refused.body)), (400, -400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_loses_nothing() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    for n in 0..20 {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let request = format!(
            "GET /sub?{} HTTP/1.1\r\nHost: comet\r\n\r\n",
            poller.query()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(socket);
        let text = n.to_string();
        http::push(server.push_api(), "keys", "operation=1000&keys=a", &text).await;
    }
    let mut read = Vec::new();
    while read.len() < 20 {
        let answer = poller.ask().await;
        // One of the requests above may come late.
        if answer.status != 409 {
            read.extend(poller.note(&answer));
        }
    }
    assert_eq!(texts(&read), numbered(&numbers(20)));
    assert_eq!(server.metrics().taken.get(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_polls_the_newer_one_gets_what_comes() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    let (addr, query) = (server.door(Door::WebSocket), poller.query());
    let one = tokio::spawn({
        let query = query.clone();
        async move { get(addr, &query).await }
    });
    let superseded = server.metrics().http_refusals("superseded");
    let other = tokio::spawn(async move { get(addr, &query).await });
    until("one of them is answered", || superseded.get() == 1).await;
    http::push(
        server.push_api(),
        "keys",
        "operation=1000&keys=a",
        "for the newer",
    )
    .await;
    let answers = [one.await.unwrap(), other.await.unwrap()];
    let mut statuses = answers.each_ref().map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let older = answers.iter().find(|answer| answer.status == 409).unwrap();
    let older: Value = serde_json::from_str(&older.body).unwrap();
    assert_eq!(
        (&older["code"], &older["reason"]),
        (&json!(-409), &json!("superseded"))
    );
    // Whichever it was, its answer is acknowledged by the next one.
    poller.gets("for the newer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_answer_comes_in_time_and_the_count_with_it() {
    let server =
        Server::start_with(|config| config.comet.subscription.hold = Human::millis(50)).await;
    let mut poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    let answer = poller.ask().await.json();
    assert_eq!(
        (&answer["messages"], &answer["online"]),
        (&json!([]), &json!(1))
    );
    assert_eq!((&answer["key"], &answer["mid"]), (&json!("a"), &json!(1)));
    assert_eq!(poller.poll().await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_poll_ends() {
    let server = Server::start_with(|config| {
        config.comet.subscription.idle = Human::millis(200);
        config.comet.protocol.sweep = Human::millis(100);
    })
    .await;
    let poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    server.closed("heartbeat_timeout", 1).await;
    let disconnects = server.metrics().logic_calls("disconnect", "ok");
    until("logic is told", || disconnects.get() == 1).await;
    let gone = poller.ask().await;
    assert_eq!((gone.status, code(&gone.body)), (404, -404));
    let open = server.metrics().connections(comet::transport::Door::Poll);
    until("nothing is left", || open.get() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goim_1s_poll_has_one_proto_and_ends() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let token = encoded(&token(1, "a", "").to_json());
    for (form, before, after) in [
        ("", "", ""),
        ("&cb=x", "x=", ""),
        ("&callback=x", "/**/x(", ");"),
    ] {
        let query = format!("ver=1&op=7&seq=1&t={token}{form}");
        let logins = server.metrics().logins(comet::transport::Door::Poll);
        let before_login = logins.get();
        let polling = tokio::spawn(async move { get(addr, &query).await });
        until("it is logged in", || {
            logins.get() > before_login || polling.is_finished()
        })
        .await;
        http::push(
            server.push_api(),
            "keys",
            "operation=1000&keys=a",
            r#"{"a":1}"#,
        )
        .await;
        let answer = polling.await.unwrap();
        let json = format!(r#"{before}{{"ver":1,"op":1000,"seq":0,"body":{{"a":1}}}}{after}"#);
        assert_eq!((answer.status, answer.body), (200, json));
    }
    server.closed("peer_closed", 3).await;
    let metrics = server.metrics();
    assert_eq!((metrics.taken.get(), metrics.delivered.get()), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cannot_be_are_told_why() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let token = encoded(&token(1, "a", "").to_json());
    let long = "x".repeat(4097);
    let unknown = "0".repeat(32);
    for (query, status, words) in [
        (
            format!("t={token}&s=&callback=alert(1)"),
            400,
            "parameter callback",
        ),
        (format!("t={token}&s=&cb=a.b"), 400, "parameter cb"),
        (format!("t={token}&s=&cb=%E2%80%A8x"), 400, "parameter cb"),
        (format!("t={token}&op=2"), 400, "parameter op"),
        (format!("t={token}&seq=x"), 400, "parameter seq"),
        (format!("t={token}&t=x"), 400, "parameter t"),
        (format!("t={long}"), 400, "parameter t"),
        ("op=7".to_owned(), 400, "parameter t"),
        ("s=".to_owned(), 400, "parameter t"),
        (format!("s={unknown}"), 404, "no such session"),
        ("s=%ff%00%27%22".to_owned(), 404, "no such session"),
        ("t=nonsense&s=".to_owned(), 403, "refused"),
        ("t=nonsense".to_owned(), 403, "refused"),
    ] {
        let answer = get(addr, &query).await;
        assert_eq!(
            (answer.status, code(&answer.body)),
            (status, -i64::from(status)),
            "{query}"
        );
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
    let refused = get(addr, "t=nonsense&callback=x").await;
    // Browsers run no script with another status.
    assert_eq!(refused.status, 200);
    assert!(
        refused.body.starts_with("/**/x({\"code\":-403,"),
        "{refused:?}"
    );
    let put = b"PUT /sub?s= HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(http::ask(addr, put).await.status, 405);
    server.closed("auth_refused", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_is_told_until_it_is_acknowledged() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    assert_eq!(kick(&server, kick_keys(&["a"]), "enough").await, 1);
    let lost = poller.ask().await.json();
    assert_eq!(reason(&lost["messages"][0]), "kicked");
    // The key is free meanwhile.
    let mut other = Client::login(&server, Door::Tcp, &token(1, "a", "")).await;
    let messages = poller.poll().await;
    assert_eq!(reason(&messages[0]), "kicked");
    poller.has_it().await;
    server.closed("kicked", 1).await;
    assert_eq!(poller.ask().await.status, 404);
    other.has_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_logs_in_again_replaces_the_session() {
    let server = Server::start().await;
    let mut older = Poller::login(&server, &token(1, "a", "")).await;
    let mut newer = Poller::login(&server, &token(1, "a", "")).await;
    assert_ne!(older.session, newer.session);
    let messages = older.poll().await;
    assert_eq!(reason(&messages[0]), "replaced");
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "newer").await;
    newer.gets("newer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_ask_by_post_and_are_answered_by_their_polls() {
    let server = Server::start().await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    for (op, body) in [
        (op::CHANGE_ROOM, &b"live://7"[..]),
        (op::SUB, b"1002"),
        (op::HEARTBEAT, b""),
        (op::SEND_MSG, b"for the application"),
    ] {
        let taken = poller.send(op, op + 100, body).await;
        assert_eq!(taken.verdict(), (0, String::new()));
        let messages = poller.poll().await;
        assert_eq!(messages[0]["seq"], op + 100, "{messages:?}");
        let reply = if op == op::SEND_MSG { op } else { op + 1 };
        assert_eq!(messages[0]["op"], reply);
    }
    http::push(
        server.push_api(),
        "room",
        "operation=1000&type=live&room=7",
        "room",
    )
    .await;
    poller.gets("room").await;
    let metrics = server.metrics();
    assert_eq!(metrics.protos_in(op::CHANGE_ROOM).get(), 1);

    let addr = server.door(Door::WebSocket);
    let big = vec![b'x'; 4097];
    for (answer, status) in [
        (send(addr, "unknown", 2, 1, b"").await, 404),
        (poller.send(1000, 1, &big).await, 413),
        (
            http::post(addr, &format!("/sub?s={}", poller.session), b"").await,
            400,
        ),
        (http::post(addr, "/sub", b"").await, 400),
        (poller.send(op::CHANGE_ROOM, 1, b"\xff").await, 400),
    ] {
        assert_eq!(
            (answer.status, code(&answer.body)),
            (status, -i64::from(status))
        );
    }
    let messages = poller.poll().await;
    assert_eq!(reason(messages.last().unwrap()), "bad_room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_sessions_as_may_be() {
    let server = Server::start_with(|config| config.comet.subscription.sessions = 1).await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    let query = format!("s=&t={}", encoded(&token(2, "b", "").to_json()));
    let refused = get(addr, &query).await;
    assert_eq!((refused.status, code(&refused.body)), (503, -503));
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "a").await;
    poller.gets("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_counts_as_a_connection_of_its_user() {
    let server = Server::start_with(|config| {
        config.logic.sessions.per_mid = PerMid::Refuse;
    })
    .await;
    let mut poller = Poller::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    let query = format!("s=&t={}", encoded(&token(1, "b", "").to_json()));
    let refused = get(addr, &query).await;
    assert_eq!((refused.status, code(&refused.body)), (403, -403));
    assert!(refused.body.contains("as many connections"), "{refused:?}");
    http::push(server.push_api(), "mids", "operation=1000&mids=1", "a").await;
    poller.gets("a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_lost_is_begun_anew_with_a_token() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let unknown = "0".repeat(32);
    let query = format!(
        "s={unknown}&ack=7&t={}",
        encoded(&token(1, "a", "").to_json())
    );
    let answer = get(addr, &query).await.json();
    assert_ne!(answer["session"], unknown);
    assert_eq!(
        (&answer["ack"], &answer["messages"][0]["op"]),
        (&json!(1), &json!(op::AUTH_REPLY))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_comet_answers_polls_and_loses_no_count() {
    let server = Server::start_with(|config| {
        config.comet.subscription.idle = Human::secs(3600);
        // Nobody comes for what waits: it is given up.
        config.comet.protocol.close_timeout = Human::secs(1);
    })
    .await;
    let poller = Poller::login(&server, &token(1, "a", "live://1")).await;
    let _away = Poller::login(&server, &token(2, "b", "live://1")).await;
    // One that has yet to hear of its end.
    let _kicked = Poller::login(&server, &token(3, "c", "")).await;
    assert_eq!(kick(&server, kick_keys(&["c"]), "").await, 1);
    let (addr, query) = (server.door(Door::WebSocket), poller.query());
    let polling = tokio::spawn(async move { get(addr, &query).await });
    http::push(
        server.push_api(),
        "keys",
        "operation=1000&keys=b",
        "nobody asks",
    )
    .await;
    let metrics = Arc::clone(server.metrics());
    within("the end", server.stop()).await;
    let answer = polling.await.unwrap().json();
    let messages: Vec<Value> = serde_json::from_value(answer["messages"].clone()).unwrap();
    assert_eq!(reason(messages.last().unwrap()), "going_away");
    assert_eq!((metrics.taken.get(), metrics.delivered.get()), (1, 0));
    assert_eq!(metrics.lost("going_away").get(), 1);
    assert_eq!(metrics.closes("going_away").get(), 2);
    assert_eq!(metrics.closes("kicked").get(), 1);
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// As messages of operation 1000.
fn numbered(numbers: &[String]) -> Vec<(i64, &str)> {
    numbers.iter().map(|text| (1000, text.as_str())).collect()
}

/// A body that is no text, by key.
async fn push_bytes(server: &Server, key: &str, body: &[u8]) {
    let path = format!("/goim/push/keys?operation=1000&keys={key}&report=1");
    let answer = http::post(server.push_api(), &path, body).await;
    assert_eq!(answer.verdict(), (0, String::new()));
}

fn code(body: &str) -> i64 {
    let json: Value = serde_json::from_str(body).unwrap();
    json["code"].as_i64().unwrap()
}
