//! How pushes come into the inboxes of buckets that are served by the test.

use common::{bearer::Credential, config::Human, mutual::Dialer};
use protocol::{
    Meta, RoomId,
    grpc::comet::v1::{
        Everyone, Message, Position, PushBatch, Refusal, comet_client::CometClient,
        comet_server::CometServer, message,
    },
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Config,
    bucket::{Buckets, Inboxes},
    logic::Logic,
    metrics::Metrics,
    whitelist::Whitelist,
};

struct Stage {
    pusher: Arc<Pusher>,
    inboxes: Vec<Inboxes>,
}

/// Two buckets with room for `inbox` pushes of each kind.
fn stage(inbox: usize, wait: Human) -> Stage {
    stage_of(2, inbox, wait)
}

fn stage_of(buckets: usize, inbox: usize, wait: Human) -> Stage {
    let mut config = Config::default();
    config.bucket.size = buckets;
    config.bucket.inbox = inbox;
    config.push.wait = wait;
    let metrics = Arc::new(Metrics::default());
    let logic = Logic::start(
        &config,
        "comet".to_owned(),
        1,
        Credential::default(),
        Dialer::default(),
        Arc::clone(&metrics),
        CancellationToken::new(),
    );
    let mut gateway = Gateway::start(
        &config,
        logic,
        metrics,
        Whitelist::default(),
        &CancellationToken::new(),
    );
    let (buckets, inboxes) = Buckets::unserved(&config.bucket);
    gateway.buckets = buckets;
    Stage {
        pusher: Arc::new(Pusher::new(Arc::new(gateway), config.push)),
        inboxes,
    }
}

impl Stage {
    /// A key of the bucket.
    fn key_of(&self, bucket: usize) -> String {
        let keys = (0..).map(|n: u32| n.to_string());
        let mut keys = keys.filter(|key| self.pusher.gateway.buckets.index_of(key) == bucket);
        keys.next().unwrap()
    }

    fn refused(&self, reason: &'static str) -> u64 {
        self.pusher.gateway.metrics.refused_pushes(reason).get()
    }
}

const BRIEF: Human = Human::millis(10);
const LONG: Human = Human::secs(600);

fn frame(seq: i32) -> Frame {
    let header = Header {
        ver: 1,
        op: 1000,
        seq,
    };
    Frame::message(header, b"", Meta::default())
}

fn seq_of(frame: &Frame) -> i32 {
    let mut seq = [0; 4];
    seq.copy_from_slice(&frame.tcp()[12..16]);
    i32::from_be_bytes(seq)
}

#[tokio::test]
async fn a_push_that_finds_one_inbox_full_leaves_nothing_in_the_others() {
    let mut stage = stage(1, BRIEF);
    let keys = [stage.key_of(0), stage.key_of(1)];
    let pusher = Arc::clone(&stage.pusher);
    pusher
        .to_keys(vec![keys[1].clone()], 1, frame(0))
        .await
        .unwrap();
    let refused = pusher
        .to_keys(keys.clone().into(), 1, frame(1))
        .await
        .unwrap_err();
    assert_eq!(refused, PushError::Busy(BRIEF.get()));
    assert_eq!(
        tonic::Status::from(refused).code(),
        tonic::Code::ResourceExhausted
    );
    assert_eq!(stage.refused("busy"), 1);
    assert!(stage.inboxes[0].singles.try_recv().is_err());
    // The place that was reserved meanwhile is free again.
    pusher
        .to_keys(vec![keys[0].clone()], 1, frame(2))
        .await
        .unwrap();

    pusher.to_all(1, frame(3), 0).await.unwrap();
    drop(stage.inboxes[0].fanouts.try_recv().unwrap());
    assert_eq!(
        pusher.to_all(1, frame(4), 0).await.unwrap_err(),
        PushError::Busy(BRIEF.get())
    );
    assert!(stage.inboxes[0].fanouts.try_recv().is_err());
    assert_eq!(
        seq_of(&stage.inboxes[1].fanouts.try_recv().unwrap().frame),
        3
    );
    assert!(stage.inboxes[1].fanouts.try_recv().is_err());
}

#[tokio::test]
async fn a_push_waits_for_room_and_then_goes_everywhere() {
    let mut stage = stage(1, LONG);
    let pusher = Arc::clone(&stage.pusher);
    pusher.to_all(1, frame(0), 0).await.unwrap();
    let waiting = pusher.to_all(1, frame(1), 0);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    for inboxes in &mut stage.inboxes {
        assert_eq!(seq_of(&inboxes.fanouts.recv().await.unwrap().frame), 0);
    }
    waiting.await.unwrap();
    for inboxes in &mut stage.inboxes {
        assert_eq!(seq_of(&inboxes.fanouts.recv().await.unwrap().frame), 1);
    }
}

