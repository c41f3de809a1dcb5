//! Who may push through the page's own port, and what the welcome says of addresses that lead further than this machine.

use std::net::SocketAddr;

use crate::support::{Client, Door, Server, http, token};

const PUSH: &str = "/goim/push/room?operation=1000&type=live&room=1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_sites_cannot_push() {
    let server = Server::start().await;
    let addr = server.door(Door::WebSocket);
    let port = addr.port();
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    let refused = [
        // A site's own page, and one without an origin that can be told.
        format!("Host: localhost:{port}\r\nOrigin: http://evil.example"),
        format!("Host: localhost:{port}\r\nOrigin: null"),
        format!("Host: localhost:{port}\r\nOrigin: https://localhost:{port}"),
        // Another service of this machine.
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:1"),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}.evil.example"),
        format!(
            "Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\nOrigin: http://evil.example"
        ),
        // A site's name that leads here.
        format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}"),
        format!("Host: evil.example:{port}"),
        format!("Host: localhost.evil.example:{port}"),
        format!("Host: 127.0.0.1.evil.example:{port}"),
        format!("Host: 10.0.0.1:{port}"),
        format!("Host: [::2]:{port}"),
        format!("Host: localhost:{port}\r\nHost: evil.example"),
    ];
    for headers in refused {
        let answer = push(addr, &headers, "refused").await;
        assert_eq!(answer.status, 403, "{headers}: {answer:?}");
        let text = answer.body.as_str();
        assert!(text.contains("other sites"), "{headers}: {text}");
        assert!(
            text.contains("page.allowUnauthenticated"),
            "{headers}: {text}"
        );
    }
    let taken = [
        format!("Host: localhost:{port}"),
        format!("Host: LocalHost:{port}\r\nOrigin: http://localhost:{port}"),
        format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}"),
        format!("Host: [::1]:{port}\r\nOrigin: http://[::1]:{port}"),
        "Host: localhost\r\nOrigin: http://localhost".to_owned(),
    ];
    for (index, headers) in taken.iter().enumerate() {
        let text = format!("taken {index}");
        let answer = push(addr, headers, &text).await;
        assert_eq!(answer.verdict(), (0, String::new()), "{headers}");
        // The first message that comes, so none that was refused did.
        client.gets(&text).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_allows_it_lets_all_sites_push() {
    let server = Server::start_with(|config| config.page.allow_unauthenticated = true).await;
    let mut client = Client::login(&server, Door::Tcp, &token(1, "a", "live://1")).await;
    let headers = "Host: push.example.com\r\nOrigin: http://other.example";
    let answer = push(server.door(Door::WebSocket), headers, "hello").await;
    assert_eq!(answer.verdict(), (0, String::new()));
    client.gets("hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_welcome_names_addresses_that_can_be_opened() {
    let server = Server::start_with(|config| {
        config.comet.websocket.bind = vec![":0".to_owned()];
        ":0".clone_into(&mut config.logic.http_server.addr);
        config.logic.http_server.allow_unauthenticated = true;
    })
    .await;
    let welcome = server.standalone.welcome();
    assert!(welcome.contains("sessions in memory"), "{welcome}");
    let page = server.door(Door::WebSocket).port();
    let push = server.push_api().port();
    let opened = format!("http://localhost:{page}/?auto=1");
    assert!(welcome.contains(&opened), "no {opened} in: {welcome}");
    let pushed = format!("'http://localhost:{push}/goim/push/room?");
    assert!(welcome.contains(&pushed), "no {pushed} in: {welcome}");
}

async fn push(addr: SocketAddr, headers: &str, body: &str) -> http::Answer {
    let len = body.len();
    let request = format!(
        "POST {PUSH} HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    http::exchange(addr, request.as_bytes()).await
}
