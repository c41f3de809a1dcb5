//! One stream's reader: its entries go to the lanes in order, and are acknowledged when the comets have answered.
//!
//! It ends when it is stopped, or when the stream is another's. What is under way then goes on to its end: what ends well is
//! acknowledged whoever has the stream.

mod astray;
mod stragglers;

use std::{pin::pin, sync::Arc, time::Duration};

use common::backoff::Backoff;
use futures_util::{
    StreamExt as _,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use protocol::{MessageId, Position};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{astray::Sent, stragglers::Stragglers};
use super::{
    Claim, Done, Queue, Waiting,
    entry::{Entry, EntryError},
    finder::{Finder, Located, Since},
    troubles::{Call, Troubles},
};
use crate::{
    lanes::{Loss, Tally, report::End, report::Ended},
    metrics::Metrics,
    push::{Found, Message, PushError, Pusher, Target, Whom},
};

/// Entries read or acknowledged in one step.
const BATCH: usize = 256;

/// Entries whose receivers are looked up ahead of the one that goes to the lanes next.
const AHEAD: usize = 16;

/// How long a wake-up may stay away before the stream is looked at without.
const LOOK: Duration = Duration::from_secs(1);

/// The first pause after a failure, and before a full lane is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Bits of a position that count the parts of one entry for one comet.
const PART_BITS: u32 = 12;

/// What all readers of a process share.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) pusher: Arc<Pusher>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) finder: Finder,
    pub(super) troubles: Arc<Troubles>,
    /// Entries of one stream under way.
    pub(super) window: usize,
    /// How long a key is looked up again.
    pub(super) retry: Duration,
    /// Keys of each kind that a report names.
    pub(super) report_keys: usize,
}

struct Reader {
    shared: Arc<Shared>,
    claim: Claim,
    /// In positions.
    stream: String,
    window: Semaphore,
    stragglers: Stragglers,
    ends: Ends,
}

/// How a reader ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    /// It is to stop, or has stopped by itself.
    pub(super) stop: CancellationToken,
    /// What it has stopped at is not readable here.
    pub(super) unreadable: CancellationToken,
    /// What was under way has ended, too.
    pub(super) over: CancellationToken,
}

/// An entry whose message has all its outcomes.
struct Settled {
    done: Done,
    id: MessageId,
    reply: Option<String>,
    sent: Option<Sent>,
    ended: Ended,
}

/// An entry that can be sent.
struct Ready {
    done: Done,
    reply: Option<String>,
    message: Message,
    whom: Whom,
    since: Since,
}

/// Where endings are told. All that is under way has one.
type Told = mpsc::UnboundedSender<Settled>;

/// Reads the stream of `claim` until it is stopped, or until another one has it, or up to what it cannot read; and waits for what is
/// under way.
pub(super) async fn run(shared: Arc<Shared>, claim: Claim, ends: Ends) {
    let reader = Reader {
        stream: format!("{}/{}", shared.queue.name(), claim.stream),
        window: Semaphore::new(shared.window),
        stragglers: Stragglers::default(),
        shared,
        claim,
        ends,
    };
    let (ended, endings) = mpsc::unbounded_channel();
    tokio::join!(
        reader.read(ended.clone()),
        reader.follow(ended),
        reader.acknowledge(endings),
    );
    reader.ends.over.cancel();
}

impl Reader {
    async fn read(&self, ended: Told) {
        let mut after = 0;
        loop {
            let stop = &self.ends.stop;
            let next = stop.run_until_cancelled(self.next(after)).await;
            let Some(Some(entries)) = next else {
                return;
            };
            if let Some(last) = entries.last() {
                after = last.number;
            }
            let handed_over = self.hand_over(entries, &ended);
            if stop.run_until_cancelled(handed_over).await.is_none() {
                return;
            }
        }
    }

