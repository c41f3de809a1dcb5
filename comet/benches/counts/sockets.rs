//! Connections over loopback, and the frames that go over them.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use comet::{
    channel::{Channel, ChannelContext, FullPolicy, Limits, Outlet},
    clock::Clock,
    metrics::Metrics,
    transport::Door,
};
use protocol::{Decoded, Frame, HEADER_LEN, Header, Meta, codec, op};
use socket2::SockRef;
use tokio::runtime::{Builder, Runtime};

/// The operation of what is pushed.
pub(crate) const OP: i32 = 1000;

/// Bytes of a message's body.
pub(crate) const BODY: usize = 100;

/// Bytes of a message on a TCP client's wire.
pub(crate) const WIRE: usize = HEADER_LEN + BODY;

/// Holds more than any bench sends before its peer reads.
const BUFFER: usize = 128 << 10;

/// A client.
pub(crate) struct Peer(TcpStream);

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Both ends of a connection, the server's first.
pub(crate) fn pair() -> (tokio::net::TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    SockRef::from(&accepted)
        .set_send_buffer_size(BUFFER)
        .unwrap();
    SockRef::from(&peer).set_recv_buffer_size(BUFFER).unwrap();
    accepted.set_nonblocking(true).unwrap();
    (tokio::net::TcpStream::from_std(accepted).unwrap(), peer)
}

/// Room for all that a bench pushes.
pub(crate) fn context() -> Arc<ChannelContext> {
    Arc::new(ChannelContext {
        limits: Limits {
            messages: 100_000,
            bytes: 64 << 20,
            policy: FullPolicy::DropNewest,
            ring: 16,
        },
        metrics: Arc::new(Metrics::default()),
        clock: Clock::start(),
        whitelist: Arc::default(),
    })
}

/// A channel of a client that has a socket. Until the runtime has seen that it can be written to, messages wait.
pub(crate) fn channel(id: u64, context: &Arc<ChannelContext>) -> (Arc<Channel>, Peer) {
    let (socket, peer) = pair();
    let outlet = Outlet::Direct(socket);
    let channel = Channel::new(id, Door::Tcp, outlet, Arc::clone(context));
    (Arc::new(channel), Peer(peer))
}

/// The message that is pushed.
pub(crate) fn message() -> Frame {
    Frame::message(Header::push(OP), &[7; BODY], Meta::default())
}

impl Peer {
    /// Reads the answer to a login.
    pub(crate) fn read_auth_reply(&mut self) {
        let mut bytes = [0; HEADER_LEN];
        self.0.read_exact(&mut bytes).unwrap();
        let decoded = codec::decode(&bytes, 0).unwrap();
        assert!(matches!(decoded, Decoded::Frame { header, .. } if header.op == op::AUTH_REPLY));
    }

    /// Reads so many messages.
    pub(crate) fn read(&mut self, messages: usize) {
        let mut bytes = vec![0; messages * WIRE];
        self.0.read_exact(&mut bytes).unwrap();
    }
}
