//! A channel and the socket of its client, whose buffers are as small as the system allows.

use std::{future::poll_fn, time::Duration};

use protocol::{HEADER_LEN, Header, Meta, op};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use super::*;

/// More than any socket's buffers hold here: a message of this size is written in part.
pub(super) const LARGE: usize = 1 << 20;

/// What [`answer`] is marked with.
pub(super) const ANSWER_OP: i32 = op::HEARTBEAT_REPLY;

/// A test that waits longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The client.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
    pub(super) metrics: Arc<Metrics>,
}

/// One thing that a client is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// A proto's operation, sequence and body length.
    Proto(i32, i32, usize),
    /// The label that operation 6 gives.
    Farewell(String),
    /// A WebSocket Close frame's code.
    Close(u16),
}

/// Room for much.
pub(super) fn limits() -> Limits {
    Limits {
        messages: 100,
        bytes: 4 * LARGE,
        policy: FullPolicy::DropNewest,
        ring: 4,
    }
}

pub(super) fn context(limits: Limits) -> (Arc<ChannelContext>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let context = ChannelContext {
        limits,
        metrics: Arc::clone(&metrics),
        clock: Clock::start(),
        whitelist: Arc::default(),
    };
    (Arc::new(context), metrics)
}

pub(super) fn message(seq: i32, len: usize) -> Frame {
    let header = Header {
        ver: 1,
        op: op::SEND_MSG_REPLY,
        seq,
    };
    Frame::message(header, &vec![7; len], Meta::default())
}

/// Messages of 10 bytes, joined.
pub(super) fn raw(seqs: &[i32]) -> Frame {
    let frames: Vec<Frame> = seqs.iter().map(|&seq| message(seq, 10)).collect();
    Frame::join(&frames)
}

pub(super) fn answer(door: Door, seq: i32, len: usize) -> Vec<u8> {
    let header = Header {
        ver: 1,
        op: ANSWER_OP,
        seq,
    };
    let mut bytes = Vec::new();
    door.encode(header, &vec![0; len], &mut bytes);
    bytes
}

/// What a connection's task does.
pub(super) async fn serve(channel: Arc<Channel>) {
    loop {
        match poll_fn(|cx| channel.poll_turn(cx, false)).await {
            Turn::Write => channel.write_waiting().unwrap(),
            Turn::Close => return,
            Turn::Read => panic!("the client sent nothing"),
        }
    }
}

/// Writes all that waits.
pub(super) async fn flushed(channel: &Channel) -> io::Result<()> {
    let flushing = poll_fn(|cx| channel.poll_flushed(cx));
    timeout(PATIENCE, flushing).await.unwrap()
}

impl Peer {
    pub(super) async fn pair(door: Door, limits: Limits) -> (Channel, Self) {
        let listening = TcpSocket::new_v4().unwrap();
        listening.set_send_buffer_size(1024).unwrap();
        listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = listening.listen(1).unwrap();
        let connecting = TcpSocket::new_v4().unwrap();
        connecting.set_recv_buffer_size(1024).unwrap();
        let connecting = connecting.connect(listener.local_addr().unwrap());
        let (socket, accepted) = tokio::join!(connecting, listener.accept());
        let (context, metrics) = context(limits);
        let accepted = accepted.unwrap().0;
        // Until the first attempt, the runtime takes a new socket for readable.
        let nothing = accepted.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let outlet = Outlet::Direct(accepted);
        let socket = socket.unwrap();
        (
            Channel::new(1, door, outlet, context),
            Self { socket, metrics },
        )
    }

    /// The same, with a large message partly written.
    pub(super) async fn stalled(door: Door, limits: Limits) -> (Channel, Self) {
        let (channel, peer) = Self::pair(door, limits).await;
        assert_eq!(channel.push(&message(0, LARGE)), Pushed::Queued);
        assert_eq!(peer.metrics.writes.count(), 1, "nothing was written");
        (channel, peer)
    }

    pub(super) async fn read_exact(&mut self, bytes: &mut [u8]) {
        let reading = self.socket.read_exact(bytes);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
    }

    /// A frame of the TCP door.
    pub(super) async fn read_frame(&mut self) -> (Header, Vec<u8>) {
        let mut head = [0; HEADER_LEN];
        self.read_exact(&mut head).await;
        let mut len = [0; 4];
        len.copy_from_slice(&head[..4]);
        let len = usize::try_from(i32::from_be_bytes(len)).unwrap();
        let mut frame = head.to_vec();
        frame.resize(len, 0);
        self.read_exact(&mut frame[HEADER_LEN..]).await;
        match protocol::codec::decode(&frame, len).unwrap() {
            protocol::Decoded::Frame { header, body, .. } => (header, body.to_vec()),
            incomplete @ protocol::Decoded::Incomplete { .. } => panic!("{incomplete:?}"),
        }
    }

    /// Lets the channel write all that it still has, ends it, and returns everything that arrives: whole frames, or it panics.
    pub(super) async fn drain(&mut self, channel: Channel) -> Vec<Got> {
        let door = channel.door();
        let flushing = async {
            flushed(&channel).await.unwrap();
            channel.finish();
            drop(channel);
        };
        let mut bytes = Vec::new();
        let reading = async {
            let reading = self.socket.read_to_end(&mut bytes);
            timeout(PATIENCE, reading).await.unwrap().unwrap();
        };
        tokio::join!(flushing, reading);
        if door.is_websocket() {
            websocket_messages(&bytes)
        } else {
            protos(&bytes)
        }
    }

    /// taken = delivered + lost, and nothing waits.
    pub(super) fn assert_balance(&self, taken: u64, lost: u64, reason: &'static str) {
        assert_eq!(self.metrics.lost(reason).get(), lost, "lost: {reason}");
        assert_eq!(self.metrics.delivered.get(), taken - lost, "delivered");
    }
}

fn protos(mut bytes: &[u8]) -> Vec<Got> {
    let mut got = Vec::new();
    while !bytes.is_empty() {
        let decoded = protocol::codec::decode(bytes, usize::MAX - HEADER_LEN).unwrap();
        let protocol::Decoded::Frame { header, body, len } = decoded else {
            panic!("a frame is cut: {} bytes are left", bytes.len());
        };
        got.push(if header.op == op::DISCONNECT_REPLY {
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            Got::Farewell(body["reason"].as_str().unwrap().to_owned())
        } else {
            Got::Proto(header.op, header.seq, body.len())
        });
        bytes = &bytes[len..];
    }
    got
}

fn websocket_messages(mut bytes: &[u8]) -> Vec<Got> {
    let mut got = Vec::new();
    while !bytes.is_empty() {
        let (len, start) = match bytes[1] {
            127 => {
                let len = u64::from_be_bytes(bytes[2..10].try_into().unwrap());
                (usize::try_from(len).unwrap(), 10)
            }
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            len => (usize::from(len), 2),
        };
        let payload = &bytes[start..start + len];
        match bytes[0] {
            0x82 => got.extend(protos(payload)),
            0x88 => got.push(Got::Close(u16::from_be_bytes([payload[0], payload[1]]))),
            first => panic!("an unexpected frame: {first:#x}"),
        }
        bytes = &bytes[start + len..];
    }
    got
}
