//! What is for somebody whom the store may have forgotten waits apart, so that rooms and all others do not wait with it.
//!
//! A store that has started again, or another one that has taken its place, learns within a lease who is there. What is for
//! somebody who is not found until then is not sent to anybody, nor is what comes for the same keys or users behind it: each
//! of them gets its pushes in order. Those that wait are sent one after the other.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Enqueued, Located, Reader, Ready, Told};
use crate::push::Whom;

/// Entries that wait; as many as the window of the stream has, at most.
pub(super) struct Stragglers {
    enter: UnboundedSender<Ready>,
    /// Taken by the one who sends them.
    leave: Mutex<Option<UnboundedReceiver<Ready>>>,
    /// For whom they are, with how many.
    held: Mutex<HashMap<Receiver, usize>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Receiver {
    Key(String),
    Mid(i64),
}

impl Default for Stragglers {
    fn default() -> Self {
        let (enter, leave) = unbounded_channel();
        Self {
            enter,
            leave: Mutex::new(Some(leave)),
            held: Mutex::default(),
        }
    }
}

impl Stragglers {
    /// Whether something waits for one of these already.
    pub(super) fn holds(&self, whom: &Whom) -> bool {
        let held = self.held.lock();
        !held.is_empty() && receivers(whom).any(|receiver| held.contains_key(&receiver))
    }

    pub(super) fn add(&self, ready: Ready) {
        let mut held = self.held.lock();
        for receiver in receivers(&ready.whom) {
            *held.entry(receiver).or_default() += 1;
        }
        // Who has stopped receiving has stopped the reader as well.
        let _ = self.enter.send(ready);
    }

    fn remove(&self, whom: &Whom) {
        let mut held = self.held.lock();
        for receiver in receivers(whom) {
            if let Some(count) = held.get_mut(&receiver) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&receiver);
                }
            }
        }
    }
}

impl Reader {
    /// Sends the stragglers, one after the other, until it is stopped: what is left is not acknowledged, and sent by whoever has the
    /// stream next.
    pub(super) async fn follow(&self, ended: Told) {
        let Some(mut stragglers) = self.stragglers.leave.lock().take() else {
            return;
        };
        let follow = async {
            while let Some(ready) = stragglers.recv().await {
                self.send_late(ready, &ended).await;
            }
        };
        self.ends.stop.run_until_cancelled(follow).await;
    }

    async fn send_late(&self, ready: Ready, ended: &Told) {
        let (finder, stream) = (&self.shared.finder, self.claim.stream);
        let tally = self.tally(&ready);
        let enqueued = loop {
            let found = finder.find_all(stream, &ready.whom, ready.since).await;
            let located = found.map_or(Located::Nowhere, Located::At);
            match self.enqueue(&ready, located, &tally).await {
                Enqueued::Later => {}
                Enqueued::To(found) => break Ok(found),
                Enqueued::Not(why) => break Err(why),
            }
        };
        // It is in the lanes: what comes behind it for the same receivers cannot get ahead any more.
        self.stragglers.remove(&ready.whom);
        match enqueued {
            Ok(found) => ready.seal(&tally, Some(found), ended),
            Err(why) => self.give_up(ready, &tally, why, ended),
        }
    }
}

/// What is for a room or for all is never held: who is in is known to the comets, which forget nothing.
fn receivers(whom: &Whom) -> Box<dyn Iterator<Item = Receiver> + Send + '_> {
    match whom {
        Whom::Keys(keys) => Box::new(keys.iter().cloned().map(Receiver::Key)),
        Whom::Mids(mids) => Box::new(mids.iter().copied().map(Receiver::Mid)),
        Whom::Room(_) | Whom::Everyone { .. } => Box::new(std::iter::empty()),
    }
}
