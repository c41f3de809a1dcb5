//! One stream's reader: its entries go to the lanes in order, and are acknowledged when the comets have answered.
//!
//! It ends when it is stopped, or when the stream is another's. What is under way then goes on to its end: what ends well is
//! acknowledged whoever has the stream.

mod astray;

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

use self::astray::Sent;
use super::{Claim, Done, Queue, Waiting, entry::Entry};
use crate::{
    lanes::{Loss, Tally, report::End, report::Ended},
    metrics::Metrics,
    push::{Found, Message, PushError, Pusher, Target, Whom},
    sessions::StoreError,
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
    stop: CancellationToken,
}

/// An entry whose message has all its outcomes.
struct Settled {
    done: Done,
    id: MessageId,
    reply: Option<String>,
    sent: Option<Sent>,
    ended: Ended,
}

/// An entry and where its receivers are.
struct Ready {
    done: Done,
    reply: Option<String>,
    /// None if there is nobody to send it to.
    push: Option<(Message, Whom, Found)>,
    id: MessageId,
}

/// Reads the stream of `claim` until `stop`, or until another one has it, and waits for what is under way. `stop` is cancelled
/// when the reader has stopped by itself.
pub(super) async fn run(shared: Arc<Shared>, claim: Claim, stop: CancellationToken) {
    let reader = Reader {
        stream: format!("{}/{}", shared.queue.name(), claim.stream),
        window: Semaphore::new(shared.window),
        shared,
        claim,
        stop,
    };
    let (ended, endings) = mpsc::unbounded_channel();
    tokio::join!(reader.read(ended), reader.acknowledge(endings));
}

impl Reader {
    async fn read(&self, ended: mpsc::UnboundedSender<Settled>) {
        let mut after = 0;
        loop {
            let next = self.stop.run_until_cancelled(self.next(after)).await;
            let Some(Some(entries)) = next else {
                return;
            };
            if let Some(last) = entries.last() {
                after = last.number;
            }
            let handed_over = self.hand_over(entries, &ended);
            if self.stop.run_until_cancelled(handed_over).await.is_none() {
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
            match queue.read(&self.claim, after, max).await {
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
                    self.stop.cancel();
                    return None;
                }
                Err(error) => {
                    drop(first);
                    let stream = self.claim.stream;
                    tracing::debug!(stream, %error, "a stream of pushes cannot be read");
                    pause.wait().await;
                }
            }
        }
    }

    async fn hand_over(&self, entries: Vec<Waiting>, ended: &mpsc::UnboundedSender<Settled>) {
        let found = stream::iter(entries).map(|waiting| self.find(waiting));
        let mut found = pin!(found.buffered(AHEAD));
        while let Some(ready) = found.next().await {
            self.send(ready, ended).await;
        }
    }

    /// Looks up the receivers of an entry, again and again while the store is away.
    async fn find(&self, waiting: Waiting) -> Ready {
        let Waiting {
            number,
            age,
            content,
        } = waiting;
        self.shared.metrics.queue.wait.observe(age);
        let done = Done {
            number,
            bytes: content.len(),
        };
        let entry = match Entry::decode(&content) {
            Ok(entry) => entry,
            Err(error) => {
                let stream = self.claim.stream;
                tracing::error!(stream, number, %error, "a stored push is not readable");
                return Ready {
                    done,
                    reply: None,
                    push: None,
                    id: MessageId::default(),
                };
            }
        };
        let position = Position {
            stream: self.stream.clone(),
            epoch: self.claim.epoch,
            number: number << PART_BITS,
        };
        let message = Message::stored(entry.id, entry.operation, &entry.body, position);
        let found = self.receivers(entry.id, &entry.whom).await;
        let push = found.map(|found| (message, entry.whom, found));
        Ready {
            done,
            reply: entry.reply,
            push,
            id: entry.id,
        }
    }

    /// Who gets a message and where they are; again and again while the store is away. None if nobody can be found.
    async fn receivers(&self, id: MessageId, whom: &Whom) -> Option<Found> {
        let mut pause = Pause::default();
        loop {
            match self.shared.pusher.find(whom.clone()).await {
                Ok(found) => return Some(found),
                Err(PushError::Store(error @ StoreError::Unavailable(_))) => {
                    tracing::debug!(%error, "a stored push waits for the session store");
                    pause.wait().await;
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "a stored push is for nobody");
                    return None;
                }
            }
        }
    }

    /// Puts an entry into the lanes, when they have room.
    async fn send(&self, ready: Ready, ended: &mpsc::UnboundedSender<Settled>) {
        let Ready {
            done,
            reply,
            push,
            id,
        } = ready;
        let tally = Arc::new(Tally::stored(id, self.shared.report_keys));
        let lose = |why: Loss| {
            self.shared.metrics.lose(why, 1);
            tally.lose(why, &Target::Everyone { speed: 0 });
        };
        let mut sent = None;
        match push {
            None => lose(Loss::NotKnown),
            Some((message, whom, found)) => {
                match self.enqueue(&message, &whom, found, &tally).await {
                    Some(found) => sent = Sent::new(message, whom, &found),
                    None => lose(Loss::Refused),
                }
            }
        }
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

    /// To whom the lanes take the message, now or when they have room. Who has moved meanwhile is found where they are then.
    async fn enqueue(
        &self,
        message: &Message,
        whom: &Whom,
        mut found: Found,
        tally: &Arc<Tally>,
    ) -> Option<Found> {
        let mut pause = Pause::default();
        loop {
            while !self.shared.pusher.is_current(&found) {
                found = self.receivers(message.id, whom).await?;
            }
            match self.shared.pusher.enqueue(message, &found, Some(tally)) {
                Err(PushError::Full(names)) => {
                    tracing::debug!(%names, "a stored push waits for room in the lanes");
                    pause.wait().await;
                    found = self.receivers(message.id, whom).await?;
                }
                Err(PushError::TooLarge(names)) => {
                    tracing::warn!(id = %message.id, %names, "a stored push is too large");
                    return None;
                }
                // Comets without a lane are in the report already.
                Ok(()) | Err(_) => return Some(found),
            }
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
                self.stop.cancel();
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
        if let Err(error) = self.shared.queue.reply(to, settled.id, text).await {
            tracing::debug!(id = %settled.id, %error, "a report is lost");
        }
    }

    /// Tries until it is done: what is not deleted would be sent again.
    async fn delete(&self, done: &[Done]) {
        let mut pause = Pause::default();
        let stream = self.claim.stream;
        while !done.is_empty() {
            match self.shared.queue.acknowledge(stream, done).await {
                Ok(()) => {
                    self.shared.metrics.queue.ended.inc_by(done.len() as u64);
                    return;
                }
                Err(error) => {
                    tracing::debug!(stream, %error, "pushes that have ended stay stored");
                    pause.wait().await;
                }
            }
        }
    }
}

/// Pauses that grow.
#[derive(Debug, Default)]
struct Pause(u32);

impl Pause {
    async fn wait(&mut self) {
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
