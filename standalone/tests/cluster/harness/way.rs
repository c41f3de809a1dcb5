//! A way from one process to another that can be slow, or lead nowhere.

use std::{fs, net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// Ends with all connections on it.
pub struct Way {
    pub addr: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    target: Option<SocketAddr>,
    is_open: bool,
    /// For the connections of this process alone it is not open; for those of all, if there is none.
    closed_to: Option<u32>,
    /// How often it was cut.
    cuts: u64,
    delay: Duration,
}

impl Way {
    /// Leads nowhere yet: whoever comes waits.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State {
            target: None,
            is_open: true,
            closed_to: None,
            cuts: 0,
            delay: Duration::ZERO,
        }));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(connection(near, shared.subscribe()));
            }
        });
        Self {
            addr,
            state,
            accepting,
        }
    }

    /// Leads to this address.
    pub fn leads_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = Some(target));
    }

    /// From now on nothing passes and nobody is told. The connections that are on it never pass anything again, as behind a
    /// router that was replaced; new ones wait.
    pub fn cut(&self) {
        self.cut_for(None);
    }

    /// The same for the connections of one process alone.
    pub fn cut_from(&self, process: u32) {
        self.cut_for(Some(process));
    }

    fn cut_for(&self, process: Option<u32>) {
        self.state.send_modify(|state| {
            state.is_open = false;
            state.closed_to = process;
            state.cuts += 1;
        });
    }

    /// Lets those who wait through.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// From now on every byte takes so long, each way.
    pub fn slow(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }
}

impl State {
    /// Whether it is open for a connection from there.
    fn lets(&self, peer: SocketAddr) -> bool {
        self.is_open
            || self
                .closed_to
                .is_some_and(|process| !has_socket(process, peer))
    }
}

/// Whether a process has the socket with this address of its own (Linux).
fn has_socket(process: u32, local: SocketAddr) -> bool {
    let port = format!(":{:04X}", local.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(1).is_some_and(|own| own.ends_with(&port));
        is_it.then(|| columns[9].to_owned())
    });
    let Some(inode) = inode else {
        return false;
    };
    let socket = format!("socket:[{inode}]");
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let leads_to_it =
        |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&socket));
    files.flatten().any(leads_to_it)
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(near: TcpStream, mut state: watch::Receiver<State>) {
    let Ok(peer) = near.peer_addr() else {
        return;
    };
    let found = state.wait_for(|state| state.lets(peer) && state.target.is_some());
    let Ok(State {
        target: Some(target),
        cuts,
        ..
    }) = found.await.map(|state| *state)
    else {
        return;
    };
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let mut both = pin!(async {
        tokio::join!(
            lead(near_read, far_write, &state),
            lead(far_read, near_write, &state),
        )
    });
    let mut watched = state.clone();
    let was_cut = async {
        // Without the value, which is a lock.
        let is_cut = |state: &State| state.cuts != cuts && !state.lets(peer);
        watched.wait_for(is_cut).await.is_ok()
    };
    tokio::select! {
        _ = &mut both => {}
        // The sockets are kept: neither end is told.
        _ = was_cut => std::future::pending().await,
    }
}

/// Passes on what comes, each part after the delay that holds when it comes, until the end.
async fn lead(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Receiver<State>,
) {
    let (parts, mut queued) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + state.borrow().delay;
            if parts.send((due, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, part)) = queued.recv().await {
            sleep_until(due).await;
            if to.write_all(&part).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
