//! Whether all comets that should be known are: when nobody could renew a lease for a while, those that come back first are not
//! all that there are.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Known;

/// Since when comets are known, as refreshes have seen it.
#[derive(Debug, Default)]
pub(super) struct Settling(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    since: Instant,
    who: Who,
}

#[derive(Debug)]
enum Who {
    Nobody,
    /// All whose names are known.
    All,
    /// Some, and these had leases that have ended without a word.
    AllBut(BTreeSet<Arc<str>>),
    /// Some, after nobody; nobody knows which others there were.
    Some,
}

/// What is known of the comets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Whoever is not known is gone.
    Yes,
    /// Others may come back.
    NotYet,
    /// There has been none for so long.
    Nobody(Duration),
}

impl Settling {
    /// These are known, and these have had a lease.
    pub(super) fn note(&self, known: &Known, ended: Vec<Arc<str>>) {
        let mut seen = self.0.lock();
        let who = match seen.as_mut().map(|seen| &mut seen.who) {
            Some(Who::Nobody) if known.is_empty() => return,
            _ if known.is_empty() => Who::Nobody,
            Some(Who::AllBut(names)) => {
                names.retain(|name| !known.contains_key(name));
                if names.is_empty()
                    && let Some(seen) = seen.as_mut()
                {
                    seen.who = Who::All;
                }
                return;
            }
            Some(Who::All | Who::Some) => return,
            before => {
                let unknown = ended.into_iter().filter(|name| !known.contains_key(name));
                let unknown: BTreeSet<Arc<str>> = unknown.collect();
                match before {
                    _ if !unknown.is_empty() => Who::AllBut(unknown),
                    None => Who::All,
                    Some(_) => Who::Some,
                }
            }
        };
        let since = Instant::now();
        *seen = Some(Seen { since, who });
    }

    /// For what was there `age` ago.
    pub(super) fn settled(&self, age: Duration, lease: Duration) -> Settled {
        let seen = self.0.lock();
        let Some(Seen { since, who }) = &*seen else {
            return Settled::NotYet;
        };
        let since = since.elapsed();
        match who {
            Who::Nobody => Settled::Nobody(since),
            Who::All => Settled::Yes,
            // What is younger was pushed to those who are known.
            Who::AllBut(_) | Who::Some if age <= since || since >= lease => Settled::Yes,
            Who::AllBut(_) | Who::Some => Settled::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::grpc::goim::logic::CometInfo;

    use super::{super::Comet, *};

    const LONG: Duration = Duration::from_hours(1);

    fn known(names: &[&str]) -> Known {
        let comet = |name: &&str| {
            let comet = Comet::for_test(name, CometInfo::default());
            (Arc::clone(&comet.name), Arc::new(comet))
        };
        names.iter().map(comet).collect()
    }

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn who_had_a_lease_is_waited_for() {
        let settling = Settling::default();
        let old = || settling.settled(LONG, LONG);
        assert_eq!(old(), Settled::NotYet);
        settling.note(&known(&[]), names(&["a", "b", "c"]));
        assert!(matches!(old(), Settled::Nobody(_)));
        settling.note(&known(&["a"]), names(&["b", "c"]));
        assert_eq!(old(), Settled::NotYet);
        assert_eq!(settling.settled(Duration::ZERO, LONG), Settled::Yes);
        assert_eq!(settling.settled(LONG, Duration::ZERO), Settled::Yes);
        settling.note(&known(&["a", "b"]), names(&["c"]));
        assert_eq!(old(), Settled::NotYet);
        settling.note(&known(&["a", "b", "c"]), Vec::new());
        assert_eq!(old(), Settled::Yes);
        // One that dies now is waited for no longer than its lease lives.
        settling.note(&known(&["a", "b"]), names(&["c"]));
        assert_eq!(old(), Settled::Yes);
        settling.note(&known(&[]), names(&["a", "b", "c"]));
        assert!(matches!(old(), Settled::Nobody(_)));
    }

    #[test]
    fn after_nobody_who_comes_first_may_not_be_all() {
        let settling = Settling::default();
        settling.note(&known(&["a"]), Vec::new());
        assert_eq!(settling.settled(LONG, LONG), Settled::Yes);
        settling.note(&known(&[]), Vec::new());
        settling.note(&known(&["a"]), Vec::new());
        assert_eq!(settling.settled(LONG, LONG), Settled::NotYet);
        assert_eq!(settling.settled(Duration::ZERO, LONG), Settled::Yes);
    }
}
