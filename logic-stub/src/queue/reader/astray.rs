//! What of an entry did not get where it was sent, and may reach its receivers elsewhere or later.
//!
//! A comet that dies, or stays away, takes no key's message with it: the key is looked up again and the message goes to where it is
//! then. A comet that has taken it already skips it. That goes on for `queue.retry`, and once more after it; what is astray
//! then, or is for a key that is nowhere any more, is lost for the reason it went astray.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use tokio::sync::oneshot;

use super::{Pause, Reader, Settled};
use crate::{
    lanes::{
        Loss, Tally,
        report::{Astray, End},
    },
    push::{Found, Message, PushError, Target, Whom},
    queue::finder::Since,
};

/// What it takes to send a message again.
#[derive(Debug)]
pub(super) struct Sent {
    message: Message,
    whom: Whom,
    stored: Since,
    /// Of users, the keys that it was sent to; who has come since gets it as well, since it may be one that came back.
    keys: HashSet<String>,
    since: Instant,
    /// Waited for long enough: it is not sent once more.
    is_last: bool,
    pause: Pause,
}

impl Sent {
    /// None for what keeps its order and so cannot go astray.
    pub(super) fn new(message: Message, whom: Whom, stored: Since, found: &Found) -> Option<Self> {
        let keys = match whom {
            Whom::Room(_) | Whom::Everyone { speed: ..=0 } => return None,
            Whom::Keys(_) | Whom::Everyone { .. } => HashSet::new(),
            Whom::Mids(_) => found.keys().cloned().collect(),
        };
        Some(Self {
            message,
            whom,
            stored,
            keys,
            since: Instant::now(),
            is_last: false,
            pause: Pause::default(),
        })
    }
}

impl Reader {
    /// Whether something of it is to be sent again. What is astray otherwise is lost.
    pub(super) fn is_astray(&self, settled: &mut Settled) -> bool {
        let ended = &mut settled.ended;
        if ended.again || ended.astray.is_empty() {
            return false;
        }
        if settled.sent.as_ref().is_some_and(|sent| !sent.is_last) {
            return true;
        }
        let tally = Tally::new(settled.id, self.shared.report_keys);
        for astray in ended.astray.drain(..) {
            self.lose(&tally, astray.why, &astray.target);
        }
        ended.report.join(tally.so_far(), self.shared.report_keys);
        false
    }

    /// Sends what is astray to where its receivers are now, and waits for what becomes of it.
    pub(super) async fn resend(&self, mut settled: Settled) -> Settled {
        let Some(sent) = &mut settled.sent else {
            return settled;
        };
        let ended = &mut settled.ended;
        let astray = std::mem::take(&mut ended.astray);
        sent.is_last = sent.since.elapsed() >= self.shared.retry;
        let tally = Arc::new(Tally::stored(settled.id, self.shared.report_keys));
        let sending = self.send_again(sent, &astray, &tally);
        if self.ends.stop.run_until_cancelled(sending).await.is_none() {
            // It is left to whoever has the stream next.
            ended.again = true;
            return settled;
        }
        let (told, end) = oneshot::channel();
        tally.seal(End::new(move |ended| drop(told.send(ended))));
        match end.await {
            Ok(more) => {
                ended.report.join(more.report, self.shared.report_keys);
                ended.again |= more.again;
                ended.astray = more.astray;
            }
            Err(_) => ended.again = true,
        }
        settled
    }

    /// Puts it into the lanes, when they have room. Nothing was put in if this is given up.
    async fn send_again(&self, sent: &mut Sent, astray: &[Astray], tally: &Arc<Tally>) {
        loop {
            sent.pause.wait().await;
            let Some(found) = self.search(sent, astray).await else {
                return self.lose_rest(astray, None, tally);
            };
            if !self.shared.pusher.is_current(&found) {
                continue;
            }
            match self
                .shared
                .pusher
                .enqueue(&sent.message, &found, Some(tally))
            {
                Err(PushError::Full(_)) => {}
                Err(PushError::TooLarge(_)) => return self.lose_rest(astray, None, tally),
                // Comets without a lane are in the report already.
                Ok(()) | Err(_) => {
                    if matches!(sent.whom, Whom::Mids(_)) {
                        sent.keys.extend(found.keys().cloned());
                    }
                    return self.lose_rest(astray, Some(&found), tally);
                }
            }
        }
    }

    /// Where those are for whom it went astray.
    async fn search(&self, sent: &Sent, astray: &[Astray]) -> Option<Found> {
        let keys = |astray: &Astray| match &astray.target {
            Target::Keys(keys) => keys.clone(),
            Target::Room(_) | Target::Everyone { .. } => Vec::new(),
        };
        let whom = match &sent.whom {
            Whom::Keys(_) => Whom::Keys(astray.iter().flat_map(keys).collect()),
            Whom::Mids(mids) => Whom::Mids(mids.clone()),
            Whom::Room(_) | Whom::Everyone { .. } => {
                let there = |astray: &Astray| (Arc::clone(&astray.comet), astray.target.clone());
                return Some(self.shared.pusher.there(astray.iter().map(there)));
            }
        };
        let (finder, stream) = (&self.shared.finder, self.claim.stream);
        let mut found = finder.find_all(stream, &whom, sent.stored).await?;
        let before: HashMap<String, &Astray> = astray
            .iter()
            .flat_map(|astray| keys(astray).into_iter().map(move |key| (key, astray)))
            .collect();
        found.retain(|comet, key| match before.get(key) {
            // It has been waited for.
            Some(astray) => astray.why != Loss::CometAway || *comet != astray.comet,
            None => !sent.keys.contains(key),
        });
        Some(found)
    }

    /// Counts what is sent again, and those who are not found.
    fn lose_rest(&self, astray: &[Astray], found: Option<&Found>, tally: &Tally) {
        let here: HashSet<&String> = found.into_iter().flat_map(Found::keys).collect();
        for Astray { target, why, .. } in astray {
            let lost = match target {
                Target::Keys(keys) => {
                    let lost = keys.iter().filter(|key| !here.contains(key));
                    Target::Keys(lost.cloned().collect())
                }
                _ if found.is_some() => Target::Keys(Vec::new()),
                target => target.clone(),
            };
            let again = target.weight() - lost.weight();
            self.shared.metrics.queue.resent.inc_by(again);
            if lost.weight() > 0 {
                self.lose(tally, *why, &lost);
            }
        }
    }

    fn lose(&self, tally: &Tally, why: Loss, target: &Target) {
        self.shared.metrics.lose(why, target.weight());
        tally.lose(why, target);
    }
}
