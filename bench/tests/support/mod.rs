//! A small goim server that makes mistakes on purpose and counts them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use bench::{clients::Doors, doors::Door};
use parking_lot::Mutex;
use protocol::{
    Decoded, Token, codec,
    codec::Header,
    grpc::goim::{
        comet::{
            BroadcastReply, BroadcastReq, BroadcastRoomReply, BroadcastRoomReq, PushMsgReply,
            PushMsgReq, RoomsReply, RoomsReq,
            comet_server::{Comet, CometServer},
        },
        protocol::Proto,
    },
    op,
};
use socket2::SockRef;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Every so many pushes the fault is made.
pub(crate) const EVERY: u64 = 7;

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It leaves a message out.
    Drop,
    /// It sends a message twice.
    Repeat,
    /// It sends a message behind the next one.
    Swap,
    /// It refuses a push.
    Refuse,
    /// It sends a push for keys to everyone.
    Stray,
    /// It closes all connections right behind a message.
    Close,
}

/// The server.
pub(crate) struct Fake {
    pub(crate) doors: Doors,
    pub(crate) grpc: SocketAddr,
    faults: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Pushes {
    clients: Arc<Mutex<Vec<Client>>>,
    fault: Fault,
    count: Arc<AtomicU64>,
    faults: Arc<AtomicU64>,
}

struct Client {
    socket: TcpStream,
    door: Door,
    key: String,
    held: Vec<u8>,
}

impl Fake {
    /// Starts it on threads of its own, for as long as the test runs.
    pub(crate) fn start(fault: Fault) -> Self {
        let faults = Arc::new(AtomicU64::new(0));
        let pushes = Pushes {
            clients: Arc::default(),
            fault,
            count: Arc::default(),
            faults: Arc::clone(&faults),
        };
        let tcp = Some(listen(Door::Tcp, &pushes.clients));
        let websocket = Some(listen(Door::Websocket, &pushes.clients));
        let (told, grpc) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let server = Server::builder().add_service(CometServer::new(pushes));
                server
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .unwrap();
            });
        });
        Self {
            doors: Doors {
                tcp,
                websocket,
                ..Doors::default()
            },
            grpc: grpc.recv().unwrap(),
            faults,
        }
    }

    /// Mistakes so far, each counted for each client that it concerned; of refusals only the pushes.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }
}

/// Takes connections; tells where.
fn listen(door: Door, clients: &Arc<Mutex<Vec<Client>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clients = Arc::clone(clients);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let clients = Arc::clone(&clients);
            thread::spawn(move || serve(socket.unwrap(), door, &clients));
        }
    });
    address
}

/// Answers logins and heartbeats.
fn serve(mut socket: TcpStream, door: Door, clients: &Mutex<Vec<Client>>) {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    let mut greeted = door == Door::Tcp;
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        input.extend_from_slice(&buffer[..read]);
        if !greeted {
            let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            input.drain(..end + 4);
            socket
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                .unwrap();
            greeted = true;
        }
        while let Some((header, body)) = take(door, &mut input) {
            if header.op == op::AUTH {
                clients.lock().push(Client {
                    socket: socket.try_clone().unwrap(),
                    door,
                    key: Token::from_json(&body).unwrap().key,
                    held: Vec::new(),
                });
            }
            let reply = header.reply(header.op + 1).to_bytes(0);
            // The client may be gone.
            drop(socket.write_all(&wrap(door, &reply)));
        }
    }
}

/// Takes a client's frame off the input, once it is there whole.
fn take(door: Door, input: &mut Vec<u8>) -> Option<(Header, Vec<u8>)> {
    let around = match input.get(1) {
        _ if !door.is_websocket() => 0,
        // A mask of four bytes, which are zero.
        Some(len) if len & 0x7f == 126 => 8,
        _ => 6,
    };
    let frame = input.get(around..)?;
    let Decoded::Frame { header, body, len } = codec::decode(frame, 4096).unwrap() else {
        return None;
    };
    let taken = (header, body.to_vec());
    input.drain(..around + len);
    Some(taken)
}

/// What is sent for frames.
fn wrap(door: Door, frames: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if door.is_websocket() {
        protocol::frame::put_websocket_header(&mut bytes, frames.len());
    }
    bytes.extend_from_slice(frames);
    bytes
}

impl Client {
    /// Sends a frame, with the fault if it is its turn; tells whether one was made.
    fn send(&mut self, frame: &[u8], fault: Option<Fault>) -> bool {
        let held = std::mem::take(&mut self.held);
        let bytes = match fault {
            Some(Fault::Drop) => Vec::new(),
            Some(Fault::Repeat) => [frame, frame].concat(),
            Some(Fault::Swap) => {
                self.held = frame.to_vec();
                Vec::new()
            }
            Some(Fault::Close) => {
                // Held back until the close: the client is woken once for both.
                SockRef::from(&self.socket).set_tcp_cork(true).unwrap();
                frame.to_vec()
            }
            Some(Fault::Refuse | Fault::Stray | Fault::None) | None => [frame, &held].concat(),
        };
        if !bytes.is_empty() {
            drop(self.socket.write_all(&wrap(self.door, &bytes)));
        }
        if fault == Some(Fault::Close) {
            self.socket.shutdown(Shutdown::Both).unwrap();
        }
        match fault {
            Some(Fault::Drop | Fault::Repeat | Fault::Close) => true,
            _ => !held.is_empty(),
        }
    }
}

impl Pushes {
    /// Sends a message to those clients that it is for, or makes a mistake.
    fn push(&self, proto: Option<Proto>, is_for: impl Fn(&Client) -> bool) -> Result<(), Status> {
        let push = self.count.fetch_add(1, Relaxed);
        let fault = (push % EVERY == EVERY - 1).then_some(self.fault);
        if fault == Some(Fault::Refuse) {
            self.faults.fetch_add(1, Relaxed);
            return Err(Status::resource_exhausted("on purpose"));
        }
        let proto = proto.unwrap();
        let mut frame = Vec::new();
        if proto.op == op::RAW {
            frame.extend_from_slice(&proto.body);
        } else {
            Header::push(proto.op).encode(&proto.body, &mut frame);
        }
        self.clients.lock().retain_mut(|client| {
            let strays = fault == Some(Fault::Stray) && !is_for(client);
            if is_for(client) || strays {
                let made = client.send(&frame, fault) || strays;
                self.faults.fetch_add(u64::from(made), Relaxed);
            }
            fault != Some(Fault::Close)
        });
        Ok(())
    }
}

#[tonic::async_trait]
impl Comet for Pushes {
    async fn broadcast_room(
        &self,
        request: Request<BroadcastRoomReq>,
    ) -> Result<Response<BroadcastRoomReply>, Status> {
        self.push(request.into_inner().proto, |_| true)?;
        Ok(Response::new(BroadcastRoomReply {}))
    }

    async fn broadcast(
        &self,
        request: Request<BroadcastReq>,
    ) -> Result<Response<BroadcastReply>, Status> {
        self.push(request.into_inner().proto, |_| true)?;
        Ok(Response::new(BroadcastReply {}))
    }

    async fn push_msg(
        &self,
        request: Request<PushMsgReq>,
    ) -> Result<Response<PushMsgReply>, Status> {
        let PushMsgReq { keys, proto, .. } = request.into_inner();
        self.push(proto, |client| keys.contains(&client.key))?;
        Ok(Response::new(PushMsgReply {}))
    }

    async fn rooms(&self, _: Request<RoomsReq>) -> Result<Response<RoomsReply>, Status> {
        Err(Status::unimplemented("this server knows no rooms"))
    }
}
