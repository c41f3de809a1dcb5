//! Kicks over HTTP, the bound of a user's connections, and a key that moves between two comets.

use logic_stub::config::PerMid;
use protocol::{Token, op};
use serde_json::json;

use crate::support::{Client, Door, SecondComet, Server, http, through_both_doors, token, until};

through_both_doors!(
    a_kick_over_http_reaches_key_mid_and_room_on_all_comets,
    a_kick_by_address_reaches_who_came_from_there_and_says_whether_to_come_back,
    a_key_that_moves_to_another_comet_has_one_connection,
    an_older_connection_that_comes_back_is_closed_at_its_heartbeat,
    the_newest_connections_of_a_user_stay,
    a_login_beyond_the_bound_is_told_so,
);

async fn a_kick_over_http_reaches_key_mid_and_room_on_all_comets(door: Door) {
    let server = Server::start().await;
    let second = SecondComet::start(&server).await;
    let mut by_key = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut by_mid = [
        second.login(door, &token(2, "b", "live://1")).await,
        second.login(door, &token(2, "c", "live://1")).await,
    ];
    let mut in_room = [
        Client::login(&server, door, &token(3, "d", "live://1")).await,
        second.login(door, &token(4, "e", "live://1")).await,
    ];
    let mut outside = second.login(door, &token(5, "f", "live://2")).await;

    let listed = http::get(server.push_api(), "/comet/sessions?mids=2").await;
    let listed = listed.json()["data"].take();
    let session = &listed["sessions"][0];
    assert_eq!(
        (&listed["total"], &session["key"]),
        (&json!(2), &json!("b"))
    );
    assert_eq!(session["server"], "second");
    assert_eq!(session["door"], door.label().label());
    let address = by_mid[0].socket.local_addr().unwrap();
    assert_eq!(session["address"], address.to_string());

    kick(&server, "keys?keys=a&reason=you%20know%20why", 1).await;
    is_kicked(&mut by_key, "you know why", door).await;
    kick(&server, "mids?mids=2", 2).await;
    for client in &mut by_mid {
        is_kicked(client, "closed by the service", door).await;
    }
    kick(&server, "room?type=live&room=1&reason=over", 2).await;
    for client in &mut in_room {
        is_kicked(client, "over", door).await;
    }
    outside.has_nothing().await;
    // Logic is told, and then has no session of any of them.
    let here = server.metrics().logic_calls("disconnect", "ok");
    let there = second.comet.metrics().logic_calls("disconnect", "ok");
    until("logic is told", || here.get() + there.get() == 5).await;
    let answer = http::post(server.push_api(), "/comet/kick/mids?mids=2&mids=5", b"").await;
    let data = json!({"kicked": 1, "absent": ["2"], "unreached": {}});
    assert_eq!(
        answer.json(),
        json!({"code": 0, "message": "not online: 2", "data": data})
    );
    is_kicked(&mut outside, "closed by the service", door).await;
}

async fn a_kick_by_address_reaches_who_came_from_there_and_says_whether_to_come_back(door: Door) {
    let server = Server::start().await;
    let mut near = Client::login(&server, door, &token(1, "near", "")).await;
    let mut far = Client::from([127, 0, 0, 9], &server, door).await;
    far.auth(&token(2, "far", "")).await;
    let query = "addresses?addresses=192.0.2.1&addresses=127.0.0.8/29&reconnect=true&within=10";
    kick(&server, query, 1).await;
    let words = far.ended().await.words;
    assert_eq!(
        (&words["reason"], &words["reconnect"]),
        (&json!("kicked"), &json!(true))
    );
    assert!(words["delay_ms"].as_u64().unwrap() <= 10_000);
    kick(&server, "addresses?addresses=127.0.0.1&reconnect=false", 1).await;
    let words = near.ended().await.words;
    assert_eq!(words["reconnect"], json!(false));
    assert_eq!(words["delay_ms"], json!(null));

    for query in [
        "",
        "?addresses=127.0.0.1/33",
        "?addresses=127.0.0.1&reconnect=perhaps",
    ] {
        let path = format!("/comet/kick/addresses{query}");
        let (code, message) = http::post(server.push_api(), &path, b"").await.verdict();
        assert_eq!(code, -400, "{message}");
    }
}

