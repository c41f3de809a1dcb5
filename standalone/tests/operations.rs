//! Every operation that a client may send, through both doors.

use protocol::{Header, op};

use crate::support::{
    Client, Door, Packet, Received, Server, client::frame, http, through_both_doors, token,
    wire::message,
};

through_both_doors!(
    heartbeats_tell_the_online_count,
    a_room_is_changed_and_left,
    sub_and_unsub_filter_by_operation,
    operations_that_cannot_be_read_change_nothing,
    application_operations_are_answered,
    a_second_auth_is_answered_and_changes_nothing,
    version_and_sequence_come_back,
    frames_before_auth_are_ignored,
    a_hundred_heartbeats_in_one_segment_are_all_answered,
    several_frames_at_once_are_answered_in_order,
    a_client_says_goodbye,
);

async fn heartbeats_tell_the_online_count(door: Door) {
    let server = Server::start().await;
    let mut alone = Client::login(&server, door, &token(1, "alone", "")).await;
    assert_eq!(alone.online().await, 0);
    let mut first = Client::login(&server, door, &token(2, "first", "live://1")).await;
    first.until_online(1).await;
    let second = Client::login(&server, door, &token(3, "second", "live://1")).await;
    first.until_online(2).await;
    drop(second);
    first.until_online(1).await;
    assert_eq!(alone.online().await, 0);
}

async fn a_room_is_changed_and_left(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let reply = client.request(op::CHANGE_ROOM, b"live://2").await;
    assert_eq!(
        (reply.op, reply.text()),
        (op::CHANGE_ROOM_REPLY, "live://2")
    );
    http::push(api, "room", "operation=1000&type=live&room=1", "old").await;
    http::push(api, "room", "operation=1000&type=live&room=2", "new").await;
    client.gets("new").await;
    assert_eq!(client.online().await, 1);

    let reply = client.request(op::CHANGE_ROOM, b"").await;
    assert_eq!((reply.op, reply.text()), (op::CHANGE_ROOM_REPLY, ""));
    http::push(api, "room", "operation=1000&type=live&room=2", "new").await;
    assert_eq!(client.online().await, 0);
    // goim's own form of a room id is not the only one.
    let reply = client.request(op::CHANGE_ROOM, "Räume".as_bytes()).await;
    assert_eq!((reply.op, reply.text()), (op::CHANGE_ROOM_REPLY, "Räume"));
    assert_eq!(client.online().await, 1);
}

async fn sub_and_unsub_filter_by_operation(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    http::push(api, "keys", "operation=2001&keys=a", "not yet").await;
    let reply = client.request(op::SUB, b"2001,2002").await;
    assert_eq!((reply.op, reply.text()), (op::SUB_REPLY, "2001,2002"));
    for (query, text) in [("operation=2001", "2001"), ("operation=2002", "2002")] {
        http::push(api, "keys", &format!("{query}&keys=a"), text).await;
        let expected = (text.parse().unwrap(), text.to_owned());
        assert_eq!(client.message().await, expected);
    }
    let reply = client.request(op::UNSUB, b"2001").await;
    assert_eq!((reply.op, reply.text()), (op::UNSUB_REPLY, "2001"));
    http::push(api, "keys", "operation=2001&keys=a", "no more").await;
    http::push(api, "mids", "operation=2001&mids=1", "no more").await;
    http::push(api, "all", "operation=2001", "no more").await;
    // A room's members get what is pushed to it, whatever they accept.
    http::push(api, "room", "operation=2001&type=live&room=1", "room").await;
    assert_eq!(client.message().await, (2001, "room".to_owned()));
    client.has_nothing().await;
    assert_eq!(server.metrics().filtered.get(), 4);
}

async fn operations_that_cannot_be_read_change_nothing(door: Door) {
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "")).await;
    for body in ["1,,2", "x", "99999999999", "1;2"] {
        let reply = client.request(op::SUB, body.as_bytes()).await;
        assert_eq!((reply.op, reply.text()), (op::SUB_REPLY, body));
        let reply = client.request(op::UNSUB, body.as_bytes()).await;
        assert_eq!((reply.op, reply.text()), (op::UNSUB_REPLY, body));
    }
    assert_eq!(server.metrics().ignored("unreadable_operations").get(), 8);
    http::push(server.push_api(), "keys", "operation=1000&keys=a", "still").await;
    client.gets("still").await;
}

async fn application_operations_are_answered(door: Door) {
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "")).await;
    let unknown = [4, 5, 0, 1, 8, 10, 11, 13, 18, 1000, -1, i32::MIN, i32::MAX];
    for op in unknown {
        let reply = client.request(op, b"for the application").await;
        assert_eq!((reply.op, reply.body), (op, vec![]));
    }
    let received = server.metrics().logic_calls("receive", "ok").get();
    assert_eq!(received, unknown.len() as u64);
}

