//! The end of a comet: where its clients go, and what they have got until then. That of one with many
//! is in [`crate::exodus`].

use std::sync::Arc;

use common::config::Human;
use serde_json::{Value, json};

use crate::support::{
    Client, Door, Doors, SecondComet, Server,
    doors::{Entrance, Kind},
    grpc::{self, Lane},
    http,
    server::without_bounds,
    subscription::{Events, Poller, encoded, get, texts, turned_away, words},
    through_both_doors, token, within,
};

through_both_doors!(
    a_drained_comet_sends_its_clients_elsewhere_and_gets_nothing_any_more,
    a_comet_that_is_about_to_drain_serves_and_is_not_offered,
);

/// Begins the end of a comet that has so many connections.
pub async fn drain(server: &Server, name: &str, connections: u32) {
    let path = format!("/comet/drain?server={name}");
    let answer = http::post(server.push_api(), &path, b"").await;
    let data = json!({ "connections": connections });
    assert_eq!(
        answer.json(),
        json!({"code": 0, "message": "", "data": data})
    );
}

/// What logic says of all comets.
async fn instances(server: &Server) -> Vec<Value> {
    let answer = http::get(server.push_api(), "/goim/nodes/instances").await;
    answer.json()["data"].as_array().unwrap().clone()
}

async fn a_drained_comet_sends_its_clients_elsewhere_and_gets_nothing_any_more(door: Door) {
    let server = Server::start().await;
    let second = SecondComet::start_with(&server, |config| {
        config.env.addrs = vec!["second.test".to_owned()];
    });
    let second = second.await;
    let mut stays = Client::login(&server, door, &token(1, "stays", "live://1")).await;
    let mut goes = second.login(door, &token(2, "goes", "live://1")).await;
    goes.until_online(2).await;
    stays.until_online(2).await;
    http::push(
        server.push_api(),
        "room",
        "operation=1000&type=live&room=1",
        "both",
    )
    .await;
    drain(&server, "second", 1).await;
    // What came before the end is there before it.
    let (packets, farewell) = goes.rest().await;
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].text(), "both");
    farewell.is("going_away", 1001, door);
    let nodes = match door {
        Door::Tcp => json!(["127.0.0.1"]),
        Door::WebSocket => json!(["standalone"]),
    };
    assert_eq!(farewell.words["reconnect"], json!(true));
    assert_eq!(farewell.words["nodes"], nodes);
    // One client alone is not told to wait for long: 100 a second may come back.
    assert!(farewell.words["delay_ms"].as_u64().unwrap() <= 10);

    drop(goes);
    second.ended().await;
    let left = instances(&server).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["hostname"], "standalone");
    // Nothing goes to it any more, and nobody is counted there.
    http::push(
        server.push_api(),
        "room",
        "operation=1000&type=live&room=1",
        "alone",
    )
    .await;
    stays.gets("both").await;
    stays.gets("alone").await;
    let total = http::get(server.push_api(), "/goim/online/total").await;
    assert_eq!(total.json()["data"]["conn_count"], json!(1));

    let answer = http::post(server.push_api(), "/comet/drain?server=second", b"").await;
    let (code, message) = answer.verdict();
    assert_eq!((code, message.as_str()), (-500, "comet second: not known"));
}

async fn a_comet_that_is_about_to_drain_serves_and_is_not_offered(door: Door) {
    let server = Server::start().await;
    let second = SecondComet::start_with(&server, |config| {
        config.env.weight = 1_000_000;
        config.drain.wait = Human::secs(3600);
    })
    .await;
    let mut earlier = second.login(door, &token(1, "earlier", "")).await;
    earlier.has_nothing().await;
    drain(&server, "second", 1).await;
    within("the word of it", async {
        loop {
            let all = instances(&server).await;
            let second = all.iter().find(|comet| comet["hostname"] == "second");
            if second.unwrap()["metadata"]["offline"] == "true" {
                break;
            }
        }
    })
    .await;
    let weighted = http::get(server.push_api(), "/goim/nodes/weighted?platform=web").await;
    assert_eq!(weighted.json()["data"]["nodes"], json!(["standalone"]));
    let not_ready = second.comet.readiness().report().unwrap_err();
    assert_eq!(not_ready, [("drain".to_owned(), "draining".to_owned())]);
    // Whoever comes all the same is served, as are those who are there.
    let mut later = second.login(door, &token(2, "later", "")).await;
    http::push(
        server.push_api(),
        "mids",
        "operation=1000&mids=1&mids=2",
        "still",
    )
    .await;
    earlier.gets("still").await;
    later.gets("still").await;
}