async fn a_key_that_moves_to_another_comet_has_one_connection(door: Door) {
    let server = Server::start().await;
    let second = SecondComet::start(&server).await;
    let key = token(1, "a", "live://1");
    let mut first = Client::login(&server, door, &key).await;
    for _ in 0..3 {
        let mut there = second.login(door, &key).await;
        first.ended().await.is("replaced", 4001, door);
        first = Client::login(&server, door, &key).await;
        there.ended().await.is("replaced", 4001, door);
    }
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "key").await;
    http::push(server.push_api(), "mids", "operation=1000&mids=1", "mid").await;
    first.gets("key").await;
    first.gets("mid").await;
    // What the older ones' comets say of their ends takes nothing from the one that stayed.
    let closed = [server.metrics(), second.comet.metrics()].map(|metrics| {
        let told = metrics.logic_calls("disconnect", "ok");
        (metrics.closes("replaced"), told)
    });
    until("logic is told", || {
        closed
            .iter()
            .all(|(closes, told)| (closes.get(), told.get()) == (3, 3))
    })
    .await;
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "still").await;
    first.gets("still").await;
}

async fn an_older_connection_that_comes_back_is_closed_at_its_heartbeat(door: Door) {
    let server = Server::start_with(|config| {
        config.comet.logic.heartbeat_min = common::config::Human::millis(1);
        config.comet.logic.heartbeat_max = common::config::Human::millis(1);
    })
    .await;
    let second = SecondComet::start(&server).await;
    let mut older = Client::login(&server, door, &token(1, "a", "")).await;
    // As if the first comet had been cut off while the key moved: the store has the second's session, and nobody was told.
    let mut newer = second.login(door, &token(1, "b", "")).await;
    let sessions = &server.standalone.logic.logic().sessions;
    let found = sessions.of_mids(&[1]).await.unwrap();
    let mut moved = found
        .into_iter()
        .find(|session| session.key == "b")
        .unwrap();
    "a".clone_into(&mut moved.key);
    sessions.register(&moved).await.unwrap();
    // Only what a client says is a sign of life.
    let farewell = loop {
        older.send(op::HEARTBEAT, 1, b"").await;
        let told = server.standalone.logic.logic().metrics.kicked("replaced");
        if told.get() > 0 {
            break older.rest().await.1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    farewell.is("replaced", 4001, door);
    newer.has_nothing().await;
}

async fn the_newest_connections_of_a_user_stay(door: Door) {
    let server = Server::start_with(|config| {
        config.logic.sessions.per_mid = PerMid::Newest;
        config.logic.sessions.max_per_mid = 2;
    })
    .await;
    let second = SecondComet::start(&server).await;
    let mut first = Client::login(&server, door, &token(1, "a", "")).await;
    let mut next = second.login(door, &token(1, "b", "")).await;
    let mut last = Client::login(&server, door, &token(1, "c", "")).await;
    is_kicked(&mut first, "this user has newer connections", door).await;
    // Another user's, and nobody's, are not counted with them.
    let mut other = second.login(door, &token(2, "d", "")).await;
    let mut nobodys = Vec::new();
    for key in ["e", "f", "g"] {
        nobodys.push(second.login(door, &token(0, key, "")).await);
    }
    http::push(server.push_api(), "all", "operation=1000", "hi").await;
    for client in [&mut next, &mut last, &mut other]
        .into_iter()
        .chain(&mut nobodys)
    {
        client.gets("hi").await;
    }
}

async fn a_login_beyond_the_bound_is_told_so(door: Door) {
    let server = Server::start_with(|config| {
        config.logic.sessions.per_mid = PerMid::Refuse;
    })
    .await;
    let mut first = Client::login(&server, door, &token(1, "a", "")).await;
    let refused = async |token: &Token| {
        let mut client = Client::connect(&server, door).await;
        client.send(op::AUTH, 1, token.to_json().as_bytes()).await;
        client.ended().await
    };
    let farewell = refused(&token(1, "b", "")).await;
    farewell.is("auth_refused", 1008, door);
    let words = "this user has as many connections as are allowed: 1";
    assert_eq!(farewell.message, words);
    first.has_nothing().await;
    drop(first);
    let goodbyes = server.metrics().logic_calls("disconnect", "ok");
    until("logic is told", || goodbyes.get() == 1).await;
    Client::login(&server, door, &token(1, "b", "")).await;
}

async fn kick(server: &Server, query: &str, count: u64) {
    let path = format!("/comet/kick/{query}");
    let answer = http::post(server.push_api(), &path, b"").await;
    let data = json!({"kicked": count, "absent": [], "unreached": {}});
    let wanted = json!({"code": 0, "message": "", "data": data});
    assert_eq!(answer.json(), wanted, "{query}");
}

async fn is_kicked(client: &mut Client, message: &str, door: Door) {
    let farewell = client.ended().await;
    farewell.is("kicked", 4002, door);
    assert_eq!(farewell.message, message);
}
