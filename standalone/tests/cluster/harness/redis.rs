//! A Redis server on a free port, with a directory of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use super::program::{Log, send};
use crate::support::within;

/// Ends with the value.
pub struct Redis {
    pub addr: SocketAddr,
    directory: PathBuf,
    /// Whether it writes down all that it is told before it answers.
    durable: bool,
    child: Child,
    log: Arc<Log>,
}

impl Redis {
    /// With nothing in it. A durable one has all that it has answered when it is started again.
    pub async fn start(durable: bool, log: &Arc<Log>) -> Self {
        let name = format!("cluster-redis-{:016x}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let addr = free_address();
        let log = Arc::clone(log);
        let mut redis = Self {
            addr,
            child: spawn(addr, &directory, durable),
            directory,
            durable,
            log,
        };
        redis.until_up().await;
        redis
    }

    /// Ends it at once.
    pub async fn kill(&mut self) {
        self.log.put("test", "kills redis");
        self.child.kill().await.unwrap();
    }

    /// Starts it with what was last [saved](Self::save), if anything was.
    pub async fn restart(&mut self) {
        self.log.put("test", "starts redis again");
        self.child = spawn(self.addr, &self.directory, self.durable);
        self.until_up().await;
    }

    /// Changes one of its settings.
    pub async fn set(&self, setting: &str) {
        let answer = self.ask(&format!("CONFIG SET {setting}")).await;
        assert_eq!(answer.as_deref(), Some("+OK"));
    }

    /// Writes down what is in it.
    pub async fn save(&self) {
        assert_eq!(self.ask("SAVE").await.as_deref(), Some("+OK"));
    }

    /// Stops the process without ending it, or lets it go on.
    pub async fn signal(&self, signal: &str) {
        self.log.put("test", &format!("sends {signal} to redis"));
        send(&self.child, signal).await;
    }

    async fn until_up(&mut self) {
        within("redis", async {
            while self.ask("PING").await.as_deref() != Some("+PONG") {
                let ended = self.child.try_wait().unwrap();
                if ended.is_some() {
                    // Somebody else may have the port for a moment.
                    self.child = spawn(self.addr, &self.directory, self.durable);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// The first line of the answer to a command.
    async fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr).await.ok()?;
        let command = format!("{command}\r\n");
        stream.write_all(command.as_bytes()).await.ok()?;
        let mut lines = BufReader::new(stream).lines();
        lines.next_line().await.ok()?
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A server that was stopped and is killed has no time to write into it.
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(addr: SocketAddr, directory: &PathBuf, durable: bool) -> Child {
    let durable = if durable { "yes" } else { "no" };
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", durable])
        .args(["--appendfsync", "always", "--loglevel", "warning"])
        .arg("--dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = command.spawn();
    child.expect("redis-server is not there: scripts/test-tools installs it")
}

/// One that is free, and that no outgoing connection gets meanwhile: below the ports that the system gives to those.
fn free_address() -> SocketAddr {
    loop {
        let addr = SocketAddr::from(([127, 0, 0, 1], rand::random_range(12_000..30_000)));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
