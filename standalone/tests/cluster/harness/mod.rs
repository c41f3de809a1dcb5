//! What the scenarios are made of.
//!
//! - [`Cluster`]: the processes; [`program`]: one of them; [`redis`]: the server of the store; [`binaries`]: the programs
//! - [`Way`]: a way between two of them that can be slow, or lead nowhere
//! - [`Traffic`]: numbered messages to a room and who gets them; [`member`], [`pusher`]: its parts

mod binaries;
pub mod member;
pub mod program;
pub mod pusher;
pub mod redis;
mod traffic;
mod way;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use protocol::Token;
use serde_json::Value;
use tokio::sync::MutexGuard;

pub use self::{
    member::{Member, login},
    pusher::{Answer, Outcome, Pusher, one},
    traffic::Traffic,
    way::Way,
};
use self::{
    program::{Log, Program},
    redis::Redis,
};
use crate::support::{Client, Door, http, within};

/// The life of a lease: long enough for a busy machine to renew it, short enough to be waited for.
pub const LEASE: Duration = Duration::from_secs(8);

/// One cluster at a time: each is several processes, and what is measured is not to be disturbed.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Two comets, two logic-stubs and their Redis. All of them end with it, and if the test has failed, what they logged is shown.
pub struct Cluster {
    pub comets: Vec<Program>,
    pub logics: Vec<Program>,
    pub redis: Redis,
    /// Of that Redis, by a [plan](Plan::replicas).
    pub replicas: Vec<Redis>,
    _sentinel: Option<Redis>,
    log: Arc<Log>,
    _turn: MutexGuard<'static, ()>,
}

/// Ways in the place of direct connections, and what else is not as usual.
#[derive(Default)]
pub struct Plan {
    /// Between the logic-stubs and Redis.
    pub redis: Option<Way>,
    /// Between the second comet and each of the logic-stubs.
    pub logics: Vec<Way>,
    /// Between the logic-stubs and the second comet.
    pub comet: Option<Way>,
    /// Whether pushes are stored before they are answered; Redis then writes down each of them.
    pub stored: bool,
    /// Replicas of Redis, one of which takes its place when it is away. Stored pushes are answered when one of them has them.
    pub replicas: usize,
    /// Further settings of the comets.
    pub settings: Vec<String>,
    /// And of the logic-stubs.
    pub logic_settings: Vec<String>,
}

impl Cluster {
    /// As usual.
    pub async fn start() -> Self {
        Self::start_as(&Plan::default()).await
    }

    /// Starts all, and waits until both logic-stubs know both comets.
    pub async fn start_as(plan: &Plan) -> Self {
        let turn = TURN.lock().await;
        let log = Arc::<Log>::default();
        let redis = Redis::start(plan.stored, &log).await;
        let (replicas, sentinel) = match plan.replicas {
            0 => (Vec::new(), None),
            count => {
                let (replicas, sentinel) = redis.watched(count).await;
                (replicas, Some(sentinel))
            }
        };
        let store = match (&plan.redis, &sentinel) {
            (Some(way), _) => {
                way.leads_to(redis.addr);
                format!("redis://{}", way.addr)
            }
            (None, Some(sentinel)) => format!("redis+sentinel://{}/mymaster", sentinel.addr),
            (None, None) => format!("redis://{}", redis.addr),
        };
        let mut cluster = Self {
            comets: Vec::new(),
            logics: Vec::new(),
            redis,
            replicas,
            _sentinel: sentinel,
            log,
            _turn: turn,
        };
        for index in 0..2 {
            let logic = Program::logic(index, &store, plan, &cluster.log).await;
            cluster.logics.push(logic);
        }
        let direct: Vec<SocketAddr> = cluster.logics.iter().map(|logic| logic.at.grpc).collect();
        let first = Program::comet(0, &direct, None, &plan.settings, &cluster.log).await;
        cluster.comets.push(first);
        let mut by = direct.clone();
        for (index, way) in plan.logics.iter().enumerate() {
            way.leads_to(direct[index]);
            by[index] = way.addr;
        }
        let advertised = plan.comet.as_ref().map(|way| way.addr);
        let second = Program::comet(1, &by, advertised, &plan.settings, &cluster.log).await;
        if let Some(way) = &plan.comet {
            way.leads_to(second.at.grpc);
        }
        cluster.comets.push(second);
        for logic in 0..2 {
            cluster.until_known(logic, 2).await;
        }
        cluster
    }

    /// One more logic-stub, which stores no pushes. It knows the comets by their leases.
    pub async fn add_direct_logic(&mut self) {
        let index = self.logics.len();
        let store = format!("redis://{}", self.redis.addr);
        let logic = Program::logic(index, &store, &Plan::default(), &self.log).await;
        self.logics.push(logic);
        self.until_known(index, self.comets.len()).await;
    }

    /// Logs in at a comet, again and again until it is let in.
    pub async fn login(&self, comet: usize, door: Door, token: &Token) -> Client {
        within("a login", async {
            loop {
                match self.try_login(comet, door, token).await {
                    Ok(client) => return client,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await
    }

    /// Logs in at a comet once; a refusal is the reason that the client is told.
    pub async fn try_login(
        &self,
        comet: usize,
        door: Door,
        token: &Token,
    ) -> Result<Client, String> {
        login(self.comets[comet].door(door), door, token).await
    }

    /// Pushes through a logic-stub.
    pub async fn push(&self, logic: usize, kind: &str, query: &str, body: &str) -> Answer {
        let path = format!("/goim/push/{kind}?operation=1000&{query}");
        Answer::of(&http::post(self.logics[logic].at.http, &path, body.as_bytes()).await)
    }

    /// Pushes through a logic-stub, again and again with numbers behind the text, until a member gets one. Returns the last
    /// answer.
    pub async fn push_until(
        &self,
        logic: usize,
        (kind, query, text): (&str, &str, &str),
        member: &Member,
    ) -> Answer {
        within(text, async {
            for number in 0.. {
                let body = format!("{text} {number}");
                let answer = self.push(logic, kind, query, &body).await;
                // It is on its way if the answer says nothing else.
                for _ in 0..20 {
                    if member.has(&body) {
                        return answer;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            unreachable!()
        })
        .await
    }

    /// Asks a logic-stub something until the answer's data is as wanted.
    pub async fn until_told(&self, logic: usize, path: &str, wanted: impl Fn(&Value) -> bool) {
        within(path, async {
            loop {
                let answer = http::get(self.logics[logic].at.http, path).await;
                if wanted(&answer.json()["data"]) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Pushes through a logic-stub until it says that nobody is there.
    pub async fn until_absent(&self, logic: usize, (kind, query): (&str, &str), who: &str) {
        within(who, async {
            while !self
                .push(logic, kind, query, "nobody")
                .await
                .says_absent(who)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Waits until a logic-stub knows so many comets.
    pub async fn until_known(&self, logic: usize, count: usize) {
        let wanted = |data: &Value| data.as_array().unwrap().len() == count;
        self.until_told(logic, "/goim/nodes/instances", wanted)
            .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.show();
        }
    }
}

/// Something worth knowing that no test is decided by.
pub fn note(what: &str, value: impl std::fmt::Debug) {
    eprintln!("measured: {what}: {value:.2?}");
}
