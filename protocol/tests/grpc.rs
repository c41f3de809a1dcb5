//! The schemas against encoded protobuf: field numbers and types are the contract with goim's peers. The bytes are by hand;
//! those with odd values are what Google's encoder writes by goim's schemas.

mod support;

use std::{collections::HashMap, fmt::Debug};

use prost::Message;
use protocol::grpc::{
    comet::v1,
    goim::{
        comet::{
            BroadcastReply, BroadcastReq, BroadcastRoomReply, BroadcastRoomReq, PushMsgReply,
            PushMsgReq, RoomsReply, RoomsReq, comet_server,
        },
        logic::{
            Backoff, ConnectReply, ConnectReq, ConnectionRef, DisconnectReply, DisconnectReq,
            HeartbeatReply, HeartbeatReq, NodesReply, NodesReq, OnlineReply, OnlineReq, PushMsg,
            ReceiveReply, ReceiveReq, logic_server, push_msg,
        },
        protocol::Proto,
    },
};
use support::hex;

/// `{ver: 1, op: 5, seq: 3, body: "hi"}`.
const PROTO: &str = "0801 1005 1803 22026869";

/// Field 1000, a `ConnectionRef` of 9 bytes.
const CONNECTION: &str = "c23e09 0805 1007 1a03746370";

fn proto() -> Proto {
    Proto {
        ver: 1,
        op: 5,
        seq: 3,
        body: "hi".into(),
    }
}

fn connection() -> ConnectionRef {
    ConnectionRef {
        epoch: 5,
        id: 7,
        door: "tcp".into(),
        client_address: String::new(),
        platform: String::new(),
    }
}

/// `message` has exactly these bytes, and they give it back.
fn same<M: Message + Default + PartialEq + Debug>(message: &M, bytes: &str) {
    let bytes = hex(bytes);
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(&M::decode(&bytes[..]).expect("valid protobuf"), message);
}

#[test]
fn proto_has_goims_fields() {
    same(&proto(), PROTO);
    let negative = Proto {
        op: -1,
        ..Proto::default()
    };
    same(&negative, "10 ffffffffffffffffff01");
    same(&Proto::default(), "");
}

#[test]
fn pushes_into_a_comet_have_goims_fields() {
    let push = PushMsgReq {
        keys: vec!["a".into(), "b".into()],
        proto: Some(proto()),
        proto_op: 1000,
    };
    same(&push, &format!("0a0161 0a0162 120a{PROTO} 18e807"));
    let broadcast = BroadcastReq {
        proto_op: 1000,
        proto: Some(proto()),
        speed: 10,
    };
    same(&broadcast, &format!("08e807 120a{PROTO} 180a"));
    let room = BroadcastRoomReq {
        room_id: "live://1".into(),
        proto: Some(proto()),
    };
    same(&room, &format!("0a086c6976653a2f2f31 120a{PROTO}"));
    let rooms = RoomsReply {
        rooms: HashMap::from([("a".into(), true)]),
    };
    same(&rooms, "0a05 0a0161 1001");
}

#[test]
fn connects_have_goims_fields() {
    let request = ConnectReq {
        server: "s".into(),
        cookie: "c".into(),
        token: "t".into(),
        connection: None,
    };
    same(&request, "0a0173 120163 1a0174");
    let reply = ConnectReply {
        mid: 123,
        key: "k".into(),
        room_id: "r".into(),
        accepts: vec![1000, 1001],
        heartbeat: 480_000_000_000,
        platform: String::new(),
    };
    same(&reply, "087b 12016b 1a0172 2204e807e907 288080eb91fc0d");
    let unpacked = hex("20e807 20e907");
    let read = ConnectReply::decode(&unpacked[..]).expect("valid protobuf");
    assert_eq!(read.accepts, [1000, 1001]);
}

#[test]
fn goodbyes_and_heartbeats_have_goims_fields() {
    let goodbye = DisconnectReq {
        mid: 1,
        key: "k".into(),
        server: "s".into(),
        connection: Some(connection()),
    };
    same(&goodbye, &format!("0801 12016b 1a0173 {CONNECTION}"));
    same(&DisconnectReply { has: true }, "0801");
    let heartbeat = HeartbeatReq {
        mid: 1,
        key: "k".into(),
        server: "s".into(),
        connection: Some(connection()),
    };
    same(&heartbeat, &format!("0801 12016b 1a0173 {CONNECTION}"));
}

#[test]
fn online_reports_have_goims_fields() {
    let request = OnlineReq {
        server: "s".into(),
        room_count: HashMap::from([("r".into(), 300)]),
        comet: None,
    };
    same(&request, "0a0173 1206 0a0172 10ac02");
    let reply = OnlineReply {
        all_room_count: HashMap::from([("r".into(), 1)]),
        lease_known: true,
        store_generation: 2,
        known_after_ms: 3,
    };
    same(&reply, "0a05 0a0172 1001 c03e01 c83e02 d03e03");
}

