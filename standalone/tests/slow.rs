//! Clients that do not read: what they cost others, what they lose, and that each loss is counted.

use comet::channel::FullPolicy;
use common::config::Human;
use protocol::grpc::comet::v1::{Message, Receipt, kick_request::Target};

use crate::support::{
    Client, Door, Lane, Packet, Server,
    grpc::{self, kick, kick_keys},
    through_both_doors, token, until,
};

const ROOM: &str = "live://1";
const MESSAGES: u32 = 2000;
/// Messages that wait at most.
const BACKLOG: u64 = 16;

through_both_doors!(
    dropping_the_newest_keeps_what_waits,
    dropping_the_oldest_keeps_the_newest,
    disconnecting_tells_why,
    a_kick_with_a_full_backlog_is_read_whole,
    a_kick_of_a_client_that_never_reads_ends_in_time,
    a_client_that_vanishes_loses_what_waits,
);

async fn dropping_the_newest_keeps_what_waits(door: Door) {
    let Scene {
        server,
        mut slow,
        sum,
        ..
    } = Scene::of(door, FullPolicy::DropNewest).await;
    let metrics = server.metrics();
    let dropped = metrics.dropped("backlog_full");
    until("drops are counted", || dropped.get() == sum.dropped).await;
    assert_eq!(sum.taken + sum.dropped, 4 * u64::from(MESSAGES));
    // It reads what waited for it, and nothing of that is missing.
    let read = read_numbers(&mut slow, u64::from(MESSAGES) - sum.dropped).await;
    assert!(read.is_sorted() && read[0] == 0);
    until("all that was taken is delivered", || {
        metrics.delivered.get() == sum.taken
    })
    .await;
    slow.has_nothing().await;
    assert_eq!(metrics.taken.get(), sum.taken);
}

async fn dropping_the_oldest_keeps_the_newest(door: Door) {
    let Scene {
        server,
        mut slow,
        sum,
        ..
    } = Scene::of(door, FullPolicy::DropOldest).await;
    let metrics = server.metrics();
    assert_eq!((sum.taken, sum.dropped), (4 * u64::from(MESSAGES), 0));
    let lost = metrics.lost("oldest").get();
    let read = read_numbers(&mut slow, u64::from(MESSAGES) - lost).await;
    assert!(read.is_sorted());
    assert_eq!((read[0], *read.last().unwrap()), (0, MESSAGES - 1));
    until("taken is delivered or lost", || {
        metrics.taken.get() == metrics.delivered.get() + lost
    })
    .await;
    slow.has_nothing().await;
    assert!(lost > BACKLOG, "{lost} lost");
}

async fn disconnecting_tells_why(door: Door) {
    let Scene {
        server, slow, sum, ..
    } = Scene::of(door, FullPolicy::Disconnect).await;
    let metrics = server.metrics();
    let lost = metrics.lost("slow").get();
    assert!((1..=BACKLOG).contains(&lost), "{lost} lost");
    let read = whole_and_last(slow, "slow", 4003).await;
    server.closed("slow", 1).await;
    let others = 3 * u64::from(MESSAGES);
    assert_eq!(metrics.delivered.get(), others + read.len() as u64);
    assert_eq!(sum.taken, metrics.delivered.get() + lost);
    assert_eq!(metrics.lost("slow").get(), lost);
    let dropped = metrics.dropped("closing");
    until("drops are counted", || dropped.get() == sum.dropped).await;
}

async fn a_kick_with_a_full_backlog_is_read_whole(door: Door) {
    let Scene {
        server, slow, sum, ..
    } = Scene::of(door, FullPolicy::DropNewest).await;
    let metrics = server.metrics();
    assert_eq!(kick(&server, kick_keys(&["slow"]), "too slow").await, 1);
    let lost = metrics.lost("kicked").get();
    assert!((1..=BACKLOG).contains(&lost), "{lost} lost");
    let read = whole_and_last(slow, "kicked", 4002).await;
    server.closed("kicked", 1).await;
    assert_eq!(metrics.lost("kicked").get(), lost);
    let others = 3 * u64::from(MESSAGES);
    assert_eq!(metrics.delivered.get(), others + read.len() as u64);
    assert_eq!(sum.taken, metrics.delivered.get() + lost);
}