/// What sessions on HTTP requests are told at the end of this comet.
fn is_advice(words: &Value) {
    assert_eq!(words["reason"], "going_away", "{words}");
    assert_eq!(words["reconnect"], true, "{words}");
    assert_eq!(words["nodes"], json!(["second.test"]), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_requests_are_told_by_their_next_answers() {
    let server = Server::start().await;
    let _second = SecondComet::start_with(&server, |config| {
        config.env.addrs = vec!["second.test".to_owned()];
        "second.test".clone_into(&mut config.env.host);
    })
    .await;
    let mut events = Events::login(&server, &token(1, "events", "")).await;
    let mut held = Poller::login(&server, &token(2, "held", "")).await;
    let mut away = Poller::login(&server, &token(3, "away", "")).await;
    let held = tokio::spawn(async move {
        let messages = held.poll().await;
        held.has_it().await;
        messages
    });
    let api = server.push_api();
    http::push(api, "keys", "operation=1000&keys=events", "event").await;
    http::push(api, "keys", "operation=1000&keys=away", "waits").await;
    drain(&server, "standalone", 3).await;

    events.gets("event").await;
    let last = events.message().await;
    let said = words(&last.data);
    is_advice(&said);
    assert_eq!(json!(last.retry), said["delay_ms"]);
    assert_eq!(events.next().await, None);
    drop(events);
    let told = within("the answer to a poll", held).await.unwrap();
    is_advice(&words(told.last().unwrap()));
    // Whoever comes now is told the same; the doors are open for the one who is yet to come.
    let addr = server.door(Door::WebSocket);
    let query = encoded(&token(4, "late", "").to_json());
    let refused = get(addr, &format!("s=&t={query}")).await;
    assert_eq!(refused.status, 503);
    is_advice(&serde_json::from_str(&refused.body).unwrap());
    let last = turned_away(addr, &format!("t={query}")).await;
    let said = words(&last.data);
    is_advice(&said);
    assert_eq!(json!(last.retry), said["delay_ms"]);

    let mut messages = away.poll().await;
    if messages.len() == 1 {
        // It came before it was told in its turn.
        messages.extend(away.poll().await);
    }
    let [waits, last] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(texts(std::slice::from_ref(waits)), [(1000, "waits")]);
    is_advice(&words(last));
    away.has_it().await;
    let metrics = Arc::clone(server.metrics());
    within("the end", server.stop()).await;
    assert_eq!((metrics.taken.get(), metrics.delivered.get()), (2, 2));
    assert_eq!(metrics.closes("going_away").get(), 5);
    assert_eq!(metrics.drained.get(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_tls_is_written_before_the_end() {
    const CLIENTS: u32 = 8;
    const BEFORE: usize = 100;
    let doors = Doors::open_with(|config| {
        without_bounds(config);
        config.comet.tcp.sndbuf = 4096;
    })
    .await;
    let server = &doors.server;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let door = [Door::Tcp, Door::WebSocket][usize::from(number % 2 == 1)];
        let entrance = Entrance {
            kind: Kind::Frames(door),
            is_tls: true,
        };
        let mut client = Client::open_narrow(doors.addr(entrance), door).await;
        client.auth(&token(number.into(), "", "live://1")).await;
        client.online().await;
        clients.push(client);
    }
    // More than the sockets hold of clients that do not read.
    let text = |number: usize| format!("{number:16384}");
    let to_room = |number| grpc::message(grpc::room("live://1"), 1000, text(number).as_bytes());
    let mut lane = Lane::open(server).await;
    let mut taken = lane.push_all((0..BEFORE).map(to_room), BEFORE).await.taken;
    assert_eq!(taken, u64::from(CLIENTS) * BEFORE as u64);
    let metrics = server.metrics();
    assert!(metrics.delivered.get() < taken / 2, "nothing waits");

    drain(server, "standalone", CLIENTS).await;
    let telling = async {
        let mut number = BEFORE;
        while metrics.drained.get() < CLIENTS.into() {
            let receipt = lane.push_all([to_room(number)], 1).await;
            assert_eq!(receipt.dropped, 0);
            taken += receipt.taken;
            number += 1;
        }
    };
    within("the word to all", telling).await;
    let mut got = 0;
    for client in &mut clients {
        let (packets, farewell) = client.rest().await;
        farewell.is("going_away", 1001, client.door);
        assert!(packets.len() >= BEFORE, "{} came", packets.len());
        for (number, packet) in packets.iter().enumerate() {
            assert!(packet.text() == text(number), "{number} is missing");
        }
        got += packets.len() as u64;
    }
    assert_eq!((got, metrics.delivered.get()), (taken, taken));
    assert_eq!(metrics.lost("going_away").get(), 0);
}