async fn a_second_auth_is_answered_and_changes_nothing(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let other = token(2, "b", "live://2").to_json();
    let reply = client.request(op::AUTH, other.as_bytes()).await;
    assert_eq!((reply.op, reply.body), (op::AUTH, vec![]));
    http::push(api, "keys", "operation=1000&keys=a", "key").await;
    client.gets("key").await;
    http::push(api, "mids", "operation=1000&mids=1", "mid").await;
    client.gets("mid").await;
    http::push(api, "room", "operation=1000&type=live&room=2", "other").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "room").await;
    client.gets("room").await;
    let absent = http::post(api, "/goim/push/keys?operation=1000&keys=b", b"x").await;
    assert_eq!(absent.verdict(), (0, "not online: b".to_owned()));
    assert_eq!(server.metrics().logins(door.label()).get(), 1);
}

async fn version_and_sequence_come_back(door: Door) {
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "")).await;
    for (ver, seq) in [(0, 0), (1, -1), (-1, i32::MIN), (i16::MAX, i32::MAX)] {
        for (op, reply) in [(op::HEARTBEAT, op::HEARTBEAT_REPLY), (1000, 1000)] {
            let mut bytes = Vec::new();
            Header { ver, op, seq }.encode(b"", &mut bytes);
            client.send_frames(&bytes).await;
            let Packet {
                ver: got_ver,
                op: got_op,
                seq: got_seq,
                ..
            } = client.packet().await;
            assert_eq!((got_ver, got_op, got_seq), (ver, reply, seq));
        }
    }
}

async fn frames_before_auth_are_ignored(door: Door) {
    let server = Server::start().await;
    let mut client = Client::connect(&server, door).await;
    for op in [op::HEARTBEAT, op::CHANGE_ROOM, op::SUB, 1000] {
        client.send(op, 9, b"live://1").await;
    }
    client.auth(&token(1, "a", "")).await;
    assert_eq!(client.online().await, 0);
    assert_eq!(server.metrics().ignored("before_auth").get(), 4);
}

async fn a_hundred_heartbeats_in_one_segment_are_all_answered(door: Door) {
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let beats = |seq| frame(op::HEARTBEAT, seq, b"");
    // 100 messages of one frame, and then messages that hold several.
    let single: Vec<u8> = match door {
        Door::Tcp => (1..=100).flat_map(beats).collect(),
        Door::WebSocket => (1..=100)
            .flat_map(|seq| message(0x82, &beats(seq)))
            .collect(),
    };
    client.send_raw(&single).await;
    let joined: Vec<u8> = (101..=200).flat_map(beats).collect();
    client.send_frames(&joined).await;
    for seq in 1..=200 {
        let reply = client.packet().await;
        assert_eq!(
            (reply.op, reply.seq, reply.body),
            (op::HEARTBEAT_REPLY, seq, vec![0, 0, 0, 1])
        );
    }
}

async fn several_frames_at_once_are_answered_in_order(door: Door) {
    let server = Server::start().await;
    let mut client = Client::connect(&server, door).await;
    let token = token(1, "a", "live://1").to_json();
    let frames = [
        frame(op::AUTH, 1, token.as_bytes()),
        frame(op::CHANGE_ROOM, 2, b"live://2"),
        frame(op::SUB, 3, b"7"),
        frame(op::UNSUB, 4, b"7"),
    ];
    client.send_frames(&frames.concat()).await;
    for (seq, op) in [
        (1, op::AUTH_REPLY),
        (2, op::CHANGE_ROOM_REPLY),
        (3, op::SUB_REPLY),
        (4, op::UNSUB_REPLY),
    ] {
        let reply = client.packet().await;
        assert_eq!((reply.seq, reply.op), (seq, op));
    }
}

async fn a_client_says_goodbye(door: Door) {
    let server = Server::start().await;
    let mut client = Client::login(&server, door, &token(1, "a", "live://1")).await;
    match door {
        Door::Tcp => {
            use tokio::io::AsyncWriteExt as _;
            client.socket.shutdown().await.unwrap();
        }
        Door::WebSocket => {
            let code = 3999_u16.to_be_bytes();
            client.send_raw(&message(0x88, &code)).await;
            let answer = client.next().await;
            assert!(matches!(answer, Received::Close { code: 3999, .. }));
        }
    }
    assert_eq!(client.next().await, Received::End);
    server.closed("peer_closed", 1).await;
    let goodbyes = server.metrics().logic_calls("disconnect", "ok");
    crate::support::until("logic is told", || goodbyes.get() == 1).await;
    let path = "/goim/push/keys?operation=1000&keys=a";
    let absent = http::post(server.push_api(), path, b"x").await;
    assert_eq!(absent.verdict(), (0, "not online: a".to_owned()));
}
