//! A small goim server that makes mistakes on purpose and counts them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use bench::clients::Doors;
use parking_lot::Mutex;
use protocol::{
    Decoded, codec,
    codec::Header,
    grpc::goim::comet::{
        BroadcastReply, BroadcastReq, BroadcastRoomReply, BroadcastRoomReq, PushMsgReply,
        PushMsgReq, RoomsReply, RoomsReq,
        comet_server::{Comet, CometServer},
    },
    op,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Every so many pushes the fault is made.
const EVERY: u64 = 7;

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
    held: Vec<u8>,
}

impl Fake {
    /// Starts it on threads of its own, for as long as the test runs.
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = Some(listener.local_addr().unwrap());
        let faults = Arc::new(AtomicU64::new(0));
        let pushes = Pushes {
            clients: Arc::default(),
            fault,
            count: Arc::default(),
            faults: Arc::clone(&faults),
        };
        let clients = Arc::clone(&pushes.clients);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let clients = Arc::clone(&clients);
                thread::spawn(move || serve(socket.unwrap(), &clients));
            }
        });
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
                websocket: None,
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

/// Answers logins and heartbeats.
fn serve(mut socket: TcpStream, clients: &Mutex<Vec<Client>>) {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        input.extend_from_slice(&buffer[..read]);
        while let Decoded::Frame { header, len, .. } = codec::decode(&input, 4096).unwrap() {
            input.drain(..len);
            if header.op == op::AUTH {
                let mut clients = clients.lock();
                let socket = socket.try_clone().unwrap();
                clients.push(Client {
                    socket,
                    held: Vec::new(),
                });
            }
            let reply = header.reply(header.op + 1).to_bytes(0);
            // The client may be gone.
            drop(socket.write_all(&reply));
        }
    }
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
            Some(Fault::Refuse | Fault::None) | None => [frame, &held].concat(),
        };
        drop(self.socket.write_all(&bytes));
        match fault {
            Some(Fault::Drop | Fault::Repeat) => true,
            _ => !held.is_empty(),
        }
    }
}

#[tonic::async_trait]
impl Comet for Pushes {
    async fn broadcast_room(
        &self,
        request: Request<BroadcastRoomReq>,
    ) -> Result<Response<BroadcastRoomReply>, Status> {
        let push = self.count.fetch_add(1, Relaxed);
        let fault = (push % EVERY == EVERY - 1).then_some(self.fault);
        if fault == Some(Fault::Refuse) {
            self.faults.fetch_add(1, Relaxed);
            return Err(Status::resource_exhausted("on purpose"));
        }
        let proto = request.into_inner().proto.unwrap();
        let mut frame = Vec::new();
        if proto.op == op::RAW {
            frame.extend_from_slice(&proto.body);
        } else {
            Header::push(proto.op).encode(&proto.body, &mut frame);
        }
        for client in &mut *self.clients.lock() {
            let made = client.send(&frame, fault);
            self.faults.fetch_add(u64::from(made), Relaxed);
        }
        Ok(Response::new(BroadcastRoomReply {}))
    }

    async fn push_msg(&self, _: Request<PushMsgReq>) -> Result<Response<PushMsgReply>, Status> {
        Err(Status::unimplemented("only rooms"))
    }

    async fn broadcast(
        &self,
        _: Request<BroadcastReq>,
    ) -> Result<Response<BroadcastReply>, Status> {
        Err(Status::unimplemented("only rooms"))
    }

    async fn rooms(&self, _: Request<RoomsReq>) -> Result<Response<RoomsReply>, Status> {
        Err(Status::unimplemented("only rooms"))
    }
}
