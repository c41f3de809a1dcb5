//! Which streams this process reads. Processes that read share the streams evenly: each counts the others, gives away what is
//! beyond its share, and takes what is free.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Claim, Queue,
    reader::{self, Shared},
};
use crate::{comets::Comets, config::Config, metrics::Metrics, push::Pusher};

/// Renewals in the life of a claim.
const RENEWALS: u32 = 3;

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
    /// stream from the others.
    patience: Duration,
    mine: BTreeMap<u16, Mine>,
    /// Nothing more is begun.
    ends: bool,
}

/// A stream that this process has claimed.
struct Mine {
    claim: Claim,
    /// When it was last renewed.
    renewed: Instant,
    /// Stops its reader.
    stop: CancellationToken,
    reader: JoinHandle<()>,
    /// Since when it is being given away: when its reader is done, or has taken too long.
    leaves: Option<Instant>,
}

impl Readers {
    /// Begins to read `queue`. Must be called in a tokio runtime.
    pub fn start(
        queue: Arc<dyn Queue>,
        pusher: Arc<Pusher>,
        comets: Arc<Comets>,
        metrics: Arc<Metrics>,
        config: &Config,
    ) -> Self {
        let shared = Shared {
            queue,
            pusher,
            metrics,
            window: config.queue.window,
            retry: config.queue.retry.get(),
            report_keys: config.lanes.report_keys,
        };
        let shift = Shift {
            shared: Arc::new(shared),
            comets,
            every: config.queue.lease.get() / RENEWALS,
            patience: config.queue.lease.get(),
            mine: BTreeMap::new(),
            ends: false,
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
    async fn run(mut self, stop: CancellationToken) {
        // Without the comets, pushes would find nobody.
        while self.comets.refresh().await.is_err() {
            if stop.run_until_cancelled(sleep(self.every)).await.is_none() {
                return;
            }
        }
        loop {
            self.turn().await;
            if stop.run_until_cancelled(sleep(self.every)).await.is_none() {
                break;
            }
        }
        self.finish().await;
    }

    /// Renews what is claimed, and changes it to the share of this process.
    async fn turn(&mut self) {
        self.renew().await;
        let readers = match self.shared.queue.readers().await {
            Ok(readers) => readers.max(1),
            Err(error) => {
                tracing::debug!(%error, "who else reads the queue is not known");
                return self.count();
            }
        };
        let share = usize::from(self.shared.queue.streams()).div_ceil(readers);
        self.give_away(share);
        self.take(share).await;
        self.count();
    }

    async fn renew(&mut self) {
        let over = |mine: &Mine| mine.reader.is_finished() || mine.leaves_for(self.patience);
        for stream in self.streams(over) {
            if let Some(Mine { claim, leaves, .. }) = self.mine.remove(&stream)
                && leaves.is_some()
            {
                // What is still under way goes on to its end, or is refused for the successor's epoch.
                self.release(&claim).await;
            }
        }
        let claims = self.mine.keys().map(|&stream| {
            let queue = &self.shared.queue;
            async move { (stream, queue.claim(stream).await) }
        });
        for (stream, answer) in join_all(claims).await {
            let Some(mine) = self.mine.get_mut(&stream) else {
                continue;
            };
            match answer {
                Ok(Some(claim)) if claim.epoch == mine.claim.epoch => mine.renew(claim),
                Ok(another) => {
                    tracing::warn!(stream, "the claim of a stream of pushes had run out");
                    mine.stop.cancel();
                    self.mine.remove(&stream);
                    match another {
                        Some(claim) if self.ends => self.release(&claim).await,
                        Some(claim) => self.begin(claim),
                        None => {}
                    }
                }
                Err(error) => {
                    tracing::debug!(stream, %error, "the claim of a stream is not renewed");
                }
            }
        }
    }

    async fn release(&self, claim: &Claim) {
        if let Err(error) = self.shared.queue.release(claim).await {
            let stream = claim.stream;
            tracing::debug!(stream, %error, "a stream is not given back before its claim ends");
        }
    }

    fn give_away(&mut self, share: usize) {
        let stay = self.streams(|mine| mine.leaves.is_none());
        for stream in stay.into_iter().skip(share) {
            if let Some(mine) = self.mine.get_mut(&stream) {
                mine.leave();
            }
        }
    }

    async fn take(&mut self, share: usize) {
        let streams = self.shared.queue.streams();
        let start = rand::random_range(0..streams.max(1));
        for stream in (start..streams).chain(0..start) {
            if self.streams(|mine| mine.leaves.is_none()).len() >= share {
                return;
            }
            if self.mine.contains_key(&stream) {
                continue;
            }
            match self.shared.queue.claim(stream).await {
                Ok(Some(claim)) => self.begin(claim),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(stream, %error, "a stream cannot be claimed");
                    return;
                }
            }
        }
    }

    fn begin(&mut self, claim: Claim) {
        let counted = &self.shared.metrics.queue;
        counted.claims.inc();
        if claim.taken_over {
            counted.takeovers.inc();
        }
        let stop = CancellationToken::new();
        let reader = reader::run(Arc::clone(&self.shared), claim, stop.clone());
        let mine = Mine {
            claim,
            renewed: Instant::now(),
            stop,
            reader: tokio::spawn(reader),
            leaves: None,
        };
        self.mine.insert(claim.stream, mine);
    }

    async fn finish(&mut self) {
        self.ends = true;
        for mine in self.mine.values_mut() {
            mine.leave();
        }
        loop {
            self.renew().await;
            let Some(mine) = self.mine.values_mut().next() else {
                break;
            };
            // However it ends; claims that have to wait meanwhile are renewed.
            let _ = tokio::time::timeout(self.every, &mut mine.reader).await;
        }
        if let Err(error) = self.shared.queue.leave().await {
            tracing::debug!(%error, "the others will see later that this process reads no more");
        }
        self.count();
    }

    fn count(&self) {
        let entries: u64 = self.mine.values().map(|mine| mine.claim.entries).sum();
        let metrics = &self.shared.metrics.queue;
        let streams = i64::try_from(self.mine.len()).unwrap_or(i64::MAX);
        metrics.streams.set(streams);
        metrics
            .entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        let oldest = self.mine.values().map(Mine::oldest).max();
        metrics.oldest.set(oldest.unwrap_or_default().as_secs_f64());
    }

    fn streams(&self, which: impl Fn(&Mine) -> bool) -> Vec<u16> {
        let mine = self.mine.iter().filter(|(_, mine)| which(mine));
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
        self.stop.cancel();
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
