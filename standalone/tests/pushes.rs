//! Every kind of push, by every way in, through both doors.

use protocol::grpc::{
    comet::v1::{Message, Position, Refusal},
    goim::comet::{BroadcastReq, BroadcastRoomReq, PushMsgReq, RoomsReq},
};
use tonic::Code;

use crate::support::{
    Client, Door, Lane, Server,
    grpc::{everyone, goim, keys, message, plain, raw, room},
    http, through_both_doors, token, until,
};

through_both_doors!(
    the_http_api_reaches_keys_mids_rooms_and_all,
    two_connections_of_one_mid_both_get_a_push,
    goims_grpc_takes_plain_protos,
    goims_grpc_takes_raws,
    a_raw_of_several_frames_is_one_write,
    a_paced_broadcast_reaches_everyone,
    a_lane_reaches_keys_rooms_and_all_with_receipts,
    positions_are_taken_once,
    what_goims_grpc_cannot_take_is_refused,
);

async fn the_http_api_reaches_keys_mids_rooms_and_all(door: Door) {
    let server = Server::start().await;
    let api = server.push_api();
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut b = Client::login(&server, door, &token(2, "b", "live://2")).await;
    http::push(api, "keys", "operation=1000&keys=a", "by key").await;
    http::push(api, "keys", "operation=1001&keys=a&keys=b", "by keys").await;
    http::push(api, "mids", "operation=1000&mids=1", "by mid").await;
    http::push(api, "mids", "operation=1000&mids=2&mids=1", "by mids").await;
    a.gets("by key").await;
    assert_eq!(a.message().await, (1001, "by keys".to_owned()));
    a.gets("by mid").await;
    a.gets("by mids").await;
    assert_eq!(b.message().await, (1001, "by keys".to_owned()));
    b.gets("by mids").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "room").await;
    a.gets("room").await;
    http::push(api, "all", "operation=1000", "all").await;
    a.gets("all").await;
    b.gets("all").await;
    a.has_nothing().await;
    b.has_nothing().await;
}

async fn two_connections_of_one_mid_both_get_a_push(door: Door) {
    let server = Server::start().await;
    let other_door = match door {
        Door::Tcp => Door::WebSocket,
        Door::WebSocket => Door::Tcp,
    };
    let mut phone = Client::login(&server, door, &token(7, "phone", "")).await;
    let mut laptop = Client::login(&server, other_door, &token(7, "laptop", "")).await;
    // Without a key, logic makes one.
    let mut nameless = Client::login(&server, door, &token(7, "", "")).await;
    http::push(server.push_api(), "mids", "operation=1000&mids=7", "you").await;
    for client in [&mut phone, &mut laptop, &mut nameless] {
        client.gets("you").await;
        client.has_nothing().await;
    }
}

