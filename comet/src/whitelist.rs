//! The whitelist, goim's: users and keys whose every step goes to a log of its own. It answers where somebody's message went.
//!
//! A channel has one flag, which says whether its steps are noted. All others pay for looking at that flag, and for nothing else.
//!
//! # Layout
//!
//! - [`Whitelist`]: who is on it, and which of their connections are here
//! - [`Step`]: what is noted
//! - `log`: where that goes

mod log;
mod step;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use thiserror::Error;

use self::log::Log;
pub use self::step::{Step, What};
use crate::{config, metrics::Metrics};

/// Bytes of a key: more than any store of sessions has.
const MAX_KEY: usize = 4096;

/// Who is noted. Shared by all connections of a comet.
#[derive(Debug, Default)]
pub struct Whitelist {
    names: ArcSwap<Names>,
    /// Users and keys that may be on it.
    max: usize,
    /// The connections whose steps are noted, by their ids.
    noted: Mutex<HashMap<u64, Noted>>,
    log: Log,
}

/// Users and keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Users.
    pub mids: BTreeSet<i64>,
    /// Keys.
    pub keys: BTreeSet<String>,
}

/// A connection whose steps are noted.
#[derive(Debug)]
struct Noted {
    mid: i64,
    key: Arc<str>,
}

/// What is to become of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// These are noted too.
    Add,
    /// These are noted no longer.
    Remove,
    /// Nobody but these is noted.
    Replace,
}

/// Why the list stays as it is; whoever asked is at fault.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There would be too many.
    #[error("whitelist: more than {0} users and keys")]
    TooMany(usize),
    /// A key is none.
    #[error("keys: one is empty, or over {MAX_KEY} bytes")]
    Key,
}

impl Whitelist {
    /// The list of the configuration, and its log.
    pub fn open(config: &config::Whitelist, metrics: &Metrics) -> io::Result<Self> {
        let lines = LineCounters {
            written: metrics.whitelist_lines.clone(),
            lost: metrics.whitelist_lines_lost.clone(),
        };
        let names = Names {
            mids: config.whitelist.iter().copied().collect(),
            keys: config.keys.iter().cloned().collect(),
        };
        Ok(Self {
            names: ArcSwap::from_pointee(names),
            max: config.max,
            noted: Mutex::default(),
            log: Log::open(config, lines)?,
        })
    }

    /// Whether this user, or this key, is on the list.
    pub fn has(&self, mid: i64, key: &str) -> bool {
        let names = self.names.load();
        names.mids.contains(&mid) || names.keys.contains(key)
    }

    /// Who is on it.
    pub fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// Connections whose steps are noted.
    pub fn connections(&self) -> usize {
        self.noted.lock().len()
    }

    /// Changes it. Connections that are here keep what they have until they are told: see [`crate::channel::Channel::set_noted`].
    pub fn change(&self, change: Change, names: &Names) -> Result<(), ChangeError> {
        let fits = |key: &String| (1..=MAX_KEY).contains(&key.len());
        if !names.keys.iter().all(fits) {
            return Err(ChangeError::Key);
        }
        let mut result = Ok(());
        self.names.rcu(|now| {
            let next = change.apply(now, names);
            if next.mids.len() + next.keys.len() > self.max {
                result = Err(ChangeError::TooMany(self.max));
                return Names::clone(now);
            }
            result = Ok(());
            next
        });
        result
    }

    /// Waits until all that was noted before is in the file.
    pub async fn flush(&self) {
        self.log.flush().await;
    }

    /// A connection's steps are noted from now on.
    pub(crate) fn enter(&self, id: u64, mid: i64, key: &Arc<str>) {
        let key = Arc::clone(key);
        self.noted.lock().insert(id, Noted { mid, key });
    }

    /// They are no longer.
    pub(crate) fn leave(&self, id: u64) {
        self.noted.lock().remove(&id);
    }

    /// Notes a step of a connection that is noted.
    #[cold]
    pub(crate) fn note(&self, id: u64, step: &Step<'_>) {
        let noted = self.noted.lock();
        if let Some(Noted { mid, key }) = noted.get(&id) {
            self.log.put(step.line(*mid, key, id));
        }
    }
}

impl Change {
    fn apply(self, now: &Names, names: &Names) -> Names {
        let Names { mids, keys } = names;
        match self {
            Self::Add => Names {
                mids: &now.mids | mids,
                keys: &now.keys | keys,
            },
            Self::Remove => Names {
                mids: &now.mids - mids,
                keys: &now.keys - keys,
            },
            Self::Replace => names.clone(),
        }
    }
}

/// What is counted of the log.
#[derive(Debug, Default)]
struct LineCounters {
    written: Counter,
    lost: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mids: &[i64], keys: &[&str]) -> Names {
        Names {
            mids: mids.iter().copied().collect(),
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
        }
    }

    #[test]
    fn it_changes_within_its_bound() {
        let list = Whitelist {
            max: 3,
            ..Whitelist::default()
        };
        list.change(Change::Add, &names(&[1, 2], &["a"])).unwrap();
        list.change(Change::Add, &names(&[2], &["a"])).unwrap();
        assert!(list.has(1, "x") && list.has(9, "a") && !list.has(9, "x"));
        let refused = list.change(Change::Add, &names(&[3], &[]));
        assert_eq!(refused, Err(ChangeError::TooMany(3)));
        list.change(Change::Remove, &names(&[1], &["b"])).unwrap();
        assert_eq!(*list.names(), names(&[2], &["a"]));
        let refused = list.change(Change::Add, &names(&[], &[""]));
        assert_eq!(refused, Err(ChangeError::Key));
        list.change(Change::Replace, &names(&[], &[])).unwrap();
        assert!(!list.has(2, "a"));
    }
}