async fn a_kick_of_a_client_that_never_reads_ends_in_time(door: Door) {
    let Scene {
        server,
        slow,
        sum,
        others,
    } = Scene::with(door, FullPolicy::DropNewest, Human::millis(50)).await;
    let metrics = server.metrics();
    let room = Target::Room(ROOM.to_owned());
    assert_eq!(kick(&server, room, "").await, 4);
    for mut other in others {
        other.ended().await.is("kicked", 4002, door);
    }
    // The slow one still has its socket and has read nothing.
    server.closed("kicked", 4).await;
    let lost = metrics.lost("kicked").get();
    assert_eq!(sum.taken, metrics.delivered.get() + lost);
    drop(slow);
}

async fn a_client_that_vanishes_loses_what_waits(door: Door) {
    let Scene {
        server, slow, sum, ..
    } = Scene::of(door, FullPolicy::DropNewest).await;
    let metrics = server.metrics();
    // With bytes unread, so that its system resets the connection.
    drop(slow);
    server.closed("socket_error", 1).await;
    let lost = metrics.lost("socket_error").get();
    assert!((1..=BACKLOG).contains(&lost), "{lost} lost");
    assert_eq!(sum.taken, metrics.delivered.get() + lost);
}

/// A room with one member that has read nothing of a burst and three that have read all of it.
struct Scene {
    server: Server,
    slow: Client,
    others: Vec<Client>,
    /// Of the whole burst.
    sum: Receipt,
}

impl Scene {
    async fn of(door: Door, policy: FullPolicy) -> Self {
        Self::with(door, policy, Human::secs(60)).await
    }

    async fn with(door: Door, policy: FullPolicy, close_timeout: Human) -> Self {
        let server = Server::start_with(|config| {
            let protocol = &mut config.comet.protocol;
            protocol.full_policy = policy;
            protocol.svr_proto = usize::try_from(BACKLOG).unwrap();
            protocol.svr_bytes = 1 << 20;
            protocol.close_timeout = close_timeout;
            config.comet.tcp.sndbuf = 4096;
        })
        .await;
        let mut slow = Client::connect_narrow(&server, door).await;
        slow.auth(&token(1, "slow", ROOM)).await;
        let mut others = Vec::new();
        for mid in 2..5 {
            others.push(Client::login(&server, door, &token(mid, "", ROOM)).await);
        }
        let mut lane = Lane::open(&server).await;
        let mut sum = Receipt::default();
        // In parts that the others' backlogs can hold: they are to lose nothing.
        for start in (0..MESSAGES).step_by(8) {
            let part = lane.push_all((start..start + 8).map(numbered), 8).await;
            sum.taken += part.taken;
            sum.dropped += part.dropped;
            for other in &mut others {
                let read = read_numbers(other, 8).await;
                assert_eq!(read, (start..start + 8).collect::<Vec<_>>());
            }
        }
        Self {
            server,
            slow,
            others,
            sum,
        }
    }
}

/// What a client that was sent away reads: whole frames in order, and then why.
async fn whole_and_last(mut client: Client, reason: &str, code: u16) -> Vec<u32> {
    let (read, farewell) = client.rest().await;
    farewell.is(reason, code, client.door);
    let read: Vec<u32> = read.iter().map(number).collect();
    assert!(read.is_sorted() && !read.is_empty());
    read
}

async fn read_numbers(client: &mut Client, count: u64) -> Vec<u32> {
    let mut read = Vec::new();
    for _ in 0..count {
        read.push(number(&client.packet().await));
    }
    read
}

/// A number in a body that fills a small socket buffer soon.
fn numbered(number: u32) -> Message {
    let body: Vec<u8> = number
        .to_be_bytes()
        .into_iter()
        .cycle()
        .take(1024)
        .collect();
    grpc::message(grpc::room(ROOM), 1000, &body)
}

fn number(packet: &Packet) -> u32 {
    assert_eq!((packet.op, packet.body.len()), (1000, 1024));
    let number = *packet.body.first_chunk().unwrap();
    assert!(packet.body.chunks(4).all(|chunk| chunk == number));
    u32::from_be_bytes(number)
}
