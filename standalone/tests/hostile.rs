//! Clients that do what they must not: each ends alone, is told why where its protocol has a way, and is counted.

use common::config::Human;
use protocol::op;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{
    Client, Door, Received, Server, client::frame, http, through_both_doors, token, wire::message,
};

through_both_doors!(
    frames_that_are_none_end_their_connection,
    tokens_that_are_none_are_refused,
    floods_before_auth_end_their_connection,
    whoever_does_not_log_in_in_time_is_sent_away,
    whoever_breaks_off_in_the_middle_of_a_frame_is_just_gone,
    rooms_and_operations_beyond_their_bounds_end_their_connection,
    a_flood_from_a_client_that_does_not_read_is_not_read,
    random_bytes_harm_nobody,
);

/// A server with a client that notices nothing of the others.
pub struct Peace {
    pub server: Server,
    neighbour: Client,
}

impl Peace {
    pub async fn new(door: Door) -> Self {
        let server = Server::start_with(|config| {
            config.comet.bucket.size = 1;
        })
        .await;
        Self::on(server, door).await
    }

    async fn on(server: Server, door: Door) -> Self {
        let neighbour = Client::login(&server, door, &token(1, "neighbour", "")).await;
        Self { server, neighbour }
    }

    /// The neighbour still gets what is pushed to it, and nothing else.
    pub async fn holds(&mut self) {
        let api = self.server.push_api();
        http::push(api, "keys", "operation=1000&keys=neighbour", "all is well").await;
        self.neighbour.gets("all is well").await;
        self.neighbour.has_nothing().await;
    }

