//! A steady load of pushes to rooms and to keys through every logic-stub.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{CLIENTS, ROOMS};
use crate::harness::pusher::push_once;

/// Between two pushes of one kind through one logic-stub.
const PACE: Duration = Duration::from_millis(50);

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// To whom something was pushed.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    Room(usize),
    Key(usize),
}

/// What the pusher was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is on its way to all whom it is for.
    Accepted,
    /// The key is not online.
    Absent,
    /// Another code than 0.
    Refused,
    /// Nothing, within [`ANSWER`].
    Unanswered,
}

/// A push. Its number is its place in the list, and its message.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    pub at: Instant,
    pub target: Target,
    pub outcome: Outcome,
}

/// Pushes until it is stopped.
pub struct Load {
    pushes: Arc<Mutex<Vec<Push>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    /// Two pushers at each logic-stub: one to rooms, one to keys.
    pub fn start(logics: &[SocketAddr]) -> Self {
        let mut load = Self {
            pushes: Arc::default(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        for &logic in logics {
            for to_rooms in [true, false] {
                let pushes = Arc::clone(&load.pushes);
                load.tasks
                    .spawn(push(logic, to_rooms, pushes, load.stop.clone()));
            }
        }
        load
    }

    /// Stops, and says what was pushed.
    pub async fn stop(self) -> Vec<Push> {
        self.stop.cancel();
        self.tasks.join_all().await;
        std::mem::take(&mut self.pushes.lock())
    }
}

async fn push(
    logic: SocketAddr,
    to_rooms: bool,
    pushes: Arc<Mutex<Vec<Push>>>,
    stop: CancellationToken,
) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection: Option<TcpStream> = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let target = if to_rooms {
            Target::Room(rand::random_range(0..ROOMS))
        } else {
            Target::Key(rand::random_range(0..CLIENTS))
        };
        let number = {
            let mut pushes = pushes.lock();
            pushes.push(Push {
                at: Instant::now(),
                target,
                outcome: Outcome::Unanswered,
            });
            pushes.len() - 1
        };
        let path = target.path();
        let body = number.to_string();
        let pushing = push_once(&mut connection, logic, &path, &body);
        let outcome = match timeout(ANSWER, pushing).await.ok().flatten() {
            None => Outcome::Unanswered,
            Some(answer) if answer.is_taken() => Outcome::Accepted,
            Some(answer) if answer.code == 0 => Outcome::Absent,
            Some(_) => Outcome::Refused,
        };
        if outcome == Outcome::Unanswered {
            connection = None;
        }
        pushes.lock()[number].outcome = outcome;
    }
}

impl Target {
    fn path(self) -> String {
        match self {
            Self::Room(room) => format!("/goim/push/room?operation=1000&type=chaos&room={room}"),
            Self::Key(client) => format!("/goim/push/keys?operation=1000&keys=client-{client}"),
        }
    }

    /// Whether it is for this client.
    pub const fn is_for(self, client: usize) -> bool {
        match self {
            Self::Room(room) => client % ROOMS == room,
            Self::Key(key) => client == key,
        }
    }
}
