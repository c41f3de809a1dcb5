//! Servers of Redis for tests: real ones, on free ports, that keep nothing when they end.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{Client, Connection, FromRedisValue};

use super::{
    Place,
    authority::{Authority, PASSWORD},
};

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the value.
pub(crate) struct Server {
    pub(crate) port: u16,
    role: Role,
    /// With it, all of TLS, certificates and a password are asked for.
    authority: Option<Arc<Authority>>,
    directory: PathBuf,
    child: Option<Child>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Single,
    /// Of a cluster, with its port for the others.
    Node(u16),
    /// Of the server at this port.
    Replica(u16),
    /// For the master at this port.
    Sentinel(u16),
}

impl Server {
    /// A server by itself.
    pub(crate) fn start() -> Self {
        Self::on(free_port(), Role::Single, None)
    }

    /// The same behind TLS, for those with a certificate of `authority` and the password.
    pub(crate) fn secure(authority: &Arc<Authority>) -> Self {
        Self::on(free_port(), Role::Single, Some(authority))
    }

    /// One that has what this one has.
    pub(crate) fn replica(&self) -> Self {
        let replica = Self::on(
            free_port(),
            Role::Replica(self.port),
            self.authority.as_ref(),
        );
        let info = || self.ask::<String>(&["INFO", "replication"]);
        until("it has a replica", || info().contains("state=online"));
        replica
    }

    /// A sentinel that knows this one as `mymaster`, and its replica.
    pub(crate) fn sentinel(&self) -> Self {
        let sentinel = Self::on(
            free_port(),
            Role::Sentinel(self.port),
            self.authority.as_ref(),
        );
        let words = ["SENTINEL", "REPLICAS", "mymaster"];
        until("it knows the replica", || {
            !sentinel.ask::<Vec<redis::Value>>(&words).is_empty()
        });
        sentinel
    }

    /// Three masters that share the slots.
    pub(crate) fn cluster() -> Vec<Self> {
        Self::cluster_by(None)
    }

    /// The same behind TLS.
    pub(crate) fn secure_cluster(authority: &Arc<Authority>) -> Vec<Self> {
        Self::cluster_by(Some(authority))
    }

    fn cluster_by(authority: Option<&Arc<Authority>>) -> Vec<Self> {
        let nodes: Vec<Self> = (0..3)
            .map(|_| Self::on(free_port(), Role::Node(free_port()), authority))
            .collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let created = Command::new("redis-cli")
            .args(authority.map_or_else(Vec::new, |authority| authority.of_a_caller()))
            .args(["--cluster", "create"])
            .args(addresses)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
        for node in &nodes {
            node.await_cluster();
        }
        nodes
    }

    /// A node more in the cluster of this master, that has what it has.
    pub(crate) fn cluster_replica(&self) -> Self {
        let replica = Self::on(free_port(), Role::Node(free_port()), None);
        let id: String = self.ask(&["CLUSTER", "MYID"]);
        let (new, old) = (replica.port, self.port);
        let added = Command::new("redis-cli")
            .args(["--cluster", "add-node"])
            .args([format!("127.0.0.1:{new}"), format!("127.0.0.1:{old}")])
            .args(["--cluster-slave", "--cluster-master-id", &id])
            .output()
            .unwrap();
        assert!(added.status.success(), "{added:?}");
        let info = || self.ask::<String>(&["INFO", "replication"]);
        until("it has a replica", || info().contains("state=online"));
        replica
    }

    /// Where a store finds them.
    pub(crate) fn place(servers: &[Self]) -> Place {
        let hosts = servers
            .iter()
            .map(|server| format!("127.0.0.1:{}", server.port));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let kind = match servers {
            [
                Self {
                    role: Role::Sentinel(_),
                    ..
                },
            ] => "+sentinel",
            [_] => "",
            _ => "+cluster",
        };
        let master = if kind == "+sentinel" { "/mymaster" } else { "" };
        match &servers[0].authority {
            None => Place::parse(&format!("redis{kind}://{hosts}{master}")).unwrap(),
            Some(authority) => {
                let url = format!("rediss{kind}://:{PASSWORD}@{hosts}{master}");
                let place = Place::parse(&url).unwrap();
                place.with_certificates(authority.certificates()).unwrap()
            }
        }
    }

