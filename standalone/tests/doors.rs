//! Every kind of push, by every way in, through every door. What else a push has is in [`crate::pushes`].

use protocol::grpc::{
    comet::v1::{Everyone, Message, Position, Refusal, message::Target},
    goim::{
        comet::{BroadcastReq, BroadcastRoomReq, PushMsgReq},
        protocol::Proto,
    },
};

use crate::support::{
    Door, Doors, ENTRANCES, Lane,
    doors::{Kind, Receiver},
    grpc::{self, message},
    http,
    server::without_bounds,
    until,
};

const ROOM: &str = "live://1";

/// Keys of [`Doors::one_behind_each`], and their users' numbers.
const KEYS: [&str; ENTRANCES.len()] = ["1", "2", "3", "4", "5", "6", "7", "8"];

/// Connections a second: less than there are, so that a broadcast takes more than one step.
const SPEED: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_api_reaches_keys_mids_rooms_and_all() {
    let doors = Doors::open().await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let each = |name: &str| {
        let each = KEYS.map(|key| format!("&{name}={key}"));
        format!("operation=1000{}", each.concat())
    };
    let paced = format!("operation=1000&speed={SPEED}");
    for (kind, query, text) in [
        ("keys", each("keys").as_str(), "by key"),
        ("mids", &each("mids"), "by mid"),
        ("room", "operation=1000&type=live&room=1", "room"),
        ("all", "operation=1000", "all"),
        ("all", &paced, "paced"),
    ] {
        http::push(doors.push_api(), kind, query, text).await;
        all_get(&mut receivers, &[(1000, text)]).await;
    }
    // Nobody accepts this.
    let (keys, all) = (each("keys"), "operation=9999");
    let keys = keys.replace("1000", "9999");
    http::push(doors.push_api(), "keys", &keys, "filtered").await;
    http::push(doors.push_api(), "all", all, "filtered").await;
    nothing_is_left(&doors, &mut receivers, 5).await;
    let filtered = doors.server.metrics().filtered.get();
    assert_eq!(filtered, 2 * ENTRANCES.len() as u64);
}

