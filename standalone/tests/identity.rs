//! One key and several connections: the newer wins, and what the older does late harms nobody.

use std::sync::Arc;

use protocol::grpc::comet::v1::{Connection, Connections, kick_request::Target};

use crate::support::{
    Client, Door, Lane, Server,
    grpc::{keys, kick, kick_keys},
    http, through_both_doors, token, until,
};

through_both_doors!(
    the_newer_connection_wins,
    a_late_goodbye_removes_nothing,
    a_full_backlog_holds_nobody_up,
    a_hundred_logins_with_one_key_leave_one,
    kicks_by_key_tell_the_reason,
    kicks_by_room_reach_everyone_in_it,
    kicks_by_connection_spare_its_successor,
);

async fn the_newer_connection_wins(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut older = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut newer = Client::login(&server, door, &token(1, "a", "live://1")).await;
    older.ended().await.is("replaced", 4001, door);
    drop(older);
    server.closed("replaced", 1).await;
    http::push(api, "keys", "operation=1000&keys=a", "key").await;
    http::push(api, "mids", "operation=1000&mids=1", "mid").await;
    newer.gets("key").await;
    newer.gets("mid").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "room").await;
    newer.gets("room").await;
    assert_eq!(newer.online().await, 1);
    // Of the same user there is nothing to tell logic: the session is the newer one's.
    let goodbyes = server.metrics().logic_calls("disconnect", "ok");
    assert_eq!(goodbyes.get(), 0);
}

async fn a_late_goodbye_removes_nothing(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut older = Client::login(&server, door, &token(1, "a", "live://1")).await;
    // As another user, so that the older one's end is told to logic: after the newer one's login.
    let mut newer = Client::login(&server, door, &token(2, "a", "live://2")).await;
    older.ended().await.is("replaced", 4001, door);
    drop(older);
    let goodbyes = server.metrics().logic_calls("disconnect", "ok");
    until("the goodbye is told", || goodbyes.get() == 1).await;
    http::push(api, "keys", "operation=1000&keys=a", "key").await;
    http::push(api, "mids", "operation=1000&mids=2", "mid").await;
    newer.gets("key").await;
    newer.gets("mid").await;
    let absent = http::post(api, "/goim/push/mids?operation=1000&mids=1", b"x").await;
    assert_eq!(absent.verdict(), (0, "not online: 1".to_owned()));
    http::push(api, "room", "operation=1000&type=live&room=2", "room").await;
    newer.gets("room").await;
    assert_eq!(newer.online().await, 1);
    drop(newer);
    until("the goodbye is told", || goodbyes.get() == 2).await;
    let absent = http::post(api, "/goim/push/mids?operation=1000&mids=2", b"x").await;
    assert_eq!(absent.verdict(), (0, "not online: 2".to_owned()));
}

async fn a_full_backlog_holds_nobody_up(door: Door) {
    let server = Server::start_with(|config| {
        config.comet.bucket.size = 1;
        config.comet.tcp.sndbuf = 4096;
        config.comet.protocol.svr_proto = 8;
    })
    .await;
    let mut lane = Lane::open(&server).await;
    let mut neighbour = Client::login(&server, door, &token(2, "b", "")).await;
    let mut older = Client::connect_narrow(&server, door).await;
    older.auth(&token(1, "a", "")).await;
    let body = "x".repeat(4096);
    let mut receipt = lane.push(keys(&["a"]), 1000, &body).await;
    while receipt.dropped == 0 {
        receipt = lane.push(keys(&["a"]), 1000, &body).await;
    }
    let mut newer = Client::login(&server, door, &token(1, "a", "")).await;
    for (name, client) in [("a", &mut newer), ("b", &mut neighbour)] {
        let receipt = lane.push(keys(&[name]), 1000, name).await;
        assert_eq!((receipt.taken, receipt.dropped), (1, 0));
        client.gets(name).await;
    }
    // All that while the older one is still being told why it has to go.
    let metrics = server.metrics();
    assert_eq!(metrics.closes("replaced").get(), 0);
    let lost = metrics.lost("replaced").get();
    assert!((1..=8).contains(&lost), "{lost} lost of 8 that may wait");
    let (read, farewell) = older.rest().await;
    farewell.is("replaced", 4001, door);
    drop(older);
    server.closed("replaced", 1).await;
    assert_eq!(metrics.lost("replaced").get(), lost);
    let delivered = read.len() as u64 + 2;
    until("taken is delivered or lost", || {
        (metrics.delivered.get(), metrics.taken.get()) == (delivered, delivered + lost)
    })
    .await;
}