    /// Waits for the next entries; none if the stream is another's.
    async fn next(&self, after: u64) -> Option<Vec<Waiting>> {
        let queue = &self.shared.queue;
        let mut pause = Pause::default();
        loop {
            let first = self.window.acquire().await.ok()?;
            let max = BATCH.min(1 + self.window.available_permits());
            let read = queue.read(&self.claim, after, max).await;
            if read.is_ok() {
                self.shared.troubles.done(Call::Read, self.claim.stream);
            }
            match read {
                Ok(Some(entries)) if entries.is_empty() => {
                    drop(first);
                    // Woken or not: it is looked at.
                    let _ = timeout(LOOK, queue.woken(self.claim.stream)).await;
                }
                Ok(Some(entries)) => {
                    first.forget();
                    self.window.forget_permits(entries.len() - 1);
                    return Some(entries);
                }
                Ok(None) => {
                    self.ends.stop.cancel();
                    return None;
                }
                Err(error) => {
                    drop(first);
                    let troubles = &self.shared.troubles;
                    troubles.failed(Call::Read, self.claim.stream, &error);
                    pause.wait().await;
                }
            }
        }
    }

    /// Up to what is not readable: behind it nothing is sent, so that whoever can read it sends all in order.
    async fn hand_over(&self, entries: Vec<Waiting>, ended: &Told) {
        let found = stream::iter(entries).map(|waiting| self.find(waiting));
        let mut found = pin!(found.buffered(AHEAD));
        while let Some(ready) = found.next().await {
            match ready {
                Ok((ready, located)) => {
                    let troubles = &self.shared.troubles;
                    troubles.done(Call::Decode, self.claim.stream);
                    self.send(ready, located, ended).await;
                }
                Err(error) => {
                    let troubles = &self.shared.troubles;
                    troubles.failed(Call::Decode, self.claim.stream, &error);
                    self.ends.unreadable.cancel();
                    return self.ends.stop.cancel();
                }
            }
        }
    }

    /// Looks up the receivers of an entry.
    async fn find(&self, waiting: Waiting) -> Result<(Ready, Located), Unreadable> {
        let Waiting {
            number,
            age,
            content,
        } = waiting;
        let since = Since::new(age);
        self.shared.metrics.queue.wait.observe(age);
        let entry = Entry::decode(&content).map_err(|error| Unreadable { number, error })?;
        let position = Position {
            stream: self.stream.clone(),
            epoch: self.claim.epoch,
            number: number << PART_BITS,
        };
        let ready = Ready {
            done: Done {
                number,
                bytes: content.len(),
            },
            message: Message::stored(entry.id, entry.operation, &entry.body, position),
            reply: entry.reply,
            whom: entry.whom,
            since,
        };
        let located = self.locate(&ready).await;
        Ok((ready, located))
    }

    async fn locate(&self, ready: &Ready) -> Located {
        let finder = &self.shared.finder;
        let stream = self.claim.stream;
        finder.find(stream, &ready.whom, ready.since).await
    }

    /// Puts an entry into the lanes, when they have room; or among the stragglers, and what is for the same keys behind it.
    async fn send(&self, ready: Ready, located: Located, ended: &Told) {
        if self.stragglers.holds(&ready.whom) {
            return self.stragglers.add(ready);
        }
        let tally = self.tally(&ready);
        match self.enqueue(&ready, located, &tally).await {
            Enqueued::To(found) => ready.seal(&tally, Some(found), ended),
            Enqueued::Not(why) => self.give_up(ready, &tally, why, ended),
            Enqueued::Later => self.stragglers.add(ready),
        }
    }

    fn tally(&self, ready: &Ready) -> Arc<Tally> {
        let id = ready.message.id;
        Arc::new(Tally::stored(id, self.shared.report_keys))
    }

    fn give_up(&self, ready: Ready, tally: &Tally, why: Loss, ended: &Told) {
        tracing::warn!(id = %ready.message.id, %why, "a stored push is given up");
        self.shared.metrics.lose(why, 1);
        tally.lose(why, &Target::Everyone { speed: 0 });
        ready.seal(tally, None, ended);
    }

    /// Waits until the lanes have room. Who has moved meanwhile is found where they are then.
    async fn enqueue(&self, ready: &Ready, mut located: Located, tally: &Arc<Tally>) -> Enqueued {
        let mut pause = Pause::default();
        loop {
            let found = match located {
                Located::At(found) => found,
                Located::Perhaps => return Enqueued::Later,
                Located::Nowhere => return Enqueued::Not(Loss::NotKnown),
            };
            let pusher = &self.shared.pusher;
            if pusher.is_current(&found) {
                match pusher.enqueue(&ready.message, &found, Some(tally)) {
                    Err(PushError::Full(names)) => {
                        tracing::debug!(%names, "a stored push waits for room in the lanes");
                        pause.wait().await;
                    }
                    Err(PushError::TooLarge(names)) => {
                        tracing::warn!(id = %ready.message.id, %names, "a stored push is too large");
                        return Enqueued::Not(Loss::Refused);
                    }
                    // Comets without a lane are in the report already.
                    Ok(()) | Err(_) => return Enqueued::To(found),
                }
            }
            located = self.locate(ready).await;
        }
    }

