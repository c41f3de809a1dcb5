//! What holds at full speed: nothing is missed after AuthReply, and a room has one order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use protocol::grpc::comet::v1::{Message, Receipt};
use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    Client, Door, Lane, Server, grpc, server::without_bounds, through_both_doors, token,
};

/// Messages without a receipt: fewer than a bucket's inbox takes, so that no push waits there.
const WINDOW: usize = 512;

const LOGINS: u32 = 1000;

/// Messages that are pushed for each login at the most, so that a machine that is slow to log in has no more to push.
const PER_LOGIN: usize = 16;

/// Clients that connect and log in at the same time.
const AT_ONCE: u32 = 50;

const BURST: u32 = 10_000;

const ROOM: &str = "live://1";

through_both_doors!(
    after_auth_reply_nothing_is_missed,
    one_pushers_messages_keep_their_order,
    two_pushers_are_seen_in_one_order,
);

async fn after_auth_reply_nothing_is_missed(door: Door) {
    let server = Arc::new(Server::start_with(without_bounds).await);
    let mut lane = Lane::open(&server).await;
    // So that there is a room from the first message on.
    let first = log_in(&server, door, LOGINS).await;
    let mut reading = JoinSet::new();
    reading.spawn(collect(first));
    let race = Arc::new(Race::default());
    let logins = Logins(Arc::clone(&race));
    let logins = tokio::spawn(log_in_all(Arc::clone(&server), door, logins, reading));
    let mut sum = Receipt::default();
    for start in (0..).step_by(PER_LOGIN) {
        if race.is_over.load(Ordering::Acquire) {
            break;
        }
        let burst = (start..).take(PER_LOGIN).map(numbered);
        sum.taken += lane.push_all(burst, WINDOW).await.taken;
        race.step.notified().await;
    }
    let end = Message {
        operation: 1001,
        ..numbered(0)
    };
    let last = lane.push_all([end], 1).await;
    assert_eq!(last.taken, u64::from(LOGINS) + 1);
    sum.taken += last.taken;

    let reading = logins.await.unwrap();
    let mut delivered = u64::from(LOGINS) + 1;
    let mut firsts: Vec<u32> = Vec::new();
    for numbers in reading.join_all().await {
        delivered += numbers.len() as u64;
        firsts.extend(numbers.first());
        for pair in numbers.windows(2) {
            assert_eq!(pair[0] + 1, pair[1], "a gap");
        }
    }
    // Every message that was taken was read: a sequence that ends early would show here.
    assert_eq!(delivered, sum.taken);
    firsts.sort_unstable();
    firsts.dedup();
    assert!(firsts.len() > 10, "the logins did not race with the pushes");
    no_drops(&server);
}

async fn one_pushers_messages_keep_their_order(door: Door) {
    let (server, members) = members_in_all_buckets(door).await;
    let mut lane = Lane::open(&server).await;
    let reading: JoinSet<_> = members.into_iter().map(collect).collect();
    let sum = lane.push_all((0..BURST).map(numbered), WINDOW).await;
    end(&mut lane).await;
    let expected: Vec<u32> = (0..BURST).collect();
    for numbers in reading.join_all().await {
        assert!(numbers == expected, "out of order or with gaps");
    }
    assert_eq!(sum, sum_of(u64::from(BURST) * 16));
    no_drops(&server);
}

async fn two_pushers_are_seen_in_one_order(door: Door) {
    let (server, members) = members_in_all_buckets(door).await;
    let mut lanes = [Lane::open(&server).await, Lane::open(&server).await];
    let reading: JoinSet<_> = members.into_iter().map(collect).collect();
    let [even, odd] = &mut lanes;
    let half = |from| (from..BURST).step_by(2).map(numbered);
    let (even_sum, odd_sum) = tokio::join!(
        even.push_all(half(0), WINDOW / 2),
        odd.push_all(half(1), WINDOW / 2)
    );
    assert_eq!(even_sum.taken + odd_sum.taken, u64::from(BURST) * 16);
    end(&mut lanes[0]).await;
    let orders = reading.join_all().await;
    for order in &orders {
        assert!(*order == orders[0], "two members see different orders");
    }
    for parity in [0, 1] {
        let of_one = orders[0].iter().filter(|number| **number % 2 == parity);
        assert!(of_one.is_sorted(), "out of order");
    }
    assert_eq!(orders[0].len(), BURST as usize);
    no_drops(&server);
}

/// Sixteen members of the room over eight buckets.
async fn members_in_all_buckets(door: Door) -> (Server, Vec<Client>) {
    let server = Server::start_with(|config| {
        without_bounds(config);
        config.comet.bucket.size = 8;
    })
    .await;
    let mut members = Vec::new();
    for mid in 0..16 {
        members.push(Client::login(&server, door, &token(mid, "", ROOM)).await);
    }
    (server, members)
}

/// Logs in a thousand clients, some at a time, each of which reads from then on.
async fn log_in_all(
    server: Arc<Server>,
    door: Door,
    race: Logins,
    mut reading: JoinSet<Vec<u32>>,
) -> JoinSet<Vec<u32>> {
    for start in (0..LOGINS).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let mut logins = JoinSet::new();
        for mid in start..start + AT_ONCE {
            let (server, race) = (Arc::clone(&server), Arc::clone(&race.0));
            logins.spawn(async move {
                let client = log_in(&server, door, mid).await;
                race.step.notify_one();
                client
            });
        }
        for client in logins.join_all().await {
            reading.spawn(collect(client));
        }
    }
    drop(race);
    reading
}

/// Logins that race with pushes.
#[derive(Default)]
struct Race {
    is_over: AtomicBool,
    /// Told of each login.
    step: Notify,
}

/// Ends the race with the logins, also with those that fail.
struct Logins(Arc<Race>);

impl Drop for Logins {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.step.notify_one();
    }
}

async fn log_in(server: &Server, door: Door, mid: u32) -> Client {
    Client::login(server, door, &token(mid.into(), "", ROOM)).await
}

/// Reads numbers until the end is pushed.
async fn collect(mut client: Client) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let packet = client.packet().await;
        if packet.op == 1001 {
            return numbers;
        }
        assert_eq!(packet.op, 1000);
        numbers.push(u32::from_be_bytes(packet.body.try_into().unwrap()));
    }
}

fn numbered(number: u32) -> Message {
    grpc::message(grpc::room(ROOM), 1000, &number.to_be_bytes())
}

async fn end(lane: &mut Lane) {
    lane.push(grpc::room(ROOM), 1001, "").await;
}

fn sum_of(taken: u64) -> Receipt {
    Receipt {
        taken,
        ..Receipt::default()
    }
}

fn no_drops(server: &Server) {
    let metrics = server.metrics();
    for reason in ["backlog_full", "closing"] {
        assert_eq!(metrics.dropped(reason).get(), 0, "{reason}");
    }
}
