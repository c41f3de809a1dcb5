//! goim's Comet service.

use protocol::{
    Header,
    grpc::goim::{
        comet::{BroadcastReq, BroadcastRoomReq, PushMsgReq, RoomsReq, comet_client::CometClient},
        protocol::Proto,
    },
    op,
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{DOORS, Door, FakeLogic, Gateway, OP, config, until, within};

async fn start() -> (FakeLogic, Gateway, CometClient<Channel>) {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let service = CometClient::new(gateway.rpc());
    (logic, gateway, service)
}

/// As goim's logic and job send it: the real frame within a Raw.
fn raw(op: i32, bodies: &[&str]) -> Proto {
    let mut body = Vec::new();
    for text in bodies {
        Header { ver: 1, op, seq: 0 }.encode(text.as_bytes(), &mut body);
    }
    Proto {
        ver: 1,
        op: op::RAW,
        seq: 0,
        body: body.into(),
    }
}

fn plain(op: i32, body: &'static str) -> Proto {
    Proto {
        ver: 1,
        op,
        seq: 7,
        body: body.into(),
    }
}

fn to_keys(keys: &[&str], proto_op: i32, proto: impl Into<Option<Proto>>) -> PushMsgReq {
    PushMsgReq {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        proto: proto.into(),
        proto_op,
    }
}

fn to_room(room: &str, proto: impl Into<Option<Proto>>) -> BroadcastRoomReq {
    BroadcastRoomReq {
        room_id: room.to_owned(),
        proto: proto.into(),
    }
}

fn names<T: std::fmt::Debug>(answer: Result<T, Status>, field: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains(field),
        "{field}: {}",
        status.message()
    );
}

#[tokio::test]
async fn each_push_reaches_whom_it_is_for() {
    let (_logic, gateway, mut service) = start().await;
    for door in DOORS {
        let mut here = gateway.online(door, "here", "live://1").await;
        let mut there = gateway.online(door, "there", "live://2").await;
        let request = to_keys(&["absent", "here"], OP, raw(OP, &["by key"]));
        service.push_msg(request).await.unwrap();
        assert_eq!(here.message().await, (OP, "by key".to_owned()));
        // A room's messages come whatever their members accept, and a Raw of several is taken apart.
        let request = to_room("live://2", raw(OP + 1, &["one", "two", "three"]));
        service.broadcast_room(request).await.unwrap();
        for text in ["one", "two", "three"] {
            assert_eq!(there.message().await, (OP + 1, text.to_owned()));
        }
        let request = BroadcastReq {
            proto_op: OP,
            proto: Some(plain(OP, "to all")),
            speed: 0,
        };
        service.broadcast(request).await.unwrap();
        for client in [&mut here, &mut there] {
            let (header, body) = client.proto().await;
            assert_eq!((header.op, header.seq), (OP, 7));
            assert_eq!(body, b"to all");
        }
        // Nobody accepts this one, and nobody is in that room.
        let request = to_keys(&["here", "there"], OP + 1, plain(OP + 1, "unwanted"));
        service.push_msg(request).await.unwrap();
        service
            .broadcast_room(to_room("live://3", plain(OP, "unheard")))
            .await
            .unwrap();
        let request = to_keys(&["here", "there"], OP, plain(OP, "last"));
        service.push_msg(request).await.unwrap();
        for client in [&mut here, &mut there] {
            assert_eq!(client.message().await, (OP, "last".to_owned()));
        }
    }
    // By door: one by key, three to a room, two to all, two at last; one absent, two filtered.
    let metrics = gateway.comet.metrics();
    assert_eq!(metrics.taken.get(), 8 * 4);
    // It is counted right after the write that the client may have seen.
    until(|| metrics.delivered.get() == 8 * 4).await;
    assert_eq!(metrics.absent.get(), 4);
    assert_eq!(metrics.filtered.get(), 2 * 4);
}

