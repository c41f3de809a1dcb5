//! Redis servers on free ports, each with a directory of its own.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
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
    role: Role,
    child: Child,
    log: Arc<Log>,
}

#[derive(Clone, Copy)]
enum Role {
    Volatile,
    /// It writes down all that it is told before it answers.
    Durable,
    /// Has what the one at this address has.
    Replica(SocketAddr),
    /// Has a replica of the one at this address take its place when it is away for a second.
    Sentinel(SocketAddr),
}

impl Redis {
    /// With nothing in it. A durable one has all that it has answered when it is started again.
    pub async fn start(durable: bool, log: &Arc<Log>) -> Self {
        let role = if durable {
            Role::Durable
        } else {
            Role::Volatile
        };
        Self::start_as(role, log).await
    }

    /// So many replicas of this one, with all that it has, and a sentinel that knows them.
    pub async fn watched(&self, count: usize) -> (Vec<Self>, Self) {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(Self::start_as(Role::Replica(self.addr), &self.log).await);
        }
        let sentinel = Self::start_as(Role::Sentinel(self.addr), &self.log).await;
        within("replicas", async {
            let wait = format!("WAIT {count} 0");
            assert_eq!(self.ask(&wait).await, Some(format!(":{count}")));
            let known = "SENTINEL REPLICAS mymaster";
            while sentinel.ask(known).await != Some(format!("*{count}")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        (replicas, sentinel)
    }

    async fn start_as(role: Role, log: &Arc<Log>) -> Self {
        let name = format!("cluster-redis-{:016x}", rand::random::<u64>());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let addr = free_address();
        let mut redis = Self {
            addr,
            child: spawn(addr, &directory, role),
            directory,
            role,
            log: Arc::clone(log),
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
        self.child = spawn(self.addr, &self.directory, self.role);
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

    /// Breaks its connections to its replicas.
    pub async fn drop_replicas(&self) {
        let answer = self.ask("CLIENT KILL TYPE replica").await;
        assert_eq!(answer.as_deref(), Some(":2"));
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
                    self.child = spawn(self.addr, &self.directory, self.role);
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

fn spawn(addr: SocketAddr, directory: &Path, role: Role) -> Child {
    let mut command = Command::new("redis-server");
    if let Role::Sentinel(master) = role {
        let file = directory.join("sentinel.conf");
        let (ip, port) = (master.ip(), master.port());
        let lines = [
            format!("sentinel monitor mymaster {ip} {port} 1"),
            "sentinel down-after-milliseconds mymaster 1000".to_owned(),
            "sentinel failover-timeout mymaster 5000".to_owned(),
        ];
        std::fs::write(&file, lines.join("\n")).unwrap();
        command.arg(file).arg("--sentinel");
    } else {
        command.args(["--save", "", "--appendfsync", "always"]);
    }
    if let Role::Durable = role {
        command.args(["--appendonly", "yes"]);
    }
    if let Role::Replica(of) = role {
        let (ip, port) = (of.ip().to_string(), of.port().to_string());
        command.args(["--replicaof", &ip, &port, "--repl-diskless-sync-delay", "0"]);
    }
    command
        .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1"])
        .args(["--loglevel", "warning", "--dir"])
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
