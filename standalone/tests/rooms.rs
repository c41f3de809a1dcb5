//! Rooms that empty and fill at the same time.

use protocol::{grpc::goim::comet::RoomsReq, op};
use tokio::task::JoinSet;

use crate::support::{Client, Door, Lane, Server, client::frame, grpc, through_both_doors, token};

const CLIENTS: i64 = 32;
const ROUNDS: i32 = 50;

through_both_doors!(
    a_room_that_empties_while_others_join_takes_them,
    a_room_ends_with_its_last_member,
);

async fn a_room_that_empties_while_others_join_takes_them(door: Door) {
    let server = Server::start_with(|config| {
        config.comet.bucket.size = 4;
        config.comet.protocol.cli_proto = 64;
    })
    .await;
    let mut clients = Vec::new();
    for mid in 0..CLIENTS {
        clients.push(Client::login(&server, door, &token(mid, "", "")).await);
    }
    let racing: JoinSet<Client> = clients.into_iter().map(race).collect();
    let mut clients = racing.join_all().await;
    for client in &mut clients {
        client.until_online(32).await;
    }
    let mut lane = Lane::open(&server).await;
    let receipt = lane.push(grpc::room("live://b"), 1000, "to all").await;
    assert_eq!((receipt.taken, receipt.dropped), (32, 0));
    let receipt = lane.push(grpc::room("live://a"), 1000, "to none").await;
    assert_eq!((receipt.taken, receipt.dropped), (0, 0));
    for client in &mut clients {
        client.gets("to all").await;
        client.request(op::CHANGE_ROOM, b"").await;
        assert_eq!(client.online().await, 0);
    }
    assert_eq!(rooms(&server).await, [""; 0]);
}

/// From no room to one and another and back, as fast as it goes, ending in the same room as everybody.
async fn race(mut client: Client) -> Client {
    let steps: [&[u8]; 4] = [b"live://a", b"", b"live://a", b"live://b"];
    for round in 0..ROUNDS {
        let changes = steps.map(|room| frame(op::CHANGE_ROOM, round, room));
        client.send_frames(&changes.concat()).await;
        for room in steps {
            let reply = client.packet().await;
            assert_eq!(
                (reply.op, reply.seq, &reply.body[..]),
                (op::CHANGE_ROOM_REPLY, round, room)
            );
        }
    }
    client
}

async fn a_room_ends_with_its_last_member(door: Door) {
    let server = Server::start().await;
    for mid in 0..20 {
        let mut client = Client::login(&server, door, &token(mid, "", "live://1")).await;
        assert_eq!(rooms(&server).await, ["live://1"]);
        client.request(op::CHANGE_ROOM, b"live://2").await;
        assert_eq!(rooms(&server).await, ["live://2"]);
        drop(client);
        let closed = u64::try_from(mid).unwrap() + 1;
        server.closed("peer_closed", closed).await;
        assert_eq!(rooms(&server).await, [""; 0]);
    }
}

async fn rooms(server: &Server) -> Vec<String> {
    let mut comet = grpc::goim(server).await;
    let rooms = comet.rooms(RoomsReq {}).await.unwrap().into_inner().rooms;
    rooms.into_keys().collect()
}
