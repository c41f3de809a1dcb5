//! A comet or a logic-stub: a process that is killed with its value.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
};

use super::{LEASE, Plan, binaries};
use crate::support::{Door, within};

/// What all processes of a cluster have logged, in the order in which it was read.
pub struct Log {
    started: Instant,
    lines: Mutex<Vec<String>>,
}

/// Lines of a log that are shown: the last ones, which tell why a test failed.
const SHOWN: usize = 300;

/// Longest time for an end in order: a comet's drain.
const END: Duration = Duration::from_mins(2);

/// Where a program listens. A comet has no HTTP API and a logic-stub no doors; there it is port 0.
#[derive(Debug, Clone, Copy)]
pub struct Listens {
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
}

/// A running program.
pub struct Program {
    pub name: String,
    pub at: Listens,
    kind: Kind,
    settings: Vec<String>,
    child: Child,
    log: Arc<Log>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Comet,
    Logic,
}

impl Program {
    /// A comet that calls `logics`, and tells them to call it at `advertised` or else where it listens. With `further`
    /// settings.
    pub async fn comet(
        index: usize,
        logics: &[SocketAddr],
        advertised: Option<SocketAddr>,
        further: &[String],
        log: &Arc<Log>,
    ) -> Self {
        let logics: Vec<String> = logics.iter().map(ToString::to_string).collect();
        let mut settings = vec![
            format!("env.host=comet-{index}"),
            format!("logic.addresses={}", logics.join(",")),
            "logic.renew=500ms".to_owned(),
            // No client is to be dropped to, or closed, because this machine is busy.
            "protocol.svrProto=1048576".to_owned(),
            "protocol.svrBytes=1073741824".to_owned(),
            "push.wait=1m".to_owned(),
        ];
        settings.extend_from_slice(further);
        settings.extend(advertised.map(|address| format!("env.grpcAddress={address}")));
        Self::start(Kind::Comet, format!("comet-{index}"), settings, log).await
    }

    /// A logic-stub of a plan whose sessions are in the Redis of this URL, and its queue if pushes are to be stored.
    pub async fn logic(index: usize, redis: &str, plan: &Plan, log: &Arc<Log>) -> Self {
        let mode = if plan.stored { "stored" } else { "direct" };
        let mut settings = vec![
            format!("redis.url={redis}"),
            format!("sessions.lease={}ms", LEASE.as_millis()),
            "redis.roomCounts=200ms".to_owned(),
            "lanes.retry=1m".to_owned(),
            format!("queue.mode={mode}"),
            format!("queue.replicas={}", plan.replicas.min(1)),
            "queue.lease=2s".to_owned(),
            "lanes.report=20s".to_owned(),
        ];
        settings.extend_from_slice(&plan.logic_settings);
        Self::start(Kind::Logic, format!("logic-{index}"), settings, log).await
    }

    /// Where clients of a door connect to.
    pub fn door(&self, door: Door) -> SocketAddr {
        match door {
            Door::Tcp => self.at.tcp,
            Door::WebSocket => self.at.http,
        }
    }

    /// Ends it at once, as a machine does that fails.
    pub async fn kill(&mut self) {
        self.log.put("test", &format!("kills {}", self.name));
        self.child.kill().await.unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(&mut self) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(END, self.child.wait()).await;
        assert!(ended.expect("its end").unwrap().success());
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends it a signal.
    pub async fn signal(&self, signal: &str) {
        self.log
            .put("test", &format!("sends {signal} to {}", self.name));
        send(&self.child, signal).await;
    }

    /// Starts it again where it was.
    pub async fn restart(&mut self) {
        self.log.put("test", &format!("starts {} again", self.name));
        let again = within("its start", async {
            loop {
                match launch(self.kind, &self.name, &self.settings, self.at, &self.log).await {
                    Ok(started) => return started,
                    // Somebody else may have one of the ports for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        (self.child, self.at) = again.await;
    }

    async fn start(kind: Kind, name: String, settings: Vec<String>, log: &Arc<Log>) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let anywhere = Listens {
            tcp: any,
            http: any,
            grpc: any,
        };
        let started = launch(kind, &name, &settings, anywhere, log).await;
        let (child, at) = started.unwrap_or_else(|line| panic!("{name} does not start: {line}"));
        let log = Arc::clone(log);
        Self {
            name,
            at,
            kind,
            settings,
            child,
            log,
        }
    }
}

impl Log {
    /// Notes a line of somebody's.
    pub fn put(&self, name: &str, line: &str) {
        let line = format!(
            "{:8.3} {name}: {line}",
            self.started.elapsed().as_secs_f64()
        );
        self.lines.lock().push(line);
    }

    /// Prints the end of it.
    pub fn show(&self) {
        let lines = self.lines.lock();
        let from = lines.len().saturating_sub(SHOWN);
        eprintln!("{}", lines[from..].join("\n"));
    }

    /// Follows what a process logs.
    pub fn follow(
        self: &Arc<Self>,
        name: &str,
        mut lines: tokio::io::Lines<BufReader<ChildStderr>>,
    ) {
        let (log, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.put(&name, &line);
            }
        });
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            lines: Mutex::default(),
        }
    }
}

/// Sends a signal to a process.
pub async fn send(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill")
        .args(["-s", signal, &pid])
        .status()
        .await;
    assert!(sent.unwrap().success());
}

/// Starts a program and waits until it says where it listens. An error is the last that it said.
async fn launch(
    kind: Kind,
    name: &str,
    settings: &[String],
    at: Listens,
    log: &Arc<Log>,
) -> Result<(Child, Listens), String> {
    let (program, own, said) = match kind {
        Kind::Comet => (
            "comet",
            vec![
                format!("tcp.bind={}", at.tcp),
                format!("websocket.bind={}", at.http),
            ],
            "comet listens",
        ),
        Kind::Logic => (
            "logic-stub",
            vec![format!("httpServer.addr={}", at.http)],
            "logic-stub is up",
        ),
    };
    let mut command = Command::new(binaries::path(program));
    let grpc = format!("rpcServer.addr={}", at.grpc);
    let monitor = "monitor.addrs=127.0.0.1:0".to_owned();
    for setting in settings.iter().chain(&own).chain([&grpc, &monitor]) {
        command.arg("--set").arg(setting);
    }
    let mut child = command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut last = String::new();
    while let Some(line) = within(name, lines.next_line()).await.unwrap() {
        log.put(name, &line);
        if line.contains(said) {
            log.follow(name, lines);
            let listens = listens(&serde_json::from_str(&line).unwrap());
            return Ok((child, listens));
        }
        last = line;
    }
    Err(last)
}

/// The addresses in the line that says them.
fn listens(line: &Value) -> Listens {
    let address = |name: &str| {
        let text = line[name].as_str().unwrap_or("127.0.0.1:0");
        text.trim_matches(['[', ']']).parse().unwrap()
    };
    Listens {
        tcp: address("tcp"),
        http: address("http"),
        grpc: address("grpc"),
    }
}