/// Pushes by key, to the room, to all, and to all in its time what `proto` makes of a text, and waits
/// each time for what `messages` makes of it. Returns how many messages each got.
async fn goims_pushes(
    doors: &Doors,
    receivers: &mut [Receiver],
    proto: impl Fn(&str) -> Proto,
    messages: impl Fn(&'static str) -> Vec<(i64, &'static str)>,
) -> usize {
    let mut comet = grpc::goim(&doors.server).await;
    let by_key = PushMsgReq {
        keys: KEYS.map(str::to_owned).to_vec(),
        proto: Some(proto("by key")),
        proto_op: 1000,
    };
    comet.push_msg(by_key).await.unwrap();
    all_get(receivers, &messages("by key")).await;
    let to_room = BroadcastRoomReq {
        room_id: ROOM.to_owned(),
        proto: Some(proto("room")),
    };
    comet.broadcast_room(to_room).await.unwrap();
    all_get(receivers, &messages("room")).await;
    for (text, speed) in [("all", 0), ("paced", SPEED)] {
        let to_all = BroadcastReq {
            proto_op: 1000,
            proto: Some(proto(text)),
            speed: i32::try_from(speed).unwrap(),
        };
        comet.broadcast(to_all).await.unwrap();
        all_get(receivers, &messages(text)).await;
    }
    4 * messages("").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goims_grpc_takes_plain_protos() {
    let doors = Doors::open().await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let proto = |text: &str| grpc::plain(1001, text);
    let each = goims_pushes(&doors, &mut receivers, proto, |text| vec![(1001, text)]).await;
    nothing_is_left(&doors, &mut receivers, each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goims_grpc_takes_raws_of_several_messages() {
    let doors = Doors::open().await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let proto = |text: &str| grpc::raw(&[(1000, text), (2000, ""), (1001, "last")]);
    let messages = |text| vec![(1000, text), (2000, ""), (1001, "last")];
    let each = goims_pushes(&doors, &mut receivers, proto, messages).await;
    nothing_is_left(&doors, &mut receivers, each).await;
    for receiver in &receivers {
        let is_websocket = receiver.entrance.kind == Kind::Frames(Door::WebSocket);
        let raws = if is_websocket { 4 } else { 0 };
        assert_eq!(receiver.raws(), raws, "{:?}", receiver.entrance);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_reaches_keys_rooms_and_all_with_receipts() {
    let doors = Doors::open().await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let mut lane = Lane::open(&doors.server).await;
    let all = ENTRANCES.len() as u64;
    let paced = Target::Everyone(Everyone { speed: SPEED });
    for (target, text, taken) in [
        (grpc::keys(&KEYS), "by key", all),
        (grpc::room(ROOM), "room", all),
        (grpc::everyone(), "all", all),
        // Its outcome is not waited for.
        (paced, "paced", 0),
    ] {
        let receipt = lane.push(target, 1000, text).await;
        assert_eq!(receipt.taken, taken, "{text}: {receipt:?}");
        all_get(&mut receivers, &[(1000, text)]).await;
    }
    nothing_is_left(&doors, &mut receivers, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lane_has_under_way_stays_in_order() {
    const MESSAGES: usize = 300;
    const WINDOW: usize = 40;
    let doors = Doors::open_with(without_bounds).await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let mut lane = Lane::open(&doors.server).await;
    let texts: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    let expected: Vec<(i64, &str)> = texts.iter().map(|text| (1000, text.as_str())).collect();
    for target in [grpc::room(ROOM), grpc::keys(&KEYS), grpc::everyone()] {
        let messages = texts
            .iter()
            .map(|text| message(target.clone(), 1000, text.as_bytes()));
        let receipt = lane.push_all(messages, WINDOW).await;
        assert_eq!(receipt.taken, (MESSAGES * ENTRANCES.len()) as u64);
        all_get(&mut receivers, &expected).await;
    }
    nothing_is_left(&doors, &mut receivers, 3 * MESSAGES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_taken_once() {
    let doors = Doors::open().await;
    let mut receivers = doors.one_behind_each(ROOM).await;
    let mut lane = Lane::open(&doors.server).await;
    let at = |epoch, number| Message {
        position: Some(Position {
            stream: "s".to_owned(),
            epoch,
            number,
            stored: false,
        }),
        ..message(
            grpc::room(ROOM),
            1000,
            format!("{epoch}/{number}").as_bytes(),
        )
    };
    lane.send(vec![at(1, 1), at(1, 1), at(2, 2), at(1, 3), at(2, 3)])
        .await;
    let mut refusals = Vec::new();
    while refusals.len() < 5 {
        refusals.push(lane.any_receipt().await.refusal());
    }
    let (taken, repeated, stale) = (Refusal::None, Refusal::Repeated, Refusal::StaleEpoch);
    assert_eq!(refusals, [taken, repeated, taken, stale, taken]);
    let expected = [(1000, "1/1"), (1000, "2/2"), (1000, "2/3")];
    all_get(&mut receivers, &expected).await;
    nothing_is_left(&doors, &mut receivers, 3).await;
}

/// Each of them gets these messages next, in this order.
async fn all_get(receivers: &mut [Receiver], messages: &[(i64, &str)]) {
    for receiver in receivers {
        let entrance = receiver.entrance;
        for &(op, text) in messages {
            let message = receiver.message().await;
            assert_eq!(message, (op, text.to_owned()), "{entrance:?}");
        }
    }
}

/// Each got so many messages, and no other.
async fn nothing_is_left(doors: &Doors, receivers: &mut [Receiver], each: usize) {
    for receiver in &mut *receivers {
        receiver.has_nothing().await;
    }
    let metrics = doors.server.metrics();
    let all = (each * receivers.len()) as u64;
    until("all are delivered", || metrics.delivered.get() >= all).await;
    assert_eq!((metrics.taken.get(), metrics.delivered.get()), (all, all));
}
