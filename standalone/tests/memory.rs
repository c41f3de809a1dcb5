//! Memory that clients could make the server take: bounded by the configuration, never by what they announce. Measured on
//! a process of its own.

use protocol::grpc::comet::v1::Message;

use crate::support::{
    Client, Door, Lane, client::frame, grpc, http, process::Process, through_both_doors, token,
};

const CLIENTS: u64 = 64;
/// Bytes that may wait for one client.
const BACKLOG: u64 = 64 << 10;
/// Bytes of one message.
const MESSAGE: usize = 4096;
/// Messages to each client: four megabytes, of which the backlog holds a sixty-fourth.
const MESSAGES: usize = 1024;
/// For the allocator's own and for what serves the pushes meanwhile; the load is sixteen times that.
const SLACK: u64 = 16 << 20;

through_both_doors!(
    clients_that_do_not_read_cost_their_backlog,
    announcements_cost_nothing,
);

async fn clients_that_do_not_read_cost_their_backlog(door: Door) {
    let backlog = format!("comet.protocol.svrBytes={BACKLOG}");
    let settings = [backlog.as_str(), "comet.protocol.svrProto=100000"];
    let process = Process::start(&settings).await;
    let addr = door_of(&process, door);
    let mut stopped = Vec::new();
    for mid in 0..i64::try_from(CLIENTS).unwrap() {
        let mut client = Client::open(addr, door, Some(4096)).await;
        client.auth(&token(mid, &mid.to_string(), "")).await;
        stopped.push(client);
    }
    let mut lane = Lane::open_at(process.grpc).await;
    // What the pushes themselves need is there before the measurement begins.
    lane.push_all((0..256).map(|_| nobodys()), 64).await;
    let before = process.resident();
    // To each client a message of its own: one that is shared would be kept once.
    let all = (0..MESSAGES).flat_map(|_| (0..CLIENTS).map(own));
    let sum = lane.push_all(all, 64).await;
    let grown = process.resident().saturating_sub(before);
    assert!(sum.dropped > CLIENTS * 512, "{sum:?}");
    let bound = CLIENTS * (BACKLOG + MESSAGE as u64) + SLACK;
    assert!(grown <= bound, "{grown} bytes grown, {bound} allowed");
    drop(stopped);
}

async fn announcements_cost_nothing(door: Door) {
    const LIARS: u64 = 500;
    let setting = format!("comet.protocol.maxBody={}", 1 << 20);
    let message = format!("comet.websocket.maxMessage={}", 2 << 20);
    let process = Process::start(&[&setting, &message]).await;
    let addr = door_of(&process, door);
    // The whole frame, of a mebibyte, is announced, and a few bytes of it come.
    let whole = door.wire().encode(&frame(1000, 1, &vec![0; 1 << 20]));
    let mut liars = Vec::new();
    let mut before = 0;
    for count in 0..LIARS + 50 {
        if count == 50 {
            before = process.resident();
        }
        let mut client = Client::open(addr, door, None).await;
        client.auth(&token(1, &count.to_string(), "")).await;
        client.send_raw(&whole[..100]).await;
        liars.push(client);
    }
    // A connection that comes later is served later, so what the others sent has been seen.
    let mut last = Client::open(addr, door, None).await;
    last.auth(&token(2, "last", "")).await;
    http::push(process.push_api, "keys", "operation=1000&keys=last", "x").await;
    last.gets("x").await;
    let grown = process.resident().saturating_sub(before);
    // A twentieth of what they announced.
    let bound = LIARS * (1 << 20) / 20;
    assert!(grown <= bound, "{grown} bytes grown, {bound} allowed");
}

fn door_of(process: &Process, door: Door) -> std::net::SocketAddr {
    match door {
        Door::Tcp => process.tcp,
        Door::WebSocket => process.http,
    }
}

fn own(client: u64) -> Message {
    grpc::message(grpc::keys(&[&client.to_string()]), 1000, &[7; MESSAGE])
}

fn nobodys() -> Message {
    grpc::message(grpc::keys(&["nobody"]), 1000, &[7; MESSAGE])
}
