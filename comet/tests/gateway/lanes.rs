//! `comet.v1`: lanes with receipts, positions, and kicks.

use protocol::grpc::comet::v1::{
    Cause, Connection, Connections, Everyone, Keys, KickReply, KickRequest, Message, Position,
    PushBatch, Receipt, Receipts, Refusal, comet_client::CometClient, kick_request::Target as Whom,
    message::Target,
};
use protocol::op;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

use crate::support::{DOORS, Door, FakeLogic, Gateway, OP, config, until, within};

struct Lane {
    batches: mpsc::Sender<PushBatch>,
    receipts: Streaming<Receipts>,
    ready: std::collections::VecDeque<Receipt>,
}

impl Lane {
    async fn open(gateway: &Gateway) -> Self {
        let (batches, waiting) = mpsc::channel(16);
        let mut service = CometClient::new(gateway.rpc());
        let receipts = within(service.push(ReceiverStream::new(waiting))).await;
        Self {
            batches,
            receipts: receipts.unwrap().into_inner(),
            ready: std::collections::VecDeque::new(),
        }
    }

    async fn send(&self, messages: Vec<Message>) {
        self.batches.send(PushBatch { messages }).await.unwrap();
    }

    async fn receipt(&mut self) -> Receipt {
        while self.ready.is_empty() {
            let receipts = within(self.receipts.message()).await.unwrap().unwrap();
            self.ready.extend(receipts.receipts);
        }
        self.ready.pop_front().unwrap()
    }

    async fn push(&mut self, message: Message) -> Receipt {
        self.send(vec![message]).await;
        self.receipt().await
    }
}

fn keys(keys: &[&str]) -> Keys {
    Keys {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
    }
}

fn message(target: Target, body: &'static str) -> Message {
    Message {
        target: Some(target),
        operation: OP,
        body: body.into(),
        ..Message::default()
    }
}

fn to_keys(names: &[&str], body: &'static str) -> Message {
    message(Target::Keys(keys(names)), body)
}

fn to_room(room: &str, body: &'static str) -> Message {
    message(Target::Room(room.to_owned()), body)
}

fn counts(receipt: &Receipt) -> [u64; 4] {
    let Receipt {
        taken,
        absent,
        filtered,
        dropped,
        ..
    } = *receipt;
    [taken, absent, filtered, dropped]
}

async fn start() -> (FakeLogic, Gateway) {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    (logic, gateway)
}

