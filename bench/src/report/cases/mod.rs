//! What can be measured for the published page, and what is aimed at. [`all`] is the published set.

mod set;

use serde::{Deserialize, Serialize};

pub use self::set::all;
use crate::{
    doors::Door,
    limit::LimitArgs,
    million::MillionArgs,
    scenario::{fanout::Pushes, soak::SoakArgs},
};

/// Something that is measured.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name on the command line.
    pub id: String,
    /// The work.
    pub work: Work,
    /// The bare loop that runs before and after; none where no loop writes in the same way.
    pub limit: Option<LimitArgs>,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// The limit's CPU seconds for a million when a target in CPU seconds was set; [`Target::OfLimit`] is a ratio to it.
    pub set_at: Option<f64>,
    /// What goim's comet needs, where it was measured: on the same kind of machine, with its own example settings.
    pub goim: &'static str,
    /// It takes long and is measured no more often than this.
    pub at_most: usize,
    /// It is measured only where its whole name is given: it needs much of a machine or of time, and stands beside no limit.
    pub by_hand: bool,
}

impl Case {
    /// Whether it is among those that are asked for by the beginnings of their names; by none, all are but those by hand.
    pub fn is_asked_for(&self, only: &[String]) -> bool {
        if self.by_hand {
            return only.contains(&self.id);
        }
        only.is_empty() || only.iter().any(|name| self.id.starts_with(name))
    }
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Work {
    /// Pushes to so many rooms in turn.
    Rooms(Pushes, u32),
    /// Pushes to everyone.
    Broadcast(Pushes),
    /// Pushes to so many keys a call.
    Keys(Pushes, u32),
    /// The highest rate without loss.
    Search(Pushes),
    /// Logins.
    Logins(Door),
    /// Heartbeats.
    Heartbeats(Door),
    /// Idle connections.
    Idle(Door),
    /// Stopped readers that log in again.
    Slow(Pushes, u32),
    /// Stopped readers that go on.
    Resume(Pushes, u32),
    /// Coming and going.
    Churn(Pushes, u32),
    /// Idle connections and busy rooms.
    Mix(Pushes, u32),
    /// More than can be delivered.
    Overload(Pushes),
    /// Many comets.
    Million(MillionArgs),
    /// All of it for a long time.
    Soak(SoakArgs),
}

/// What a result is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The server's CPU time is at most so many times the limit's.
    OfLimit(f64),
    /// Milliseconds, at most.
    P99(f64),
    /// Deliveries, at least.
    PerSecond(f64),
    /// Resident bytes of a connection, at most.
    Bytes(f64),
    /// Share of a core while nothing happens, at most.
    IdleCpu(f64),
    /// Nothing is lost, repeated or in another order, and nobody is closed.
    NoFault,
    /// The throughput under more load is at least this share of the best before.
    Keeps(f64),
    /// The server says itself how much it dropped.
    Told,
    /// In the last part, which is calm again, nothing is lost, nobody is closed, and nothing stands still.
    Recovers,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_by_hand_must_be_named_in_full() {
        let asked = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            let cases = all().into_iter().filter(|case| case.is_asked_for(&only));
            cases.map(|case| case.id).collect::<Vec<_>>()
        };
        let has = |ids: &[String], id: &str| ids.iter().any(|it| it == id);
        assert!(has(&asked(&[]), "mix") && !has(&asked(&[]), "million"));
        assert!(!has(&asked(&[]), "soak"));
        assert_eq!(asked(&["mi"]), ["mix"]);
        assert_eq!(asked(&["million", "soak"]), ["million", "soak"]);
    }
}