#[test]
fn messages_and_nodes_have_goims_fields() {
    let receive = ReceiveReq {
        mid: 1,
        proto: Some(proto()),
        connection: None,
    };
    same(&receive, &format!("0801 120a{PROTO}"));
    let request = NodesReq {
        platform: "web".into(),
        client_ip: "::1".into(),
    };
    same(&request, "0a03776562 12033a3a31");
    let reply = NodesReply {
        domain: "d".into(),
        tcp_port: 1,
        ws_port: 2,
        wss_port: 3,
        heartbeat: 4,
        nodes: vec!["n".into()],
        backoff: Some(Backoff {
            max_delay: 300,
            base_delay: 3,
            factor: 1.8,
            jitter: 0.3,
        }),
        heartbeat_max: 2,
    };
    let backoff = "08ac02 1003 1d6666e63f 259a99993e";
    same(
        &reply,
        &format!("0a0164 1001 1802 2003 2804 32016e 3a0f{backoff} 4002"),
    );
}

#[test]
fn goims_queue_has_its_fields() {
    let message = PushMsg {
        r#type: push_msg::Type::Broadcast.into(),
        operation: 1000,
        speed: 1,
        server: "s".into(),
        room: "r".into(),
        keys: vec!["k".into()],
        msg: "m".into(),
    };
    same(&message, "0802 10e807 1801 220173 2a0172 32016b 3a016d");
    let types = [
        push_msg::Type::Push,
        push_msg::Type::Room,
        push_msg::Type::Broadcast,
    ];
    assert_eq!(types.map(|kind| kind as i32), [0, 1, 2]);
}

/// -1 as an int32 or an int64.
const MINUS_ONE: &str = "ffffffffffffffffff01";

#[test]
fn integers_have_all_their_values() {
    let proto = Proto {
        ver: -1,
        op: i32::MIN,
        seq: i32::MAX,
        body: vec![0, 0xff].into(),
    };
    let bytes = format!("08{MINUS_ONE} 1080808080f8ffffffff01 18ffffffff07 220200ff");
    same(&proto, &bytes);
    let broadcast = BroadcastReq {
        proto_op: -1,
        proto: Some(Proto::default()),
        speed: -1,
    };
    same(&broadcast, &format!("08{MINUS_ONE} 1200 18{MINUS_ONE}"));
    let reply = ConnectReply {
        mid: -1,
        accepts: vec![-1, 0, 1000],
        heartbeat: -1,
        ..ConnectReply::default()
    };
    let bytes = format!("08{MINUS_ONE} 220d{MINUS_ONE}00e807 28{MINUS_ONE}");
    same(&reply, &bytes);
    let reply = ConnectReply {
        mid: i64::MAX,
        heartbeat: i64::MIN,
        ..ConnectReply::default()
    };
    same(&reply, "08ffffffffffffffff7f 2880808080808080808001");
    let request = OnlineReq {
        room_count: HashMap::from([("r".into(), -1)]),
        ..OnlineReq::default()
    };
    same(&request, &format!("120e 0a0172 10{MINUS_ONE}"));
    // An enum's value that no schema knows is kept, as in goim.
    let message = PushMsg {
        r#type: 7,
        operation: -1,
        ..PushMsg::default()
    };
    same(&message, &format!("0807 10{MINUS_ONE}"));
}

#[test]
fn defaults_are_not_written() {
    fn nothing<M: Message + Default + PartialEq + Debug>() {
        same(&M::default(), "");
    }
    nothing::<PushMsgReq>();
    nothing::<PushMsgReply>();
    nothing::<BroadcastReq>();
    nothing::<BroadcastReply>();
    nothing::<BroadcastRoomReq>();
    nothing::<BroadcastRoomReply>();
    nothing::<RoomsReq>();
    nothing::<RoomsReply>();
    nothing::<ConnectReq>();
    nothing::<ConnectReply>();
    nothing::<DisconnectReq>();
    nothing::<DisconnectReply>();
    nothing::<HeartbeatReq>();
    nothing::<HeartbeatReply>();
    nothing::<OnlineReq>();
    nothing::<OnlineReply>();
    nothing::<ReceiveReq>();
    nothing::<ReceiveReply>();
    nothing::<NodesReq>();
    nothing::<NodesReply>();
    nothing::<Backoff>();
    nothing::<PushMsg>();
}

