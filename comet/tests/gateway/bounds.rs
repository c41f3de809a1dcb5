//! The bounds of the push service.

use protocol::grpc::goim::comet::{RoomsReq, comet_client::CometClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::support::{FakeLogic, Gateway, config, within};

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let logic = FakeLogic::start();
    let mut config = config(&[logic.addr]);
    config.rpc_server.max_connections = 1;
    let gateway = Gateway::start(&config).await;
    let mut first = CometClient::new(gateway.rpc());
    within(first.rooms(RoomsReq {})).await.unwrap();
    let mut second = CometClient::new(gateway.rpc());
    let refused = within(second.rooms(RoomsReq {})).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok);
    within(first.rooms(RoomsReq {})).await.unwrap();
}

/// HTTP/2's frames (RFC 9113 section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

#[tokio::test]
async fn a_caller_that_gives_up_many_calls_at_once_keeps_its_connection() {
    let logic = FakeLogic::start();
    let gateway = Gateway::start(&config(&[logic.addr])).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    // All in one write, so that they are reset before they have been looked at.
    for stream in (1..200).step_by(2) {
        // POST, http, "/", of HPACK's static table.
        bytes.extend(frame(HEADERS, 5, stream, &[0x83, 0x86, 0x84]));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes.extend(frame(PING, 0, 0, &[7; 8]));
    let mut socket = TcpStream::connect(gateway.comet.grpc_addr()).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        within(socket.read_exact(&mut head)).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        within(socket.read_exact(&mut payload)).await.unwrap();
        assert_ne!(head[3], GOAWAY, "{}", String::from_utf8_lossy(&payload));
        if head[3] == PING {
            break;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}
