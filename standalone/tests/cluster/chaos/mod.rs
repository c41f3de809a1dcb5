//! Everything that may die dies, one after the other, under a steady load with thousands of clients, with pushes that go to the
//! lanes at once and with pushes that are stored: `make chaos`, some fifteen minutes beside the build. It writes what was lost, and
//! how long it took until all were back, into docs/operations.md, and fails where more was lost than is promised.
//!
//! [`crowd`]: the clients; [`load`]: the pushers; [`tally`]: what became of what was pushed.

mod crowd;
mod load;
mod tally;

use std::time::{Duration, Instant};

use self::{crowd::Crowd, load::Load, tally::Tally};
use crate::harness::{Cluster, Plan, Way};

/// Clients, by turns in each of the rooms.
const CLIENTS: usize = 2_000;
const ROOMS: usize = 20;

/// Load before a fault and after all are back.
const AROUND: Duration = Duration::from_secs(5);

/// Until whoever watches over the processes starts one that has died again.
const RESTART: Duration = Duration::from_secs(2);

/// Longest time until all are back.
const RECOVERY: Duration = Duration::from_mins(4);

/// After so long without a message none is under way any more, and it is not waited for longer than that.
const QUIET: Duration = Duration::from_secs(3);
const QUIET_LIMIT: Duration = Duration::from_mins(1);

/// The cluster with all that is done to it.
struct Chaos {
    cluster: Cluster,
    plan: Plan,
    crowd: Crowd,
    rows: Vec<(&'static str, Tally)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make chaos"]
async fn chaos() {
    let direct = Chaos::start(false).await.everything().await;
    let stored = Chaos::start(true).await.everything().await;
    tally::write(&direct, &stored);
    // After the table: it says what else became of a row that fails.
    let broken = [
        tally::broken_promises(&direct, tally::DIRECT),
        tally::broken_promises(&stored, tally::STORED),
    ]
    .concat();
    assert!(broken.is_empty(), "{broken:#?}");
}

async fn partition(cluster: &mut Cluster, plan: &Plan) {
    plan.logics[0].cut();
    let comet = plan.comet.as_ref().unwrap();
    comet.cut_from(cluster.logics[0].pid());
    tokio::time::sleep(Duration::from_secs(20)).await;
    plan.logics[0].heal();
    comet.heal();
}

/// As docs/operations.md says: Redis with what it has written down, the logic-stubs, the comets.
async fn rolling_restart(cluster: &mut Cluster, _: &Plan) {
    cluster.redis.save().await;
    cluster.redis.kill().await;
    cluster.redis.restart().await;
    for logic in 0..2 {
        cluster.logics[logic].end().await;
        cluster.logics[logic].restart().await;
        cluster.until_known(logic, 2).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    for comet in 0..2 {
        cluster.comets[comet].end().await;
        cluster.comets[comet].restart().await;
        for logic in 0..2 {
            cluster.until_known(logic, 2).await;
        }
        // drain.reconnectOver.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
}

impl Chaos {
    /// With the defaults, in the place of what shortens other tests.
    async fn start(stored: bool) -> Self {
        let plan = Plan {
            stored,
            logics: vec![Way::open().await, Way::open().await],
            comet: Some(Way::open().await),
            settings: ["logic.renew=10s", "push.wait=1s"]
                .map(ToOwned::to_owned)
                .to_vec(),
            logic_settings: [
                "sessions.lease=30s",
                "redis.roomCounts=2s",
                "lanes.retry=10s",
                "queue.lease=5s",
            ]
            .map(ToOwned::to_owned)
            .to_vec(),
            ..Plan::default()
        };
        let cluster = Cluster::start_as(&plan).await;
        let crowd = Crowd::start(&cluster);
        let mut chaos = Self {
            cluster,
            plan,
            crowd,
            rows: Vec::new(),
        };
        chaos.until_all_are_back().await;
        chaos
    }

    /// One fault after the other; returns what each cost.
    async fn everything(mut self) -> Vec<(&'static str, Tally)> {
        self.phase("Nothing", async |_, _| {}).await;
        self.comets_die().await;
        self.logics_die().await;
        self.redis_fails().await;
        let name = "A comet and a logic-stub are cut off from each other for 20 s";
        self.phase(name, partition).await;
        let name = "A rolling restart of everything";
        self.phase(name, rolling_restart).await;
        self.rows
    }

    async fn comets_die(&mut self) {
        let names = ["kill -9 of the first comet", "kill -9 of the second comet"];
        for (comet, name) in names.into_iter().enumerate() {
            self.phase(name, async |cluster, _| {
                cluster.comets[comet].kill().await;
                tokio::time::sleep(RESTART).await;
                cluster.comets[comet].restart().await;
            })
            .await;
        }
    }

    async fn logics_die(&mut self) {
        let names = [
            "kill -9 of the first logic-stub",
            "kill -9 of the second logic-stub",
        ];
        for (logic, name) in names.into_iter().enumerate() {
            self.phase(name, async |cluster, _| {
                cluster.logics[logic].kill().await;
                tokio::time::sleep(RESTART).await;
                cluster.logics[logic].restart().await;
            })
            .await;
        }
    }

    async fn redis_fails(&mut self) {
        let name = if self.plan.stored {
            "kill -9 of Redis, which comes back with what it wrote down"
        } else {
            "kill -9 of Redis, which comes back empty"
        };
        self.phase(name, async |cluster, _| {
            cluster.redis.kill().await;
            tokio::time::sleep(RESTART).await;
            cluster.redis.restart().await;
        })
        .await;
        self.phase("Redis hangs for 5 s", async |cluster, _| {
            cluster.redis.signal("STOP").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            cluster.redis.signal("CONT").await;
        })
        .await;
    }

    /// Strikes amid the load, waits until all are back and nothing is under way, and counts.
    async fn phase(&mut self, name: &'static str, strike: impl AsyncFnOnce(&mut Cluster, &Plan)) {
        self.crowd.forget();
        let logics: Vec<_> = self
            .cluster
            .logics
            .iter()
            .map(|logic| logic.at.http)
            .collect();
        let load = Load::start(&logics);
        tokio::time::sleep(AROUND).await;
        let struck = Instant::now();
        strike(&mut self.cluster, &self.plan).await;
        self.until_all_are_back().await;
        tokio::time::sleep(AROUND).await;
        let pushes = load.stop().await;
        self.until_quiet().await;
        let tally = Tally::of(&pushes, &self.crowd, struck);
        eprintln!("{name}: {tally:?}");
        self.rows.push((name, tally));
    }

    async fn until_all_are_back(&mut self) {
        let begun = Instant::now();
        while self.crowd.online() < CLIENTS {
            assert!(
                begun.elapsed() < RECOVERY,
                "only {} are back",
                self.crowd.online()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_quiet(&self) {
        let begun = Instant::now();
        let mut received = self.crowd.received();
        let mut since = Instant::now();
        while since.elapsed() < QUIET && begun.elapsed() < QUIET_LIMIT {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.crowd.received();
            if now != received {
                (received, since) = (now, Instant::now());
            }
        }
    }
}
