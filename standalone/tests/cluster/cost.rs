//! What it takes to store a push before it is answered, beside the direct way in the same run.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cluster, Outcome, Plan, note, one},
    support::{Client, Door, token, within},
};

/// Pushes of each way, in turn.
const ROUNDS: usize = 2_000;

/// The first of them, which are not counted.
const WARM_UP: usize = 200;

/// Two logic-stubs that share the queue, and one that sends at once.
const WAYS: [&str; 3] = ["stored, through 0", "stored, through 1", "direct"];

/// The times of one way.
#[derive(Default)]
struct Times {
    /// Until the pusher was answered.
    answered: Vec<Duration>,
    /// Until the client had it.
    came: Vec<Duration>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and decides nothing: to be run by itself"]
async fn what_storing_a_push_adds_to_its_time() {
    for replicas in 0..2 {
        let plan = Plan {
            stored: true,
            replicas,
            ..Plan::default()
        };
        compare(&plan).await;
    }
}

async fn compare(plan: &Plan) {
    let mut cluster = Cluster::start_as(plan).await;
    cluster.add_direct_logic().await;
    let token = token(101, "measures", "live://1");
    let mut client = cluster.login(0, Door::Tcp, &token).await;
    for sync in ["everysec", "always"] {
        cluster.redis.set(&format!("appendfsync {sync}")).await;
        let setting = format!("appendfsync {sync}, {} replicas", plan.replicas);
        let times = measure(&cluster, &mut client, sync).await;
        let direct = &times[2];
        for (way, times) in WAYS.iter().zip(&times) {
            for (what, of, direct) in [
                ("answered", &times.answered, &direct.answered),
                ("came", &times.came, &direct.came),
            ] {
                for (share, name) in [(50, "p50"), (99, "p99")] {
                    let (time, direct) = (percentile(of, share), percentile(direct, share));
                    let ratio = time.as_secs_f64() / direct.as_secs_f64();
                    note(&format!("{setting}, {way}, {what}, {name}"), (time, ratio));
                }
            }
        }
    }
}

async fn measure(cluster: &Cluster, client: &mut Client, sync: &str) -> [Times; 3] {
    let mut connections = [None, None, None];
    let mut times = <[Times; 3]>::default();
    for round in 0..ROUNDS + WARM_UP {
        for (way, connection) in connections.iter_mut().enumerate() {
            let body = format!("{sync} {way} {round}");
            let addr = cluster.logics[way].at.http;
            let start = Instant::now();
            let pushed = async {
                let outcome = one(connection, addr, &body).await;
                assert_eq!(outcome, Outcome::Taken);
                start.elapsed()
            };
            let coming = async {
                client.gets(&body).await;
                start.elapsed()
            };
            let both = async { tokio::join!(pushed, coming) };
            let (answered, came) = within(&body, both).await;
            if round >= WARM_UP {
                times[way].answered.push(answered);
                times[way].came.push(came);
            }
        }
    }
    times
}

fn percentile(times: &[Duration], share: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() * share / 100]
}