#[tokio::test]
async fn a_receipt_says_what_became_of_each_message_in_their_order() {
    let (_logic, gateway) = start().await;
    let mut a = gateway.online(Door::Tcp, "a", "live://1").await;
    let mut b = gateway.online(Door::WebSocket, "b", "live://1").await;
    let mut lane = Lane::open(&gateway).await;
    let id = vec![7; 16];
    let unwanted = Message {
        operation: OP + 1,
        ..to_keys(&["a", "b", "c"], "unwanted")
    };
    let all = message(Target::Everyone(Everyone { speed: 0 }), "all");
    lane.send(vec![
        Message {
            id: id.clone(),
            ..to_keys(&["a", "x", "b", "y"], "keys")
        },
        to_room("live://1", "room"),
        unwanted,
    ])
    .await;
    lane.send(vec![
        all,
        to_room("live://2", "nobody"),
        to_keys(&["a", "b"], "last"),
    ])
    .await;

    let receipt = lane.receipt().await;
    assert_eq!((&receipt.id, counts(&receipt)), (&id, [2, 2, 0, 0]));
    let mut absent = receipt.absent_keys;
    absent.sort();
    assert_eq!(absent, ["x", "y"]);
    let mut ids = vec![id];
    for expected in [
        [2, 0, 0, 0],
        [0, 1, 2, 0],
        [2, 0, 0, 0],
        [0; 4],
        [2, 0, 0, 0],
    ] {
        let receipt = lane.receipt().await;
        assert_eq!(
            (counts(&receipt), receipt.refusal()),
            (expected, Refusal::None)
        );
        assert_eq!(receipt.id.len(), 16, "comet names what has no name");
        ids.push(receipt.id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    for client in [&mut a, &mut b] {
        // By key and by room, there is no order between them.
        let mut first = [
            client.message().await,
            client.message().await,
            client.message().await,
        ];
        let last = client.message().await;
        first.sort();
        let mut texts = first.map(|(_, text)| text).to_vec();
        texts.push(last.1);
        texts.sort();
        assert_eq!(texts, ["all", "keys", "last", "room"]);
    }
    drop(lane.batches);
    assert!(within(lane.receipts.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_full_backlog_does_not_take_is_dropped_and_the_rest_delivered_or_lost() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.protocol.svr_proto = 4;
    config.tcp.sndbuf = 4096;
    let gateway = Gateway::start(&config).await;
    let client = gateway.online(Door::Tcp, "slow", "").await;
    let mut lane = Lane::open(&gateway).await;
    let body = bytes::Bytes::from(vec![b'x'; 512 << 10]);
    let mut totals = [0; 4];
    let mut sent = 0;
    // The socket's buffers grow, but not for ever.
    while totals[3] < 3 {
        let message = Message {
            body: body.clone(),
            ..to_keys(&["slow"], "")
        };
        let receipt = lane.push(message).await;
        sent += 1;
        for (total, count) in totals.iter_mut().zip(counts(&receipt)) {
            *total += count;
        }
    }
    let [taken, absent, filtered, dropped] = totals;
    assert_eq!((taken + dropped, absent, filtered), (sent, 0, 0));
    let metrics = gateway.comet.metrics();
    assert_eq!(metrics.taken.get(), taken);
    assert_eq!(metrics.dropped("backlog_full").get(), dropped);
    // It goes without having read anything.
    drop(client);
    let closes = || metrics.closes("socket_error").get() + metrics.closes("peer_closed").get();
    until(|| closes() == 1).await;
    let lost = metrics.lost("socket_error").get() + metrics.lost("peer_closed").get();
    assert!(lost > 0);
    assert_eq!(metrics.delivered.get() + lost, taken);
}

#[tokio::test]
async fn invalid_messages_are_named_and_the_lane_goes_on() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.push.max_body = 8;
    config.push.max_keys = 2;
    let gateway = Gateway::start(&config).await;
    let mut lane = Lane::open(&gateway).await;
    let bad_id = Message {
        id: vec![1; 15],
        ..to_keys(&["a"], "")
    };
    let no_target = Message::default();
    let raw = Message {
        operation: op::RAW,
        ..to_keys(&["a"], "")
    };
    for (message, field) in [
        (bad_id, "id"),
        (no_target, "target"),
        (to_keys(&["a"], "nine bytes"), "body"),
        (to_keys(&["a", "b", "c"], ""), "keys"),
        (raw, "operation"),
    ] {
        let receipt = lane.push(message).await;
        assert_eq!(receipt.refusal(), Refusal::Invalid, "{field}");
        assert!(
            receipt.detail.starts_with(field),
            "{field}: {}",
            receipt.detail
        );
        assert_eq!(counts(&receipt), [0; 4]);
    }
    assert_eq!(counts(&lane.push(to_keys(&["a"], "")).await), [0, 1, 0, 0]);
    assert_eq!(gateway.comet.metrics().refused_pushes("invalid").get(), 5);
}

#[tokio::test]
async fn what_was_taken_is_skipped_and_older_epochs_are_refused() {
    let (_logic, gateway) = start().await;
    let mut client = gateway.online(Door::Tcp, "a", "").await;
    let at = |stream: &str, epoch, number, body| Message {
        position: Some(Position {
            stream: stream.to_owned(),
            epoch,
            number,
            stored: false,
        }),
        ..to_keys(&["a"], body)
    };
    let mut first = Lane::open(&gateway).await;
    let mut second = Lane::open(&gateway).await;
    let refusal = async |lane: &mut Lane, message| lane.push(message).await.refusal();
    assert_eq!(refusal(&mut first, at("s", 1, 1, "1")).await, Refusal::None);
    assert_eq!(refusal(&mut first, at("s", 1, 2, "2")).await, Refusal::None);
    assert_eq!(
        refusal(&mut first, at("s", 1, 2, "again")).await,
        Refusal::Repeated
    );
    // Another lane takes over and sends again from the start.
    assert_eq!(
        refusal(&mut second, at("s", 2, 1, "again")).await,
        Refusal::Repeated
    );
    assert_eq!(
        refusal(&mut second, at("s", 2, 2, "again")).await,
        Refusal::Repeated
    );
    assert_eq!(
        refusal(&mut second, at("s", 2, 3, "3")).await,
        Refusal::None
    );
    assert_eq!(
        refusal(&mut first, at("s", 1, 4, "stale")).await,
        Refusal::StaleEpoch
    );
    assert_eq!(
        refusal(&mut first, at("other", 1, 1, "4")).await,
        Refusal::None
    );
    assert_eq!(
        refusal(&mut second, at("s", 2, 4, "5")).await,
        Refusal::None
    );
    for text in ["1", "2", "3", "4", "5"] {
        assert_eq!(client.message().await.1, text);
    }
}

fn stored(epoch: u64, number: u64, id: u8, message: Message) -> Message {
    Message {
        id: [id; 16].into(),
        position: Some(Position {
            stream: "push/32/7".to_owned(),
            epoch,
            number,
            stored: true,
        }),
        ..message
    }
}

#[tokio::test]
async fn a_stored_message_to_a_key_that_came_here_later_is_taken() {
    let (_logic, gateway) = start().await;
    let mut room = gateway.online(Door::Tcp, "in-room", "live://1").await;
    let mut key = gateway.online(Door::Tcp, "k", "").await;
    let mut here = gateway.online(Door::Tcp, "here", "").await;
    let mut first = Lane::open(&gateway).await;
    let mut second = Lane::open(&gateway).await;
    // 90 is for a key that is at another comet.
    let later = stored(1, 91, 91, to_room("live://1", "91"));
    assert_eq!(counts(&first.push(later.clone()).await), [1, 0, 0, 0]);
    let both = stored(1, 92, 92, to_keys(&["here"], "92"));
    assert_eq!(counts(&first.push(both).await), [1, 0, 0, 0]);
    // That comet and the reader die; the key is here now, and so is all that 92 is for.
    let moved = stored(2, 90, 90, to_keys(&["k"], "90"));
    assert_eq!(counts(&second.push(moved.clone()).await), [1, 0, 0, 0]);
    let mut again = Message {
        position: later.position.clone(),
        ..later
    };
    again.position.as_mut().unwrap().epoch = 2;
    assert_eq!(second.push(again).await.refusal(), Refusal::Repeated);
    let both = stored(2, 92, 92, to_keys(&["k", "here"], "92"));
    let receipt = second.push(both.clone()).await;
    assert_eq!((counts(&receipt), receipt.repeated), ([1, 0, 0, 0], 1));
    for message in [moved, both] {
        assert_eq!(second.push(message).await.refusal(), Refusal::Repeated);
    }
    let stale = stored(1, 93, 93, to_keys(&["k"], "stale"));
    assert_eq!(first.push(stale).await.refusal(), Refusal::StaleEpoch);
    let last = stored(2, 94, 94, to_keys(&["k", "here", "in-room"], "last"));
    second.push(last).await;
    for (client, expected) in [
        (&mut key, &["90", "92", "last"][..]),
        (&mut here, &["92", "last"]),
        (&mut room, &["91", "last"]),
    ] {
        for text in expected {
            assert_eq!(client.message().await.1, *text);
        }
    }
}

#[tokio::test]
async fn a_stored_broadcast_that_finds_too_many_under_way_is_taken_later() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.push.paced = 1;
    let gateway = Gateway::start(&config).await;
    let mut client = gateway.online(Door::Tcp, "a", "live://1").await;
    let mut lane = Lane::open(&gateway).await;
    let paced = |speed, body| message(Target::Everyone(Everyone { speed }), body);
    // A slice of one bucket in each second.
    let slow = stored(1, 1, 1, paced(1, "slow"));
    assert_eq!(lane.push(slow).await.refusal(), Refusal::None);
    let refused = stored(1, 2, 2, paced(1_000_000, "later"));
    assert_eq!(lane.push(refused.clone()).await.refusal(), Refusal::Busy);
    let room = stored(1, 3, 3, to_room("live://1", "room"));
    assert_eq!(lane.push(room).await.refusal(), Refusal::None);
    within(async { while lane.push(refused.clone()).await.refusal() == Refusal::Busy {} }).await;
    assert_eq!(lane.push(refused).await.refusal(), Refusal::Repeated);
    let mut texts = Vec::new();
    while texts.len() < 3 {
        texts.push(client.message().await.1);
    }
    texts.sort_unstable();
    assert_eq!(texts, ["later", "room", "slow"]);
}

async fn kick(gateway: &Gateway, target: Option<Whom>, reason: &str) -> Result<u32, tonic::Status> {
    let reply = kick_because(gateway, Cause::Kicked, target, reason).await?;
    Ok(reply.kicked)
}

async fn kick_because(
    gateway: &Gateway,
    cause: Cause,
    target: Option<Whom>,
    reason: &str,
) -> Result<KickReply, tonic::Status> {
    let mut service: CometClient<Channel> = CometClient::new(gateway.rpc());
    let request = KickRequest {
        target,
        reason: reason.to_owned(),
        cause: cause.into(),
        comeback: None,
    };
    Ok(service.kick(request).await?.into_inner())
}

#[tokio::test]
async fn a_kick_reaches_those_meant_and_tells_them_why() {
    let (_logic, gateway) = start().await;
    for door in DOORS {
        let mut one = gateway.online(door, "one", "live://1").await;
        let mut two = gateway.online(door, "two", "live://1").await;
        let mut three = gateway.online(door, "three", "live://2").await;
        let mut four = gateway.online(door, "four", "live://2").await;
        let by_key = Some(Whom::Keys(keys(&["four", "absent"])));
        assert_eq!(kick(&gateway, by_key, "you know why").await.unwrap(), 1);
        assert_eq!(four.ends_with("kicked", 4002).await, "you know why");
        let by_room = Some(Whom::Room("live://1".to_owned()));
        assert_eq!(kick(&gateway, by_room, "").await.unwrap(), 2);
        for client in [&mut one, &mut two] {
            assert_eq!(
                client.ends_with("kicked", 4002).await,
                "closed by the service"
            );
        }
        let nobody = Some(Whom::Room("live://1".to_owned()));
        assert_eq!(kick(&gateway, nobody, "").await.unwrap(), 0);
        // The key is free at once, and the others noticed nothing.
        gateway.online(door, "four", "").await;
        assert_eq!(three.heartbeat(2).await, 1);
    }
}

#[tokio::test]
async fn a_kick_by_connection_spares_every_other_of_the_key() {
    let (mut logic, gateway) = start().await;
    let mut client = gateway.online(Door::WebSocket, "a", "").await;
    let connection = logic.told_connect().await.connection.unwrap();
    let whom = |key: &str, epoch, id| {
        let connection = Connection {
            key: key.to_owned(),
            epoch,
            id,
        };
        let connections = vec![connection];
        Some(Whom::Connections(Connections { connections }))
    };
    let (epoch, id) = (connection.epoch, connection.id);
    for other in [
        whom("a", epoch, id + 1),
        whom("a", epoch - 1, id),
        whom("a", epoch + 1, id),
        whom("b", epoch, id),
    ] {
        assert_eq!(kick(&gateway, other, "").await.unwrap(), 0);
    }
    assert_eq!(client.heartbeat(2).await, 0);
    assert_eq!(
        kick(&gateway, whom("a", epoch, id), "moved").await.unwrap(),
        1
    );
    assert_eq!(client.ends_with("kicked", 4002).await, "moved");
    let goodbye = logic.told_disconnect().await;
    assert_eq!(goodbye.connection, Some(connection));
}

#[tokio::test]
async fn a_connection_that_was_replaced_elsewhere_is_told_so_and_those_that_have_gone_are_named() {
    let (mut logic, gateway) = start().await;
    for door in DOORS {
        let mut client = gateway.online(door, "a", "").await;
        let mut other = gateway.online(door, "b", "").await;
        let connection = logic.told_connect().await.connection.unwrap();
        logic.told_connect().await;
        let named = |key: &str, id| Connection {
            key: key.to_owned(),
            epoch: connection.epoch,
            id,
        };
        let connections = vec![
            named("a", connection.id),
            named("b", connection.id),
            named("nobody", 1),
        ];
        let whom = Some(Whom::Connections(Connections { connections }));
        let reply = kick_because(&gateway, Cause::Replaced, whom, "").await;
        let mut reply = reply.unwrap();
        reply.absent_keys.sort();
        let absent_keys = keys(&["b", "nobody"]).keys;
        assert_eq!(
            reply,
            KickReply {
                kicked: 1,
                absent_keys
            }
        );
        let words = client.ends_with("replaced", 4001).await;
        assert_eq!(words, "the same key logged in again");
        // Logic is told all the same.
        assert_eq!(logic.told_disconnect().await.connection, Some(connection));
        assert_eq!(other.heartbeat(2).await, 0);
        drop(other);
        logic.told_disconnect().await;
    }
    let metrics = gateway.comet.metrics();
    until(|| metrics.closes("replaced").get() == 4).await;
    assert_eq!(metrics.closes("kicked").get(), 0);
}

#[tokio::test]
async fn a_kick_that_cannot_be_understood_is_refused() {
    let (_logic, gateway) = start().await;
    let status = kick(&gateway, None, "").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "target: missing")
    );
    let target = Some(Whom::Keys(keys(&["a"])));
    let status = kick(&gateway, target, &"x".repeat(101)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("reason"));
}
