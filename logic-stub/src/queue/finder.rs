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

impl Finder {
    /// Who gets a push and where they are; again and again while that cannot be known. None if there was no comet for too long.
    pub(super) async fn find(&self, stream: u16, whom: &Whom, since: Since) -> Option<Found> {
        let mut pause = Pause::default();
        loop {
            match self.look(whom, since).await {
                Ok(found) => {
                    self.troubles.done(Call::Find, stream);
                    match found {
                        Look::Found(found) => return Some(found),
                        Look::TooLong => return None,
                        Look::NotYet => {}
                    }
                }
                Err(error) => self.troubles.failed(Call::Find, stream, &error),
            }
            pause.wait().await;
        }
    }

    /// Notes whether the store is the one of before.
    pub(super) async fn remember(&self) -> Result<(), StoreError> {
        self.remembers().await.map(drop)
    }

    async fn look(&self, whom: &Whom, since: Since) -> Result<Look, PushError> {
        let age = since.elapsed();
        match self.comets.settled(age, self.lease) {
            Settled::Nobody(time) if time.min(age) >= self.retry => return Ok(Look::TooLong),
            Settled::Nobody(_) | Settled::NotYet => return Ok(Look::NotYet),
            Settled::Yes => {}
        }
        let found = match self.pusher.find(whom.clone()).await {
            // It has just become so.
            Err(PushError::NoComet) => return Ok(Look::NotYet),
            found => found?,
        };
        if found.lacks_some() && !self.remembers().await? {
            return Ok(Look::NotYet);
        }
        Ok(Look::Found(found))
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

enum Look {
    Found(Found),
    /// Who is not found may be there later.
    NotYet,
    /// There was nobody for too long.
    TooLong,
}
