//! Where the receivers of a stored push are. That they are not there is believed when those who have them had the time to say so.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    reader::Pause,
    troubles::{Call, Troubles},
};
use crate::{
    comets::{Comets, Settled},
    push::{Found, PushError, Pusher, Whom},
    sessions::StoreError,
};

/// Looks up receivers for all readers of a process.
pub(super) struct Finder {
    pub(super) pusher: Arc<Pusher>,
    pub(super) comets: Arc<Comets>,
    pub(super) troubles: Arc<Troubles>,
    /// Life of a comet's lease: in this time it renews it, and registers what the store has forgotten.
    pub(super) lease: Duration,
    /// How long a push may wait while there is no comet.
    pub(super) retry: Duration,
    pub(super) memory: tokio::sync::Mutex<Memory>,
}

/// Whether the store may have forgotten sessions.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// When the question was put that was answered last, and the answer.
    asked: Option<(Instant, u64)>,
    /// When another answer than before was noticed.
    forgot: Option<Instant>,
}

/// When a push was stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    age: Duration,
    then: Instant,
}

impl Since {
    /// So long ago.
    pub(super) fn new(age: Duration) -> Self {
        let then = Instant::now();
        Self { age, then }
    }

    fn elapsed(self) -> Duration {
        self.age + self.then.elapsed()
    }
}

/// Where the receivers of a push are.
#[derive(Debug)]
pub(super) enum Located {
    /// There. Who is not among them is not online.
    At(Found),
    /// Somebody is not known, and the store may have forgotten where that is.
    Perhaps,
    /// There was no comet for too long.
    Nowhere,
}

impl Finder {
    /// Who gets a push and where they are; again and again while that cannot be asked, and while the comets are not known.
    pub(super) async fn find(&self, stream: u16, whom: &Whom, since: Since) -> Located {
        let mut pause = Pause::default();
        loop {
            match self.look(whom, since).await {
                Ok(found) => {
                    self.troubles.done(Call::Find, stream);
                    if let Some(located) = found {
                        return located;
                    }
                }
                Err(error) => self.troubles.failed(Call::Find, stream, &error),
            }
            pause.wait().await;
        }
    }

    /// The same, and again while the store may have forgotten somebody. None if there was no comet for too long.
    pub(super) async fn find_all(&self, stream: u16, whom: &Whom, since: Since) -> Option<Found> {
        let mut pause = Pause::default();
        loop {
            match self.find(stream, whom, since).await {
                Located::At(found) => return Some(found),
                Located::Nowhere => return None,
                Located::Perhaps => pause.wait().await,
            }
        }
    }

    /// Notes whether the store is the one of before.
    pub(super) async fn remember(&self) -> Result<(), StoreError> {
        self.remembers().await.map(drop)
    }

    /// None while the comets are not known.
    async fn look(&self, whom: &Whom, since: Since) -> Result<Option<Located>, PushError> {
        let age = since.elapsed();
        match self.comets.settled(age, self.lease) {
            Settled::Nobody(time) if time.min(age) >= self.retry => {
                return Ok(Some(Located::Nowhere));
            }
            Settled::Nobody(_) | Settled::NotYet => return Ok(None),
            Settled::Yes => {}
        }
        let found = match self.pusher.find(whom.clone()).await {
            // It has just become so.
            Err(PushError::NoComet) => return Ok(None),
            found => found?,
        };
        if found.lacks_some() && !self.remembers().await? {
            return Ok(Some(Located::Perhaps));
        }
        Ok(Some(Located::At(found)))
    }

    /// Whether the store has, for a lease, not been another one, or one that has started again. The answer is not older than the
    /// question; those that come together are answered together.
    async fn remembers(&self) -> Result<bool, StoreError> {
        let came = Instant::now();
        let mut memory = self.memory.lock().await;
        if memory.asked.is_none_or(|(asked, _)| asked < came) {
            let asked = Instant::now();
            let now = self.pusher.generation().await?;
            if memory.asked.is_some_and(|(_, before)| before != now) {
                tracing::info!(
                    "the session store may have forgotten sessions: who is absent is waited for"
                );
                memory.forgot = Some(asked);
            }
            memory.asked = Some((asked, now));
        }
        let forgot = memory.forgot;
        Ok(forgot.is_none_or(|forgot| forgot.elapsed() >= self.lease))
    }
}
