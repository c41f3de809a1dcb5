//! What browsers are told of long-poll and Server-Sent Events for pages of other sites.

use std::net::SocketAddr;

use crate::support::{
    Door, Server,
    http::{self, Answer},
    subscription::{Poller, encoded},
    token,
};

const LISTED: &str = "https://app.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_every_page_may_ask_without_cookies() {
    let server = Server::start().await;
    let poller = Poller::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    push(&server).await;
    let answer = ask(
        addr,
        "GET",
        &poller.query(),
        "Origin: https://any.example\r\n",
    )
    .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("access-control-allow-origin: *"),
        "{answer:?}"
    );
    assert!(!answer.head.contains("credentials"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_lets_its_pages_ask_with_cookies_and_no_others() {
    let server = with_list().await;
    let poller = Poller::login(&server, &token(1, "a", "")).await;
    let addr = server.door(Door::WebSocket);
    push(&server).await;
    let query = poller.query();
    let answer = ask(addr, "GET", &query, &format!("Origin: {LISTED}\r\n")).await;
    assert_eq!(answer.status, 200);
    for line in [
        "access-control-allow-origin: https://app.example.com\r\n",
        "access-control-allow-credentials: true\r\n",
        "vary: origin",
    ] {
        assert!(answer.head.contains(line), "{line}: {answer:?}");
    }
    let own = ask(addr, "GET", &query, "Sec-Fetch-Site: same-origin\r\n").await;
    assert_eq!(own.status, 200);
    assert!(!own.head.contains("access-control"), "{own:?}");

    let refusals = server.metrics().http_refusals("origin");
    let login = format!("t={}", encoded(&token(2, "b", "").to_json()));
    for (method, query, lines) in [
        ("GET", query.as_str(), "Origin: https://evil.example\r\n"),
        ("GET", login.as_str(), "Origin: null\r\n"),
        (
            "GET",
            login.as_str(),
            "Accept: text/event-stream\r\nOrigin: https://evil.example\r\n",
        ),
        (
            "POST",
            query.as_str(),
            "Content-Length: 0\r\nOrigin: https://evil.example\r\n",
        ),
        (
            "OPTIONS",
            query.as_str(),
            "Access-Control-Request-Method: GET\r\nOrigin: https://evil.example\r\n",
        ),
        // A script has no Origin.
        (
            "GET",
            "s=&t=x&callback=f",
            "Referer: https://evil.example/\r\n",
        ),
        ("GET", "s=&t=x&cb=f", "Sec-Fetch-Site: cross-site\r\n"),
    ] {
        let before = refusals.get();
        let refused = ask(addr, method, query, lines).await;
        assert_eq!(refused.status, 403, "{method} {lines}");
        assert!(!refused.head.contains("access-control"), "{refused:?}");
        assert!(
            refused.body.contains("\"reason\":\"origin\""),
            "{refused:?}"
        );
        assert_eq!(refusals.get(), before + 1, "{method} {lines}");
    }
    assert_eq!(
        server.metrics().logins(comet::transport::Door::Sse).get(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_that_ask_first_are_told_what_they_may_send() {
    let server = with_list().await;
    let lines = format!("Origin: {LISTED}\r\nAccess-Control-Request-Method: POST\r\n");
    let answer = ask(server.door(Door::WebSocket), "OPTIONS", "s=x", &lines).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    for line in [
        "access-control-allow-origin: https://app.example.com\r\n",
        "access-control-allow-methods: get, post\r\n",
        "access-control-allow-headers: content-type, cache-control, last-event-id\r\n",
        "access-control-max-age: 600\r\n",
    ] {
        assert!(answer.head.contains(line), "{line}: {answer:?}");
    }
}

async fn with_list() -> Server {
    Server::start_with(|config| config.comet.websocket.origins = vec![LISTED.to_owned()]).await
}

async fn push(server: &Server) {
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "hello").await;
}

async fn ask(addr: SocketAddr, method: &str, query: &str, lines: &str) -> Answer {
    let request = format!(
        "{method} /sub?{query} HTTP/1.1\r\nHost: comet\r\nConnection: close\r\n{lines}\r\n"
    );
    http::exchange(addr, request.as_bytes()).await
}
