//! Which streams this process reads. Processes that read share the streams evenly: each counts the others, gives away what is
//! beyond its share, and takes what is free.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use common::readiness::Latch;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Claim, Queue,
    finder::{Finder, Memory},
    reader::{self, Ends, Shared},
    troubles::{Call, Troubles},
};
use crate::{comets::Comets, config::Config, metrics::Metrics, push::Pusher, sessions::StoreError};

/// Renewals in the life of a claim.
const RENEWALS: u32 = 3;

/// Streams that are claimed side by side, at least. More than the share of this process are given back at once.
const TOGETHER: usize = 8;

/// The readers of this process. Dropped, they end in the middle.
pub struct Readers {
    stop: CancellationToken,
    /// None once it was waited for.
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What the task has.
struct Shift {
    shared: Arc<Shared>,
    comets: Arc<Comets>,
    every: Duration,
    /// How long what is under way in a stream that is given away may take: a comet that does not answer must not keep the
    /// stream from the others. And how long a stream is left to others that is not readable here.
    patience: Duration,
    mine: Mutex<BTreeMap<u16, Mine>>,
    /// Since when streams are left to others.
    left: Mutex<HashMap<u16, Instant>>,
}

/// A stream that this process has claimed.
struct Mine {
    claim: Claim,
    /// When it was last renewed.
    renewed: Instant,
    /// Stops its reader.
    ends: Ends,
    reader: JoinHandle<()>,
    /// Since when it is being given away: when its reader is done, or has taken too long.
    leaves: Option<Instant>,
    /// Whether it is given back.
    released: bool,
}

impl Readers {
    /// Begins to read `queue`. The latch is ready unless a stream that was claimed cannot be read. Must be called in a tokio
    /// runtime.
    pub fn start(
        queue: Arc<dyn Queue>,
        pusher: Arc<Pusher>,
        comets: Arc<Comets>,
        metrics: Arc<Metrics>,
        latch: Latch,
        config: &Config,
    ) -> Self {
        let lease = config.queue.lease.get();
        let troubles = Arc::new(Troubles::new(Arc::clone(&metrics), latch, lease));
        let finder = Finder {
            pusher: Arc::clone(&pusher),
            comets: Arc::clone(&comets),
            troubles: Arc::clone(&troubles),
            lease: config.sessions.lease.get(),
            retry: config.queue.retry.get(),
            memory: tokio::sync::Mutex::new(Memory::default()),
        };
        let shared = Shared {
            queue,
            pusher,
            metrics,
            finder,
            troubles,
            window: config.queue.window,
            retry: config.queue.retry.get(),
            report_keys: config.lanes.report_keys,
        };
        let shift = Shift {
            shared: Arc::new(shared),
            comets,
            every: lease / RENEWALS,
            patience: lease,
            mine: Mutex::default(),
            left: Mutex::default(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(shift.run(stop.clone()));
        Self {
            stop,
            task: tokio::sync::Mutex::new(Some(task)),
        }
    }

    /// Reads nothing more, waits until what is under way has ended, and gives all streams back.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.as_mut()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the readers of the queue ended in the middle");
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shift {
    async fn run(self, stop: CancellationToken) {
        // Without the comets and the store, pushes would find nobody.
        while let Err(error) = self.look().await {
            self.shared.troubles.failed(Call::Find, 0, &error);
            if stop.run_until_cancelled(sleep(self.every)).await.is_none() {
                return;
            }
        }
        self.shared.troubles.done(Call::Find, 0);
        // What else there is to do must not delay what keeps the claims.
        let ended = CancellationToken::new();
        tokio::join!(self.keep(&ended), async {
            while !stop.is_cancelled() {
                self.turn().await;
                stop.run_until_cancelled(sleep(self.every)).await;
            }
            self.finish().await;
            ended.cancel();
        });
    }

    async fn look(&self) -> Result<(), StoreError> {
        self.comets.refresh().await?;
        self.shared.finder.remember().await
    }

    /// Renews what is claimed, until there is nothing more to do.
    async fn keep(&self, ended: &CancellationToken) {
        while !ended.is_cancelled() {
            self.renew().await;
            self.shared.troubles.show();
            ended.run_until_cancelled(sleep(self.every)).await;
        }
    }

    /// Changes what is claimed to the share of this process.
    async fn turn(&self) {
        let troubles = &self.shared.troubles;
        // Who is absent asks again.
        if let Err(error) = self.shared.finder.remember().await {
            tracing::debug!(%error, "whether the session store has forgotten anything is not known");
        }
        self.give_back().await;
        match self.shared.queue.readers().await {
            Ok(readers) => {
                troubles.done(Call::Readers, 0);
                let share = usize::from(self.shared.queue.streams()).div_ceil(readers.max(1));
                self.give_away(share);
                self.take(share).await;
            }
            Err(error) => troubles.failed(Call::Readers, 0, &error),
        }
        self.count();
    }

    async fn renew(&self) {
        let claims = self.streams(|_| true).into_iter().map(|stream| async move {
            let answer = self.shared.queue.claim(stream).await;
            if let Some(unwanted) = self.renewed(stream, answer) {
                self.release(&unwanted).await;
            }
        });
        join_all(claims).await;
    }

    /// Returns a claim that came about while the stream was given back.
    fn renewed(&self, stream: u16, answer: Result<Option<Claim>, StoreError>) -> Option<Claim> {
        let troubles = &self.shared.troubles;
        let claim = match answer {
            Ok(claim) => claim,
            Err(error) => {
                troubles.failed(Call::Claim, stream, &error);
                return None;
            }
        };
        troubles.done(Call::Claim, stream);
        let mut all = self.mine.lock();
        let Some(mine) = all.get_mut(&stream) else {
            return claim;
        };
        match claim {
            Some(claim) if claim.epoch == mine.claim.epoch => mine.renew(claim),
            another if mine.released => return another,
            another => {
                tracing::warn!(stream, "the claim of a stream of pushes had run out");
                mine.ends.stop.cancel();
                let leaves = mine.leaves.is_some();
                all.remove(&stream);
                troubles.forget(stream);
                if leaves {
                    return another;
                }
                if let Some(claim) = another {
                    all.insert(stream, self.begin(claim));
                }
            }
        }
        None
    }

    /// Gives back what nobody reads here any more. What is still under way goes on to its end, or is refused for the
    /// successor's epoch.
    async fn give_back(&self) {
        let over = |mine: &Mine| mine.is_over() || mine.leaves_for(self.patience);
        let released = self.streams(over).into_iter().map(|stream| async move {
            if let Some(claim) = self.unclaimed(stream) {
                self.release(&claim).await;
            }
            self.mine.lock().remove(&stream);
            self.shared.troubles.forget(stream);
        });
        join_all(released).await;
    }

    /// The claim that is to be released: of a stream that was another's already there is none.
    fn unclaimed(&self, stream: u16) -> Option<Claim> {
        let mut mine = self.mine.lock();
        let mine = mine.get_mut(&stream)?;
        mine.released = true;
        let unreadable = mine.ends.unreadable.is_cancelled();
        if unreadable {
            self.left.lock().insert(stream, Instant::now());
        }
        (unreadable || mine.leaves.is_some()).then_some(mine.claim)
    }

    async fn release(&self, claim: &Claim) {
        let troubles = &self.shared.troubles;
        match self.shared.queue.release(claim).await {
            Ok(()) => troubles.done(Call::Release, claim.stream),
            Err(error) => troubles.failed(Call::Release, claim.stream, &error),
        }
    }

    fn give_away(&self, share: usize) {
        let mut mine = self.mine.lock();
        let stay = mine.values_mut().filter(|mine| mine.leaves.is_none());
        stay.skip(share).for_each(Mine::leave);
    }

    async fn take(&self, share: usize) {
        let left = {
            let mut left = self.left.lock();
            left.retain(|_, since| since.elapsed() < self.patience);
            left.clone()
        };
        let streams = self.shared.queue.streams();
        let start = rand::random_range(0..streams.max(1));
        let mine = self.streams(|_| true);
        let free = |stream: &u16| !mine.contains(stream) && !left.contains_key(stream);
        let mut others = (start..streams).chain(0..start).filter(free);
        loop {
            let missing = share.saturating_sub(self.streams(|mine| mine.leaves.is_none()).len());
            let some: Vec<u16> = others.by_ref().take(missing.max(TOGETHER)).collect();
            if missing == 0 || some.is_empty() || !self.take_of(&some, missing).await {
                return;
            }
        }
    }

    /// Claims some streams side by side, of which at most so many stay claimed. False if the store does not answer.
    async fn take_of(&self, streams: &[u16], missing: usize) -> bool {
        let queue = &self.shared.queue;
        let claims = streams.iter().map(|&stream| async move {
            let claim = queue.claim(stream).await;
            claim.map_err(|error| (stream, error))
        });
        let (mut claimed, mut answered) = (Vec::new(), true);
        for answer in join_all(claims).await {
            match answer {
                Ok(Some(claim)) => claimed.push(claim),
                Ok(None) => {}
                Err((stream, error)) => {
                    self.shared.troubles.failed(Call::Claim, stream, &error);
                    answered = false;
                }
            }
        }
        let too_many = claimed.split_off(missing.min(claimed.len()));
        for claim in claimed {
            self.shared.troubles.done(Call::Claim, claim.stream);
            self.mine.lock().insert(claim.stream, self.begin(claim));
        }
        join_all(too_many.iter().map(|claim| self.release(claim))).await;
        answered
    }

    fn begin(&self, claim: Claim) -> Mine {
        let counted = &self.shared.metrics.queue;
        counted.claims.inc();
        if claim.taken_over {
            counted.takeovers.inc();
        }
        let ends = Ends::default();
        let reader = reader::run(Arc::clone(&self.shared), claim, ends.clone());
        Mine {
            claim,
            renewed: Instant::now(),
            ends,
            reader: tokio::spawn(reader),
            leaves: None,
            released: false,
        }
    }

    async fn finish(&self) {
        self.mine.lock().values_mut().for_each(Mine::leave);
        loop {
            self.give_back().await;
            let next = self
                .mine
                .lock()
                .values()
                .next()
                .map(|mine| mine.ends.over.clone());
            let Some(over) = next else {
                break;
            };
            // However it ends: it is looked at.
            let _ = timeout(self.every, over.cancelled()).await;
        }
        if let Err(error) = self.shared.queue.leave().await {
            self.shared.troubles.failed(Call::Leave, 0, &error);
        }
        self.count();
    }

    fn count(&self) {
        let mine = self.mine.lock();
        let entries: u64 = mine.values().map(|mine| mine.claim.entries).sum();
        let metrics = &self.shared.metrics.queue;
        let streams = i64::try_from(mine.len()).unwrap_or(i64::MAX);
        metrics.streams.set(streams);
        metrics
            .entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        let oldest = mine.values().map(Mine::oldest).max();
        metrics.oldest.set(oldest.unwrap_or_default().as_secs_f64());
    }

    fn streams(&self, which: impl Fn(&Mine) -> bool) -> Vec<u16> {
        let mine = self.mine.lock();
        let mine = mine.iter().filter(|(_, mine)| which(mine));
        mine.map(|(stream, _)| *stream).collect()
    }
}

impl Mine {
    fn renew(&mut self, claim: Claim) {
        self.claim = claim;
        self.renewed = Instant::now();
    }

    /// How long its oldest entry has waited, as far as is known: while the store is away, it goes on waiting.
    fn oldest(&self) -> Duration {
        match self.claim.age {
            Duration::ZERO => Duration::ZERO,
            age => age + self.renewed.elapsed(),
        }
    }

    fn leave(&mut self) {
        self.leaves.get_or_insert_with(Instant::now);
        self.ends.stop.cancel();
    }

    fn is_over(&self) -> bool {
        self.ends.over.is_cancelled() || self.reader.is_finished()
    }

    fn leaves_for(&self, time: Duration) -> bool {
        self.leaves.is_some_and(|since| since.elapsed() >= time)
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}