#[tokio::test]
async fn errors_name_the_field() {
    let (_logic, gateway, mut service) = start().await;
    names(service.push_msg(to_keys(&["a"], OP, None)).await, "proto");
    names(
        service.push_msg(to_keys(&[], OP, plain(OP, ""))).await,
        "keys",
    );
    names(
        service.broadcast_room(to_room("", plain(OP, ""))).await,
        "roomID",
    );
    names(
        service.broadcast_room(to_room("live://1", None)).await,
        "proto",
    );
    let nothing = BroadcastReq {
        proto_op: OP,
        proto: None,
        speed: 0,
    };
    names(service.broadcast(nothing).await, "proto");
    assert_eq!(gateway.comet.metrics().refused_pushes("invalid").get(), 5);
}

#[tokio::test]
async fn a_malformed_raw_is_refused_whole() {
    let (_logic, gateway, mut service) = start().await;
    let mut client = gateway.online(Door::WebSocket, "a", "live://1").await;
    let whole = raw(OP, &["one", "two"]);
    let cut = whole.body.slice(..whole.body.len() - 1);
    let mut lies = whole.body.to_vec();
    lies[19..23].copy_from_slice(&15i32.to_be_bytes());
    for body in [cut, lies.into(), bytes::Bytes::new()] {
        let proto = || Proto {
            body: body.clone(),
            ..whole.clone()
        };
        names(
            service.push_msg(to_keys(&["a"], OP, proto())).await,
            "proto.body",
        );
        names(
            service.broadcast_room(to_room("live://1", proto())).await,
            "proto.body",
        );
    }
    service
        .broadcast_room(to_room("live://1", plain(OP, "last")))
        .await
        .unwrap();
    assert_eq!(client.message().await, (OP, "last".to_owned()));
}

#[tokio::test]
async fn rooms_are_those_with_someone_in_them() {
    let (_logic, gateway, mut service) = start().await;
    let mut client = gateway.online(Door::Tcp, "a", "live://1").await;
    let other = gateway.online(Door::Tcp, "b", "live://2").await;
    client.send(op::CHANGE_ROOM, 2, b"live://3").await;
    assert_eq!(client.proto().await.0.op, op::CHANGE_ROOM_REPLY);
    let rooms = service.rooms(RoomsReq {}).await.unwrap().into_inner().rooms;
    let mut names: Vec<_> = rooms.into_iter().collect();
    names.sort();
    assert_eq!(
        names,
        [("live://2".to_owned(), true), ("live://3".to_owned(), true)]
    );
    drop(other);
    let rooms = async {
        loop {
            let rooms = service.rooms(RoomsReq {}).await.unwrap().into_inner().rooms;
            if rooms.len() == 1 {
                break rooms;
            }
        }
    };
    let rooms = within(rooms).await;
    assert_eq!(rooms.into_keys().collect::<Vec<_>>(), ["live://3"]);
}

#[tokio::test]
async fn a_paced_broadcast_reaches_all_who_accept_it() {
    let (_logic, gateway, mut service) = start().await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(
            gateway
                .online(DOORS[n % DOORS.len()], &format!("key {n}"), "")
                .await,
        );
    }
    let paced = |text, speed| BroadcastReq {
        proto_op: OP,
        proto: Some(plain(OP, text)),
        speed,
    };
    service.broadcast(paced("paced", 100)).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.message().await, (OP, "paced".to_owned()));
    }
    // goim takes a speed below 1 for none.
    service.broadcast(paced("at once", -1)).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.message().await, (OP, "at once".to_owned()));
    }
    assert_eq!(gateway.comet.metrics().taken.get(), 40);
}

#[tokio::test]
async fn paced_broadcasts_are_bounded() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.push.paced = 1;
    let gateway = Gateway::start(&config).await;
    let mut service = CometClient::new(gateway.rpc());
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(gateway.online(Door::Tcp, &format!("key {n}"), "").await);
    }
    let paced = || BroadcastReq {
        proto_op: OP,
        proto: Some(plain(OP, "")),
        speed: 1,
    };
    service.broadcast(paced()).await.unwrap();
    let status = service.broadcast(paced()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(gateway.comet.metrics().refused_pushes("paced").get(), 1);
}