#[tokio::test]
async fn who_comes_into_the_room_while_a_push_waits_gets_it() {
    let mut stage = stage(1, LONG);
    let pusher = Arc::clone(&stage.pusher);
    let room = pusher.gateway.rooms.enter(&RoomId::new("live", "1"));
    room.set_present(0, true);
    pusher.to_room("live://1", frame(0)).await.unwrap();
    let waiting = pusher.to_room("live://1", frame(1));
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    room.set_present(1, true);
    assert_eq!(
        seq_of(&stage.inboxes[0].fanouts.recv().await.unwrap().frame),
        0
    );
    waiting.await.unwrap();
    for inboxes in &mut stage.inboxes {
        assert_eq!(seq_of(&inboxes.fanouts.try_recv().unwrap().frame), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_buckets_see_the_pushes_to_a_room_in_one_order_which_keeps_each_pushers() {
    const BUCKETS: usize = 32;
    const EACH: i32 = 1000;
    // Many buckets, so that it takes long to hand out a push and others come between if they can.
    let mut stage = stage_of(BUCKETS, 4000, LONG);
    let room = RoomId::new("live", "1");
    let room = stage.pusher.gateway.rooms.enter(&room);
    (0..BUCKETS).for_each(|bucket| room.set_present(bucket, true));
    let lanes: Vec<_> = (0..4)
        .map(|lane| {
            let pusher = Arc::clone(&stage.pusher);
            tokio::spawn(async move {
                for n in 0..EACH {
                    let frame = frame(lane * EACH + n);
                    pusher.to_room("live://1", frame).await.unwrap();
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let seen = stage.inboxes.iter_mut().map(|inboxes| {
        let inbox = &mut inboxes.fanouts;
        let parts = std::iter::from_fn(|| inbox.try_recv().ok());
        parts.map(|part| seq_of(&part.frame)).collect::<Vec<_>>()
    });
    let seen: Vec<_> = seen.collect();
    assert_eq!(seen[0].len(), 4000);
    assert!(seen.iter().all(|order| *order == seen[0]));
    for lane in 0..4 {
        let own = seen[0].iter().filter(|&&seq| seq / EACH == lane);
        assert!(own.is_sorted());
    }
}

#[tokio::test]
async fn each_bucket_gets_its_own_keys_and_the_outcome_waits_for_all() {
    let mut stage = stage(1, BRIEF);
    let keys = [stage.key_of(0), stage.key_of(1)];
    let all = [&keys[..], &keys[..]].concat();
    let mut pending = stage.pusher.to_keys(all, 7, frame(0)).await.unwrap();
    for (bucket, expected) in keys.iter().enumerate() {
        assert!(pending.try_recv().is_err());
        let single = stage.inboxes[bucket].singles.try_recv().unwrap();
        let Single::Keys { keys, op, part, .. } = single else {
            panic!("{single:?}");
        };
        assert_eq!((keys, op), (vec![expected.clone(); 2], 7));
        let counts = tally::Counts {
            taken: 2,
            ..tally::Counts::default()
        };
        part.finish(&counts, Vec::new());
    }
    assert_eq!(pending.await.unwrap().counts.taken, 4);
}

#[tokio::test]
async fn buckets_that_ended_say_that_comet_stops() {
    let mut stage = stage(1, BRIEF);
    stage.inboxes.clear();
    let refused = stage.pusher.to_all(1, frame(0), 0).await.unwrap_err();
    assert_eq!(refused, PushError::Stopping);
    assert_eq!(
        tonic::Status::from(refused).code(),
        tonic::Code::Unavailable
    );
    assert_eq!(stage.refused("stopping"), 1);
}

#[tokio::test]
async fn a_stored_push_waits_for_room_for_as_long_as_it_takes() {
    let mut stage = stage(1, BRIEF);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = CometServer::new(CometV1::new(Arc::clone(&stage.pusher)));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = CometClient::new(channel);
    let (batches, waiting) = tokio::sync::mpsc::channel(1);
    let receipts = client.push(ReceiverStream::new(waiting)).await.unwrap();
    let mut receipts = receipts.into_inner();
    let everyone = |number: u8| Message {
        id: vec![number; 16],
        position: Some(Position {
            stream: "s".to_owned(),
            epoch: 1,
            number: number.into(),
            stored: true,
        }),
        target: Some(message::Target::Everyone(Everyone { speed: 0 })),
        operation: 1000,
        body: vec![number].into(),
    };
    stage.pusher.to_all(1, frame(0), 0).await.unwrap();
    let messages = vec![everyone(1), everyone(2)];
    batches.send(PushBatch { messages }).await.unwrap();
    // Each time that others would be refused, who waits for the receipt hears of it.
    for _ in 0..3 {
        let next = receipts.message().await.unwrap().unwrap();
        assert_eq!(next.receipts, []);
    }
    assert!(stage.refused("busy") >= 3);
    for body in [&[][..], &[1], &[2]] {
        for inboxes in &mut stage.inboxes {
            let fanout = inboxes.fanouts.recv().await.unwrap();
            assert_eq!(fanout.frame.tcp()[16..], *body);
            fanout.part.finish(&tally::Counts::default(), Vec::new());
        }
    }
    let mut refusals = Vec::new();
    while refusals.len() < 2 {
        let next = receipts.message().await.unwrap().unwrap().receipts;
        refusals.extend(next.iter().map(protocol::grpc::comet::v1::Receipt::refusal));
    }
    assert_eq!(refusals, [Refusal::None; 2]);
}
