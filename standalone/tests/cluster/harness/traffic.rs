//! Numbered messages to a room through both logic-stubs, and a client at each comet that stays connected.

use std::time::{Duration, Instant};

use super::{Cluster, Member, Pusher, pusher::Outcome};
use crate::support::{Door, token, until};

/// Messages that have to come for it to flow: enough that none of them can have been under way before.
const FLOW: u64 = 20;

/// Between two messages of a pusher.
const PACE: Duration = Duration::from_millis(5);

/// The traffic of one test.
pub struct Traffic {
    /// One for each logic-stub, `0` and `1`.
    pushers: Vec<Pusher>,
    /// One at each comet, with the mids 101 and 102 and the keys `stays-0` and `stays-1`, by different doors.
    pub members: Vec<Member>,
}

impl Traffic {
    /// Logs the clients in, begins to push, and waits until all flows.
    pub async fn start(cluster: &Cluster) -> Self {
        let mut members = Vec::new();
        for (comet, door) in [(0, Door::Tcp), (1, Door::WebSocket)] {
            let key = format!("stays-{comet}");
            let token = token(101 + i64::try_from(comet).unwrap(), &key, "live://1");
            members.push(Member::of(cluster.login(comet, door, &token).await));
        }
        let pushers = cluster.logics.iter().enumerate();
        let pushers =
            pushers.map(|(index, logic)| Pusher::start(&index.to_string(), logic.at.http, PACE));
        let traffic = Self {
            pushers: pushers.collect(),
            members,
        };
        traffic.flows().await;
        traffic
    }

    /// Goes on with the clients at the first comet alone: the other one will be killed.
    pub fn at_first_comet(mut self) -> Self {
        self.members.truncate(1);
        self
    }

    /// Waits until messages that are pushed after now come through every logic-stub to every client. Returns how long that took.
    pub async fn flows(&self) -> Duration {
        let comets: Vec<usize> = (0..self.members.len()).collect();
        self.flows_by(&[0, 1], &comets).await
    }

    /// Waits until messages that are pushed after now come through these logic-stubs to the clients at these comets.
    pub async fn flows_by(&self, logics: &[usize], comets: &[usize]) -> Duration {
        let start = Instant::now();
        for &logic in logics {
            let pusher = &self.pushers[logic];
            let goal = pusher.next() + FLOW;
            for &comet in comets {
                let member = &self.members[comet];
                let what = format!("number {goal} of {} at comet {comet}", pusher.name);
                until(&what, || member.last(&pusher.name) >= Some(goal)).await;
            }
        }
        start.elapsed()
    }

    /// Ends it: all clients are still connected and every number rose. Returns what they lost of what was taken.
    pub async fn end(self) -> Losses {
        let mut losses = Losses::default();
        for member in &self.members {
            member.beats().await;
        }
        for pusher in self.pushers {
            let pushed = pusher.stop().await;
            losses.pushed += pushed.outcomes.len();
            for outcome in &pushed.outcomes {
                match outcome {
                    Outcome::Taken => {}
                    Outcome::Refused(why) => losses.refused.push(why.clone()),
                    Outcome::Unanswered => losses.unanswered += 1,
                }
            }
            for (missing, member) in losses.lost.iter_mut().zip(&self.members) {
                missing.extend(pushed.missing_at(member).await);
            }
        }
        losses
    }
}

/// What became of the numbers.
#[derive(Debug, Default)]
pub struct Losses {
    pub pushed: usize,
    /// What the pushers were told of those that were not taken.
    pub refused: Vec<String>,
    /// Pushes whose connection broke before the answer.
    pub unanswered: usize,
    /// Those that were taken and did not come, by comet.
    pub lost: [Vec<String>; 2],
}

impl Losses {
    /// Shows that nothing was lost, and that no pusher was told anything but that its message is taken.
    pub fn is_none(&self) {
        assert!(
            self.refused.is_empty() && self.unanswered == 0 && self.lost.iter().all(Vec::is_empty),
            "{self:?}"
        );
    }
}