async fn a_hundred_logins_with_one_key_leave_one(door: Door) {
    let server = Arc::new(Server::start().await);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            let mut client = Client::connect(&server, door).await;
            let token = token(1, "a", "live://1").to_json();
            client.send(protocol::op::AUTH, 1, token.as_bytes()).await;
            client
        });
    }
    let clients = clients.join_all().await;
    // One by one, as their clients read the reason and go.
    let mut reading = tokio::task::JoinSet::new();
    for mut client in clients {
        reading.spawn(async move {
            let mut pushed = 0;
            loop {
                match client.next().await {
                    crate::support::Received::Packet(packet) => {
                        pushed += usize::from(packet.op == 1000);
                        if packet.op == 1001 {
                            return (true, pushed);
                        }
                    }
                    crate::support::Received::End => return (false, pushed),
                    _ => {}
                }
            }
        });
    }
    // All for the one reason, whether the bucket or logic saw that a later login has the key.
    server.closed("replaced", 99).await;
    let api = server.push_api();
    http::push(api, "keys", "operation=1000&keys=a", "key").await;
    http::push(api, "mids", "operation=1000&mids=1", "mid").await;
    http::push(api, "keys", "operation=1001&keys=a", "end").await;
    let ends = reading.join_all().await;
    let stayed: Vec<usize> = ends.iter().filter(|end| end.0).map(|end| end.1).collect();
    assert_eq!(stayed, [2]);
    // The one that stayed has gone with its client, and logic has no session left of any of them.
    let goodbyes = server.metrics().logic_calls("disconnect", "ok");
    until("logic is told", || goodbyes.get() >= 1).await;
    let absent = http::post(api, "/goim/push/keys?operation=1000&keys=a", b"x").await;
    assert_eq!(absent.verdict(), (0, "not online: a".to_owned()));
}

async fn kicks_by_key_tell_the_reason(door: Door) {
    let server = Server::start().await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut b = Client::login(&server, door, &token(2, "b", "live://1")).await;
    let kicked = kick(&server, kick_keys(&["a", "absent"]), "maintenance").await;
    assert_eq!(kicked, 1);
    let farewell = a.ended().await;
    farewell.is("kicked", 4002, door);
    assert_eq!(farewell.message, "maintenance");
    // The key is free at once.
    let mut again = Client::login(&server, door, &token(1, "a", "live://1")).await;
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "hi").await;
    again.gets("hi").await;
    b.until_online(2).await;
}

async fn kicks_by_room_reach_everyone_in_it(door: Door) {
    let server = Server::start().await;
    let mut inside = Vec::new();
    for mid in 0..8 {
        inside.push(Client::login(&server, door, &token(mid, "", "live://1")).await);
    }
    let mut outside = Client::login(&server, door, &token(9, "out", "live://2")).await;
    let room = Target::Room("live://1".to_owned());
    assert_eq!(kick(&server, room.clone(), "").await, 8);
    for client in &mut inside {
        client.ended().await.is("kicked", 4002, door);
    }
    assert_eq!(kick(&server, room, "").await, 0);
    outside.has_nothing().await;
}

async fn kicks_by_connection_spare_its_successor(door: Door) {
    let server = Server::start().await;
    let mut older = Client::login(&server, door, &token(1, "a", "")).await;
    let connection = connection_of(&server, 1).await;
    let mut newer = Client::login(&server, door, &token(1, "a", "")).await;
    older.ended().await.is("replaced", 4001, door);
    let older = one(connection);
    assert_eq!(kick(&server, older, "").await, 0);
    newer.has_nothing().await;
    let connection = connection_of(&server, 1).await;
    let of_another_start = Connection {
        epoch: connection.epoch - 1,
        ..connection.clone()
    };
    let target = one(of_another_start);
    assert_eq!(kick(&server, target, "").await, 0);
    newer.has_nothing().await;
    let target = one(connection);
    assert_eq!(kick(&server, target, "").await, 1);
    newer.ended().await.is("kicked", 4002, door);
}

fn one(connection: Connection) -> Target {
    let connections = vec![connection];
    Target::Connections(Connections { connections })
}

/// The one connection of a user, as logic knows it.
async fn connection_of(server: &Server, mid: i64) -> Connection {
    let sessions = &server.standalone.logic.logic().sessions;
    let found = sessions.of_mids(&[mid]).await.unwrap();
    let [session] = &found[..] else {
        panic!("one connection, not {found:?}");
    };
    let connection = session.holder.connection.unwrap();
    Connection {
        key: session.key.clone(),
        epoch: connection.epoch,
        id: connection.id,
    }
}
