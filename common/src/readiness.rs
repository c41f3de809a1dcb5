//! Whether a process is ready to serve: it is when all of its named latches are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The latches of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    latches: Latches,
}

/// Each latch's name, and why it is not ready.
type Latches = Arc<watch::Sender<BTreeMap<String, Option<String>>>>;

impl Readiness {
    /// A latch that is not ready until it is told so. One that exists by this name is shared, as it stands.
    pub fn latch(&self, name: impl Into<String>) -> Latch {
        let name = name.into();
        self.latches.send_modify(|latches| {
            latches
                .entry(name.clone())
                .or_insert_with(|| Some("starting".into()));
        });
        Latch {
            name,
            latches: Arc::clone(&self.latches),
        }
    }

    /// Nothing when all latches are ready, else the name of each other one and why it is not.
    pub fn report(&self) -> Result<(), Vec<(String, String)>> {
        let latches = self.latches.borrow();
        let waiting: Vec<(String, String)> = latches
            .iter()
            .filter_map(|(name, why)| Some((name.clone(), why.clone()?)))
            .collect();
        if waiting.is_empty() {
            Ok(())
        } else {
            Err(waiting)
        }
    }

    /// Something to wait for: it tells that a latch has changed, not how.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.latches.subscribe()
    }
}

/// One condition of readiness. Clones are the same latch; it outlives its handles.
#[derive(Clone, Debug)]
pub struct Latch {
    name: String,
    latches: Latches,
}

impl Latch {
    /// This condition holds.
    pub fn ready(&self) {
        self.put(None);
    }

    /// This condition does not hold, and why.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.put(Some(why.into()));
    }

    fn put(&self, why: Option<String>) {
        self.latches.send_if_modified(|latches| {
            latches.insert(self.name.clone(), why.clone()) != Some(why)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(readiness: &Readiness) -> Vec<(String, String)> {
        readiness.report().unwrap_err()
    }

    #[test]
    fn a_process_is_ready_when_all_latches_are() {
        let readiness = Readiness::default();
        assert_eq!(readiness.report(), Ok(()));
        let (logic, doors) = (readiness.latch("logic"), readiness.latch("doors"));
        let starting = || String::from("starting");
        assert_eq!(
            waiting(&readiness),
            [("doors".into(), starting()), ("logic".into(), starting())]
        );
        doors.ready();
        assert_eq!(waiting(&readiness), [("logic".into(), starting())]);
        logic.ready();
        assert_eq!(readiness.clone().report(), Ok(()));
        logic.not_ready("no answer for 3s");
        assert_eq!(
            waiting(&readiness),
            [("logic".into(), "no answer for 3s".into())]
        );
    }

    #[test]
    fn a_latch_of_the_same_name_is_the_same() {
        let readiness = Readiness::default();
        readiness.latch("logic").ready();
        let again = readiness.latch("logic");
        assert_eq!(readiness.report(), Ok(()));
        again.not_ready("draining");
        drop(again);
        assert_eq!(waiting(&readiness), [("logic".into(), "draining".into())]);
    }
}