    fn on(port: u16, role: Role, authority: Option<&Arc<Authority>>) -> Self {
        let directory = std::env::temp_dir().join(format!("redis-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let mut server = Self {
            port,
            role,
            authority: authority.cloned(),
            directory,
            child: None,
        };
        server.go();
        server
    }

    /// Starts it, on the port that it has. It knows its cluster again and has no data.
    pub(crate) fn go(&mut self) {
        let mut command = Command::new("redis-server");
        let settings = self.settings();
        if let Role::Sentinel(_) = self.role {
            let file = self.directory.join("sentinel.conf");
            let lines = settings
                .iter()
                .map(|(name, value)| format!("{name} {value}\n"));
            std::fs::write(&file, lines.collect::<String>()).unwrap();
            command.arg(file).arg("--sentinel");
        } else {
            for (name, value) in settings {
                command.arg(format!("--{name}")).args(value.split(' '));
            }
            command.args(["--save", ""]);
        }
        let child = command.stdout(Stdio::null()).spawn();
        self.child =
            Some(child.expect("redis-server is not there: scripts/test-tools installs it"));
        until("it answers", || self.connection().is_some());
    }

    /// Lines of its configuration, each with the name first.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let port = self.port.to_string();
        let mut settings = match &self.authority {
            None => vec![("port", port)],
            Some(authority) => authority.of_a_server(port),
        };
        settings.push(("bind", "127.0.0.1".to_owned()));
        if let Role::Sentinel(master) = self.role {
            settings.push(("sentinel", format!("monitor mymaster 127.0.0.1 {master} 1")));
            if self.authority.is_some() {
                settings.push(("sentinel", format!("auth-pass mymaster {PASSWORD}")));
            }
            for words in [
                "down-after-milliseconds mymaster 1000",
                "failover-timeout mymaster 5000",
            ] {
                settings.push(("sentinel", words.to_owned()));
            }
            return settings;
        }
        if self.authority.is_some() {
            settings.push(("requirepass", PASSWORD.to_owned()));
            settings.push(("masterauth", PASSWORD.to_owned()));
        }
        settings.push(("appendonly", "no".to_owned()));
        settings.push(("loglevel", "warning".to_owned()));
        settings.push(("dir", self.directory.display().to_string()));
        match self.role {
            Role::Node(bus) => settings.extend([
                ("cluster-enabled", "yes".to_owned()),
                ("cluster-node-timeout", "2000".to_owned()),
                ("cluster-port", bus.to_string()),
            ]),
            Role::Replica(of) => settings.extend([
                ("replicaof", format!("127.0.0.1 {of}")),
                ("repl-diskless-sync-delay", "0".to_owned()),
            ]),
            Role::Single | Role::Sentinel(_) => {}
        }
        settings
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in the middle, until it [goes on](Self::go_on).
    pub(crate) fn hang(&self) {
        self.signal("-STOP");
    }

    /// It goes on where it was.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn await_cluster(&self) {
        let ready = || {
            let info: String = self.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok")
        };
        until("the cluster is whole", ready);
    }

    /// What redis-cli would see.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection().unwrap()).unwrap()
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]);
        keys.sort_unstable();
        keys
    }

    /// Lets everything here be older by `time`.
    pub(crate) fn age(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap();
        for key in self.keys() {
            let left: i64 = self.ask(&["PTTL", &key]);
            match left - time {
                _ if left < 0 => {}
                left if left <= 0 => self.ask(&["DEL", &key]),
                left => self.ask(&["PEXPIRE", &key, &left.to_string()]),
            }
        }
    }

    fn connection(&self) -> Option<Connection> {
        let client = match &self.authority {
            None => Client::open(("127.0.0.1", self.port)),
            Some(authority) => {
                let login = match self.role {
                    Role::Sentinel(_) => String::new(),
                    _ => format!(":{PASSWORD}@"),
                };
                let url = format!("rediss://{login}127.0.0.1:{}", self.port);
                Client::build_with_tls(url, authority.certificates())
            }
        };
        let client = client.unwrap();
        let mut connection = client
            .get_connection_with_timeout(Duration::from_secs(1))
            .ok()?;
        redis::cmd("PING").exec(&mut connection).ok()?;
        Some(connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