    /// A client that has logged in, or only connected, ends by what it sends, with one more of this reason counted.
    pub async fn ends(
        &mut self,
        mut client: Client,
        bytes: &[u8],
        (reason, code): (&'static str, u16),
    ) {
        let before = self.server.metrics().closes(reason).get();
        client.send_raw(bytes).await;
        // What came before it may have been answered.
        let (_, farewell) = client.rest().await;
        farewell.is(reason, code, client.door);
        drop(client);
        self.server.closed(reason, before + 1).await;
        self.holds().await;
    }

    async fn client(&self, door: Door, logged_in: bool) -> Client {
        if logged_in {
            Client::login(&self.server, door, &token(2, "", "")).await
        } else {
            Client::connect(&self.server, door).await
        }
    }
}

/// A header with these lengths, and some bytes behind it.
fn header(pack_len: i32, header_len: i16, behind: &[u8]) -> Vec<u8> {
    let mut bytes = frame(op::HEARTBEAT, 1, behind);
    bytes[..4].copy_from_slice(&pack_len.to_be_bytes());
    bytes[4..6].copy_from_slice(&header_len.to_be_bytes());
    bytes
}

async fn frames_that_are_none_end_their_connection(door: Door) {
    let mut peace = Peace::new(door).await;
    let both = [
        (header(15, 16, b""), "malformed", 1007),
        (header(0, 16, b""), "malformed", 1007),
        (header(-1, 16, b""), "malformed", 1007),
        (header(i32::MIN, 16, b""), "malformed", 1007),
        (header(16, 15, b""), "malformed", 1007),
        (header(16, 0, b""), "malformed", 1007),
        (header(16, -16, b""), "malformed", 1007),
        (header(16, 17, b"x"), "malformed", 1007),
        (header(16 + 4097, 16, b""), "too_big", 1009),
        (header(i32::MAX, 16, b""), "too_big", 1009),
        // A good frame before it changes nothing.
        (
            [frame(op::CHANGE_ROOM, 1, b""), header(3, 16, b"")].concat(),
            "malformed",
            1007,
        ),
    ];
    // A message holds whole frames: what is cut off or left over is none.
    let in_messages = [
        (header(17, 16, b""), "malformed", 1007),
        (header(4112, 16, b"far less"), "malformed", 1007),
        (header(16, 16, b"x"), "malformed", 1007),
        (header(17, 16, &[0; 14]), "malformed", 1007),
        (vec![], "malformed", 1007),
        (vec![0; 3], "malformed", 1007),
    ];
    let in_messages = in_messages.iter().filter(|_| door == Door::WebSocket);
    for (bytes, reason, code) in both.iter().chain(in_messages) {
        for logged_in in [true, false] {
            let client = peace.client(door, logged_in).await;
            let sent = match door {
                Door::Tcp => bytes.clone(),
                Door::WebSocket => message(0x82, bytes),
            };
            peace.ends(client, &sent, (reason, *code)).await;
        }
    }
}

async fn tokens_that_are_none_are_refused(door: Door) {
    let mut peace = Peace::new(door).await;
    let tokens: [&[u8]; 7] = [
        b"",
        b"no JSON",
        b"{",
        b"7",
        br#"{"mid":"x"}"#,
        b"\xff\xfe",
        &[b'['; 4000],
    ];
    for token in tokens {
        let client = Client::connect(&peace.server, door).await;
        let auth = frame(op::AUTH, 1, token);
        let auth = door.wire().encode(&auth);
        peace.ends(client, &auth, ("auth_refused", 1008)).await;
    }
}

async fn floods_before_auth_end_their_connection(door: Door) {
    let mut peace = Peace::new(door).await;
    let client = Client::connect(&peace.server, door).await;
    let flood: Vec<u8> = (0..33)
        .flat_map(|seq| door.wire().encode(&frame(op::HEARTBEAT, seq, b"")))
        .collect();
    peace.ends(client, &flood, ("greeting_flood", 1008)).await;
    let ignored = peace.server.metrics().ignored("before_auth");
    assert_eq!(ignored.get(), 32);
}

async fn whoever_does_not_log_in_in_time_is_sent_away(door: Door) {
    let server = Server::start_with(|config| {
        config.comet.protocol.handshake_timeout = Human::secs(2);
    })
    .await;
    let mut peace = Peace::on(server, door).await;
    let client = Client::connect(&peace.server, door).await;
    peace.ends(client, b"", ("handshake_timeout", 4005)).await;
    // A part of a frame is no login.
    let client = Client::connect(&peace.server, door).await;
    let part = door.wire().encode(&frame(op::AUTH, 1, b"{}"));
    peace
        .ends(client, &part[..17], ("handshake_timeout", 4005))
        .await;
    // The deadline is one for all: a byte now and then does not move it.
    let mut client = Client::connect(&peace.server, door).await;
    let auth = door.wire().encode(&frame(op::AUTH, 1, &[b' '; 4096]));
    let (mut read, mut write) = client.socket.split();
    let trickle = async {
        for byte in auth {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickle => {}
        end = crate::support::within("the end", read.read_to_end(&mut answer)) => {
            end.unwrap();
        }
    }
    assert!(String::from_utf8_lossy(&answer).contains("handshake_timeout"));
    drop(client);
    peace.server.closed("handshake_timeout", 3).await;
    peace.holds().await;
}

async fn whoever_breaks_off_in_the_middle_of_a_frame_is_just_gone(door: Door) {
    let mut peace = Peace::new(door).await;
    let whole = door.wire().encode(&frame(op::CHANGE_ROOM, 1, b"live://1"));
    for len in 0..whole.len() {
        let mut client = peace.client(door, len % 2 == 0).await;
        client.send_raw(&whole[..len]).await;
        client.socket.shutdown().await.unwrap();
        assert_eq!(
            client.next().await,
            match door {
                Door::Tcp => Received::End,
                Door::WebSocket => Received::Close {
                    code: 1000,
                    reason: "closed by the client".to_owned(),
                },
            }
        );
    }
    let count = whole.len() as u64;
    peace.server.closed("peer_closed", count).await;
    peace.holds().await;
}

async fn rooms_and_operations_beyond_their_bounds_end_their_connection(door: Door) {
    let mut peace = Peace::new(door).await;
    let many: Vec<String> = (0..257).map(|op: i32| op.to_string()).collect();
    let cases: [(i32, Vec<u8>, &str); 3] = [
        (op::CHANGE_ROOM, vec![b'r'; 257], "bad_room"),
        (op::CHANGE_ROOM, vec![0xff], "bad_room"),
        (op::SUB, many.join(",").into(), "too_many_accepts"),
    ];
    for (op, body, reason) in cases {
        let client = peace.client(door, true).await;
        let sent = door.wire().encode(&frame(op, 1, &body));
        peace.ends(client, &sent, (reason, 1008)).await;
    }
    // Also when it comes little by little.
    let mut client = peace.client(door, true).await;
    let half: Vec<String> = (2000..2200).map(|op: i32| op.to_string()).collect();
    client.request(op::SUB, half.join(",").as_bytes()).await;
    let sent = door
        .wire()
        .encode(&frame(op::SUB, 2, many[..200].join(",").as_bytes()));
    peace.ends(client, &sent, ("too_many_accepts", 1008)).await;
}

async fn a_flood_from_a_client_that_does_not_read_is_not_read(door: Door) {
    const BEATS: i32 = 20_000;
    let server = Server::start_with(|config| config.comet.tcp.sndbuf = 4096).await;
    let mut peace = Peace::on(server, door).await;
    let mut client = Client::connect_narrow(&peace.server, door).await;
    client.auth(&token(2, "flood", "")).await;
    let beats = (0..BEATS).flat_map(|seq| door.wire().encode(&frame(op::HEARTBEAT, seq, b"")));
    let beats: Vec<u8> = beats.collect();
    let socket = client.socket.into_std().unwrap();
    let mut writer = tokio::net::TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
    let writing = tokio::spawn(async move { writer.write_all(&beats).await });
    let answered = peace.server.metrics().protos_in(op::HEARTBEAT).clone();
    crate::support::until("some are answered", || answered.get() >= 64).await;
    peace.holds().await;
    // Answers fill both ends' small buffers and the ring; then nothing more is taken.
    assert!(answered.get() < 4000, "{} were read", answered.get());
    let reader = tokio::net::TcpStream::from_std(socket).unwrap();
    let mut client = Client::on(reader, door);
    for seq in 0..BEATS {
        let reply = client.packet().await;
        assert_eq!((reply.op, reply.seq), (op::HEARTBEAT_REPLY, seq));
    }
    writing.await.unwrap().unwrap();
    peace.holds().await;
}

async fn random_bytes_harm_nobody(door: Door) {
    const CONNECTIONS: u64 = 200;
    let mut peace = Peace::new(door).await;
    let mut random = StdRng::seed_from_u64(0x90_1d);
    for round in 0..CONNECTIONS {
        let mut client = peace.client(door, round % 2 == 0).await;
        let len = random.random_range(1..2000);
        let bytes: Vec<u8> = (0..len).map(|_| random.random()).collect();
        // Behind WebSocket's own frames, too, which random bytes hardly ever are.
        let bytes = if round % 4 < 2 {
            bytes
        } else {
            door.wire().encode(&bytes)
        };
        client.send_raw(&bytes).await;
        client.socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let end = client.socket.read_to_end(&mut answer);
        crate::support::within("the end", end).await.unwrap();
    }
    peace.holds().await;
    let open = peace.server.metrics().connections(door.label());
    crate::support::until("all are gone", || open.get() == 1).await;
    assert_eq!(peace.server.metrics().closes("internal").get(), 0);
}