async fn goims_grpc_takes_plain_protos(door: Door) {
    let server = Server::start().await;
    let mut comet = goim(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let by_key = |proto_op| PushMsgReq {
        keys: vec!["a".to_owned(), "absent".to_owned()],
        proto: Some(plain(5, "by key")),
        proto_op,
    };
    comet.push_msg(by_key(9999)).await.unwrap();
    comet.push_msg(by_key(1000)).await.unwrap();
    // protoOp decides who gets it, the proto's own operation is what arrives.
    assert_eq!(a.message().await, (5, "by key".to_owned()));
    let to_room = BroadcastRoomReq {
        room_id: "live://1".to_owned(),
        proto: Some(plain(1000, "room")),
    };
    comet.broadcast_room(to_room).await.unwrap();
    a.gets("room").await;
    let to_all = BroadcastReq {
        proto_op: 1000,
        proto: Some(plain(1000, "all")),
        speed: 0,
    };
    comet.broadcast(to_all).await.unwrap();
    a.gets("all").await;
    let rooms = comet.rooms(RoomsReq {}).await.unwrap().into_inner().rooms;
    assert_eq!(
        rooms.into_iter().collect::<Vec<_>>(),
        [("live://1".to_owned(), true)]
    );
    let metrics = server.metrics();
    until("who did not get it is counted", || {
        (metrics.absent.get(), metrics.filtered.get()) == (2, 1)
    })
    .await;
}

async fn goims_grpc_takes_raws(door: Door) {
    let server = Server::start().await;
    let mut comet = goim(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let by_key = PushMsgReq {
        keys: vec!["a".to_owned()],
        proto: Some(raw(&[(1001, "by key")])),
        proto_op: 1000,
    };
    comet.push_msg(by_key).await.unwrap();
    assert_eq!(a.message().await, (1001, "by key".to_owned()));
    let to_room = BroadcastRoomReq {
        room_id: "live://1".to_owned(),
        proto: Some(raw(&[(1000, "room")])),
    };
    comet.broadcast_room(to_room).await.unwrap();
    a.gets("room").await;
    let to_all = BroadcastReq {
        proto_op: 1000,
        proto: Some(raw(&[(1000, "all")])),
        speed: 0,
    };
    comet.broadcast(to_all).await.unwrap();
    a.gets("all").await;
    // A Raw of one message is that message.
    assert_eq!(a.raws(), 0);
}

async fn a_raw_of_several_frames_is_one_write(door: Door) {
    let server = Server::start().await;
    let mut comet = goim(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let metrics = server.metrics();
    until("AuthReply is written", || metrics.writes.count() == 1).await;
    let to_room = BroadcastRoomReq {
        room_id: "live://1".to_owned(),
        proto: Some(raw(&[(1000, "one"), (2000, ""), (1001, "three")])),
    };
    comet.broadcast_room(to_room).await.unwrap();
    assert_eq!(a.message().await, (1000, "one".to_owned()));
    assert_eq!(a.message().await, (2000, String::new()));
    assert_eq!(a.message().await, (1001, "three".to_owned()));
    // Over TCP the frames stand alone, which the client checks; over WebSocket they follow a header.
    assert_eq!(a.raws(), usize::from(door == Door::WebSocket));
    a.has_nothing().await;
    until("the Raw and one answer are written", || {
        metrics.writes.count() == 3
    })
    .await;
    until("each message inside is counted", || {
        (metrics.taken.get(), metrics.delivered.get()) == (3, 3)
    })
    .await;
}

async fn a_paced_broadcast_reaches_everyone(door: Door) {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for mid in 0..8 {
        clients.push(Client::login(&server, door, &token(mid, "", "")).await);
    }
    http::push(server.push_api(), "all", "operation=1000&speed=1000", "all").await;
    for client in &mut clients {
        client.gets("all").await;
    }
}

async fn a_lane_reaches_keys_rooms_and_all_with_receipts(door: Door) {
    let server = Server::start().await;
    let mut lane = Lane::open(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let mut b = Client::login(&server, door, &token(2, "b", "live://1")).await;

    let receipt = lane.push(keys(&["a", "x", "y"]), 1000, "by key").await;
    assert_eq!((receipt.taken, receipt.absent, receipt.dropped), (1, 2, 0));
    let mut absent = receipt.absent_keys;
    absent.sort();
    assert_eq!(
        (absent, receipt.id.len()),
        (vec!["x".into(), "y".into()], 16)
    );
    a.gets("by key").await;

    let receipt = lane.push(keys(&["a", "b"]), 3000, "filtered").await;
    assert_eq!((receipt.taken, receipt.filtered), (0, 2));
    let receipt = lane.push(room("live://1"), 3000, "room").await;
    assert_eq!((receipt.taken, receipt.filtered), (2, 0));
    let receipt = lane.push(room("live://nobody"), 1000, "room").await;
    assert_eq!((receipt.taken, receipt.absent), (0, 0));
    let receipt = lane.push(everyone(), 1001, "all").await;
    assert_eq!((receipt.taken, receipt.filtered), (2, 0));
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, (3000, "room".to_owned()));
        assert_eq!(client.message().await, (1001, "all".to_owned()));
        client.has_nothing().await;
    }
}

async fn positions_are_taken_once(door: Door) {
    let server = Server::start().await;
    let mut lane = Lane::open(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "")).await;
    let at = |epoch, number| Message {
        id: vec![7; 16],
        position: Some(Position {
            stream: "s".to_owned(),
            epoch,
            number,
            stored: false,
        }),
        ..message(keys(&["a"]), 1000, format!("{epoch}/{number}").as_bytes())
    };
    let sent = [at(1, 1), at(1, 1), at(2, 2), at(1, 3), at(2, 3)];
    lane.send(sent.to_vec()).await;
    let mut refusals = Vec::new();
    for _ in &sent {
        let receipt = lane.any_receipt().await;
        assert_eq!(receipt.id, vec![7; 16]);
        refusals.push(receipt.refusal());
    }
    let (repeated, stale) = (Refusal::Repeated, Refusal::StaleEpoch);
    let taken = Refusal::None;
    assert_eq!(refusals, [taken, repeated, taken, stale, taken]);
    for text in ["1/1", "2/2", "2/3"] {
        a.gets(text).await;
    }
    a.has_nothing().await;
}

async fn what_goims_grpc_cannot_take_is_refused(door: Door) {
    let server = Server::start().await;
    let mut comet = goim(&server).await;
    let mut a = Client::login(&server, door, &token(1, "a", "live://1")).await;
    let by_key = |proto| PushMsgReq {
        keys: vec!["a".to_owned()],
        proto,
        proto_op: 1000,
    };
    let mut torn = raw(&[(1000, "whole"), (1000, "torn")]);
    torn.body = torn.body.slice(..torn.body.len() - 1);
    for (proto, named) in [
        (None, "proto: missing"),
        (Some(raw(&[])), "proto.body: the Raw is empty"),
        (Some(torn), "proto.body: frame 1 of the Raw is cut off"),
    ] {
        let error = comet.push_msg(by_key(proto)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().starts_with(named), "{error}");
    }
    let nobody = PushMsgReq {
        keys: vec![],
        ..by_key(Some(plain(1000, "x")))
    };
    let error = comet.push_msg(nobody).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let nowhere = BroadcastRoomReq {
        room_id: String::new(),
        proto: Some(plain(1000, "x")),
    };
    let error = comet.broadcast_room(nowhere).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let nothing = BroadcastReq::default();
    let error = comet.broadcast(nothing).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(server.metrics().refused_pushes("invalid").get(), 6);
    a.has_nothing().await;
}