    /// Acknowledges what ends, until nothing more can. What has gone astray ends when it has been sent again.
    async fn acknowledge(&self, mut endings: mpsc::UnboundedReceiver<Settled>) {
        let mut settled = Vec::with_capacity(BATCH);
        let mut astray = FuturesUnordered::new();
        let mut more = true;
        while more || !astray.is_empty() {
            tokio::select! {
                count = endings.recv_many(&mut settled, BATCH), if more => more = count > 0,
                Some(resent) = astray.next() => settled.push(resent),
            }
            for settled in settled.extract_if(.., |settled| self.is_astray(settled)) {
                astray.push(self.resend(settled));
            }
            let count = settled.len();
            if settled.iter().any(|settled| settled.ended.again) {
                // Whoever has the stream now, or after this process, sends it again.
                self.ends.stop.cancel();
                settled.retain(|settled| !settled.ended.again);
            }
            join_all(settled.iter().map(|settled| self.reply(settled))).await;
            let done: Vec<Done> = settled.iter().map(|settled| settled.done).collect();
            self.delete(&done).await;
            settled.clear();
            self.window.add_permits(count);
        }
    }

    async fn reply(&self, settled: &Settled) {
        let Some(to) = &settled.reply else { return };
        let text = match serde_json::to_string(&settled.ended.report) {
            Ok(text) => text,
            Err(error) => return tracing::error!(%error, "a report cannot be written"),
        };
        let (troubles, stream) = (&self.shared.troubles, self.claim.stream);
        match self
            .shared
            .queue
            .reply(to, (settled.id, stream), text)
            .await
        {
            Ok(()) => troubles.done(Call::Reply, stream),
            Err(error) => troubles.failed(Call::Reply, stream, &error),
        }
    }

    /// Tries until it is done: what is not deleted would be sent again.
    async fn delete(&self, done: &[Done]) {
        let mut pause = Pause::default();
        let (troubles, stream) = (&self.shared.troubles, self.claim.stream);
        while !done.is_empty() {
            match self.shared.queue.acknowledge(stream, done).await {
                Ok(()) => {
                    troubles.done(Call::Acknowledge, stream);
                    self.shared.metrics.queue.ended.inc_by(done.len() as u64);
                    return;
                }
                Err(error) => {
                    troubles.failed(Call::Acknowledge, stream, &error);
                    pause.wait().await;
                }
            }
        }
    }
}

impl Ready {
    /// Has its end told; it was sent to those who were found.
    fn seal(self, tally: &Tally, found: Option<Found>, ended: &Told) {
        let Ready {
            done,
            reply,
            message,
            whom,
            since,
            ..
        } = self;
        let id = message.id;
        let sent = found.and_then(|found| Sent::new(message, whom, since, &found));
        let ended = ended.clone();
        tally.seal(End::new(move |outcomes| {
            let settled = Settled {
                done,
                id,
                reply,
                sent,
                ended: outcomes,
            };
            // The other end stays until all of these are gone.
            let _ = ended.send(settled);
        }));
    }
}

/// What became of an entry at the lanes.
enum Enqueued {
    /// They have it, for these.
    To(Found),
    /// They will never have it.
    Not(Loss),
    /// For whom it is may be forgotten: nothing was sent.
    Later,
}

/// An entry that is none for this program.
#[derive(Debug, thiserror::Error)]
#[error("number {number}: {error}")]
struct Unreadable {
    number: u64,
    error: EntryError,
}

/// Pauses that grow.
#[derive(Debug, Default)]
pub(super) struct Pause(u32);

impl Pause {
    pub(super) async fn wait(&mut self) {
        let backoff = Backoff {
            base: FIRST_PAUSE,
            max: LONGEST_PAUSE,
            ..Backoff::short()
        };
        let delay = backoff.delay(self.0, &mut rand::rng());
        self.0 = self.0.saturating_add(1);
        sleep(delay).await;
    }
}
