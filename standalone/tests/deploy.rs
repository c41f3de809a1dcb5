//! deploy/kubernetes and docker-compose.yml are true: Kubernetes takes the manifests, and the programs their configuration.
//! `make test` installs the schemas of Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde::Deserialize;
use tokio::process::Command;

use crate::{
    monitor::described,
    monitoring::is_described,
    support::script::{self, TESTS, passes, run},
};

/// Seven hundred objects with one wrong field each are checked.
const SCHEMAS_PATIENCE: Duration = Duration::from_mins(5);

/// Bytes that logic-stub has read of all streams and not put into a lane.
const READ_AHEAD: usize = 40 << 20;

/// Bytes that Redis takes for a stored push beside its content.
const STORED_BESIDE: usize = 100;

#[tokio::test]
async fn kubernetes_takes_the_manifests() {
    let output = run(manifests().arg("check"), SCHEMAS_PATIENCE).await;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    passes("manifests.py", output);
}

#[tokio::test]
async fn what_is_deployed_is_configured_well() {
    let output = run(manifests().arg("environments"), SCHEMAS_PATIENCE).await;
    assert!(output.status.success(), "{output:?}");
    let deployed: Vec<Deployed> = serde_json::from_slice(&output.stdout).unwrap();
    let mut seen = BTreeSet::new();
    for one in &deployed {
        match one.program.as_str() {
            "comet" => comet_is_configured_well(one),
            "logic-stub" => {
                let redis =
                    |other: &&Deployed| other.place == one.place && other.program == "redis";
                logic_stub_is_configured_well(one, deployed.iter().find(redis));
            }
            "redis" => {}
            other => panic!("what is {other}?"),
        }
        seen.insert((one.place.as_str(), one.program.as_str()));
    }
    // Redis of `prod` is outside.
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn the_autoscaler_asks_for_a_metric_that_exists() {
    let described = described();
    for (file, marker) in [
        (
            "deploy/kubernetes/overlays/prod/autoscaling.yaml",
            "metric:\n          name: ",
        ),
        ("docs/kubernetes.md", "seriesQuery: '"),
    ] {
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        let (_, name) = text.split_once(marker).unwrap();
        let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        is_described(&described, &name[..end.unwrap()], &BTreeSet::new(), file);
    }
}

/// A program as it is started somewhere.
#[derive(Debug, Deserialize)]
struct Deployed {
    place: String,
    program: String,
    environment: BTreeMap<String, String>,
    /// Where it is reached.
    ports: BTreeSet<u16>,
    /// Seconds from SIGTERM, or what comes before it, to SIGKILL.
    grace: Option<u64>,
    /// Seconds that pass before SIGTERM.
    before: u64,
    /// Seconds for which a new one has to be ready before an old one ends.
    ready: Option<u64>,
    /// Bytes that it may have, if that is bounded.
    memory: Option<u64>,
    /// Bytes of data that it holds, if it is a Redis.
    maxmemory: Option<u64>,
}

impl Deployed {
    fn sources(&self) -> common::config::Sources {
        let env = self.environment.clone().into_iter().collect();
        common::config::Sources {
            env,
            ..common::config::Sources::default()
        }
    }

    /// All that it listens on, and no port that nobody listens on.
    fn ports_are_among(&self, addresses: &[&[String]]) {
        let port = |address: &String| address.rsplit(':').next().unwrap().parse().unwrap();
        let listening: BTreeSet<u16> = addresses.iter().copied().flatten().map(port).collect();
        let idle: Vec<_> = self.ports.difference(&listening).collect();
        assert!(idle.is_empty(), "{self:?}: nobody listens on {idle:?}");
    }

    fn ends_in_time(&self, needed: Duration) {
        let grace = Duration::from_secs(self.grace.unwrap() - self.before);
        assert!(
            grace > needed,
            "{self:?}: needs {needed:?} to end, has {grace:?}"
        );
    }
}

fn comet_is_configured_well(deployed: &Deployed) {
    let loaded = common::config::load::<comet::Config>(&comet::config::SPEC, &deployed.sources());
    let loaded = loaded.unwrap_or_else(|error| panic!("{deployed:?}: {error}"));
    assert_eq!(loaded.warnings, [""; 0], "{deployed:?}");
    let config = loaded.config;
    let tls = if config.websocket.tls_open {
        config.websocket.tls_bind
    } else {
        Vec::new()
    };
    deployed.ports_are_among(&[
        &config.tcp.bind,
        &config.tcp.tls_bind,
        &config.websocket.bind,
        &tls,
        &[config.rpc_server.addr],
        &config.monitor.addrs,
    ]);
    let close = config.protocol.close_timeout.get() + Duration::from_secs(1);
    let drain = config.drain.wait.get() + config.drain.over.get() + 4 * close;
    deployed.ends_in_time(drain);
    if deployed.place.ends_with("prod") {
        let ready = Duration::from_secs(deployed.ready.unwrap());
        assert!(ready > drain, "{ready:?}: two comets would drain at once");
    }
}

fn logic_stub_is_configured_well(deployed: &Deployed, redis: Option<&Deployed>) {
    let loaded =
        common::config::load::<logic_stub::Config>(&logic_stub::config::SPEC, &deployed.sources());
    let loaded = loaded.unwrap_or_else(|error| panic!("{deployed:?}: {error}"));
    assert_eq!(loaded.warnings, [""; 0], "{deployed:?}");
    let config = loaded.config;
    deployed.ports_are_among(&[
        &[
            config.http_server.addr.clone(),
            config.rpc_server.addr.clone(),
        ],
        &config.monitor.addrs,
    ]);
    deployed.ends_in_time(config.shutdown.grace.get());
    if let Some(memory) = deployed.memory {
        let comets = if deployed.place.ends_with("prod") {
            // The autoscaler's.
            100
        } else {
            10
        };
        let server = &config.http_server;
        let pushers = server.max_connections * (server.max_head + server.max_body);
        let needed = (comets * config.lanes.bytes + pushers + READ_AHEAD) as u64;
        assert!(memory > needed, "{deployed:?}: may need {needed}");
    }
    if let Some(redis) = redis {
        let queue = &config.queue;
        let stream = queue.bytes + queue.messages * STORED_BESIDE;
        let needed = (usize::from(queue.streams) * stream) as u64;
        let held = redis.maxmemory.unwrap();
        assert!(held > needed, "{redis:?}: may have to store {needed}");
        // It writes its file anew from a copy of itself.
        let memory = redis.memory.unwrap_or(u64::MAX);
        assert!(memory > 2 * held, "{redis:?}");
    }
}

fn manifests() -> Command {
    let mut command = script::python();
    command.arg(format!("{TESTS}/deploy/manifests.py"));
    command
}