#[test]
fn empty_things_within_others_are_read() {
    // In lists they are written; a message that is there and empty is not one that is absent.
    let push = PushMsgReq {
        keys: vec![String::new()],
        proto: Some(Proto::default()),
        proto_op: 0,
    };
    same(&push, "0a00 1200");
    let reply = NodesReply {
        nodes: vec![String::new(), String::new()],
        backoff: Some(Backoff::default()),
        ..NodesReply::default()
    };
    same(&reply, "3200 3200 3a00");
    // goim's peers write a map's key and value also when they are defaults, and need not find them.
    let rooms = RoomsReply::decode(&hex("0a04 0a00 1000")[..]).expect("valid protobuf");
    assert_eq!(rooms.rooms, HashMap::from([(String::new(), false)]));
    let reply = OnlineReply::decode(&hex("0a05 0a0172 1000")[..]).expect("valid protobuf");
    assert_eq!(reply.all_room_count, HashMap::from([("r".into(), 0)]));
}

/// `ConnectReq` as goim has it, without the extension.
#[derive(Clone, PartialEq, Message)]
struct GoimConnectReq {
    #[prost(string, tag = "1")]
    server: String,
    #[prost(string, tag = "2")]
    cookie: String,
    #[prost(bytes = "vec", tag = "3")]
    token: Vec<u8>,
}

#[test]
fn a_platform_goes_to_the_comet_and_back() {
    let reply = ConnectReply {
        platform: "ios".into(),
        ..ConnectReply::default()
    };
    same(&reply, "c23e03696f73");
    let heartbeat = HeartbeatReq {
        connection: Some(ConnectionRef {
            platform: "ios".into(),
            ..connection()
        }),
        ..HeartbeatReq::default()
    };
    same(&heartbeat, "c23e0e 0805 1007 1a03746370 2a03696f73");
}

#[test]
fn kicks_keep_their_fields() {
    let connection = v1::Connection {
        key: "k".into(),
        epoch: 5,
        id: 7,
    };
    let connections = vec![connection.clone(), connection];
    let kick = v1::KickRequest {
        target: Some(v1::kick_request::Target::Connections(v1::Connections {
            connections,
        })),
        reason: "r".into(),
        cause: v1::Cause::Replaced.into(),
        comeback: None,
    };
    let one = "0a07 0a016b 1005 1807";
    same(&kick, &format!("2a12 {one} {one} 220172 3001"));
    let keys = v1::Keys {
        keys: vec!["k".into()],
    };
    let kick = v1::KickRequest {
        target: Some(v1::kick_request::Target::Keys(keys)),
        ..v1::KickRequest::default()
    };
    same(&kick, "0a03 0a016b");
    let reply = v1::KickReply {
        kicked: 1,
        absent_keys: vec!["k".into()],
    };
    same(&reply, "0801 12016b");
}

/// `OnlineReply` as goim has it, without the extensions.
#[derive(Clone, PartialEq, Message)]
struct GoimOnlineReply {
    #[prost(map = "string, int32", tag = "1")]
    all_room_count: HashMap<String, i32>,
}

#[test]
fn goims_peers_do_not_see_the_extensions() {
    let ours = ConnectReq {
        server: "s".into(),
        cookie: "c".into(),
        token: "t".into(),
        connection: Some(connection()),
    };
    same(&ours, &format!("0a0173 120163 1a0174 {CONNECTION}"));
    let theirs = GoimConnectReq::decode(&ours.encode_to_vec()[..]).expect("goim reads it");
    let expected = GoimConnectReq {
        server: "s".into(),
        cookie: "c".into(),
        token: b"t".to_vec(),
    };
    assert_eq!(theirs, expected);
    let ours = ConnectReq::decode(&theirs.encode_to_vec()[..]).expect("what goim sends is read");
    assert_eq!((&ours.server[..], ours.connection), ("s", None));

    let ours = OnlineReply {
        all_room_count: HashMap::from([("r".into(), 1)]),
        lease_known: true,
        store_generation: 2,
        known_after_ms: 3,
    };
    let theirs = GoimOnlineReply::decode(&ours.encode_to_vec()[..]).expect("goim reads it");
    assert_eq!(theirs.all_room_count, ours.all_room_count);
}

#[test]
fn a_message_of_a_lane_keeps_its_fields() {
    let message = v1::Message {
        id: vec![1],
        position: Some(v1::Position {
            stream: "s".into(),
            epoch: 1,
            number: 2,
            stored: false,
        }),
        target: Some(v1::message::Target::Room("r".into())),
        operation: 1000,
        body: "b".into(),
    };
    same(
        &message,
        "0a0101 1207 0a0173 1001 1802 220172 30e807 3a0162",
    );
}

#[test]
fn services_have_their_names() {
    assert_eq!(comet_server::SERVICE_NAME, "goim.comet.Comet");
    assert_eq!(logic_server::SERVICE_NAME, "goim.logic.Logic");
    assert_eq!(v1::comet_server::SERVICE_NAME, "comet.v1.Comet");
}
