//! Writes that replicas must have before they are answered.
//!
//! Redis's `WAIT` holds up the connection that it comes by until the replicas have what the same connection has written, or until a
//! time has passed. So these writes have a connection of their own, and those that come meanwhile go together with one `WAIT`.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::sessions::{
    StoreError,
    redis::{
        Waits, Whereabouts,
        wire::{Call, Wire, read},
    },
};

/// Writes that go together, and as many that wait for the next time.
const TOGETHER: usize = 256;

/// The way of such writes.
pub(super) struct Commits {
    /// One for each server; a cluster's streams have one each.
    servers: Box<[mpsc::Sender<Write>]>,
    /// Nobody waits longer.
    limit: Duration,
}

/// The answer to a write.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) answer: Value,
    /// The replicas that had it in time.
    pub(super) replicas: usize,
}

struct Write {
    call: Call,
    tell: oneshot::Sender<Result<Committed, StoreError>>,
}

struct Writer {
    wire: Arc<Wire>,
    replicas: usize,
    wait: Duration,
}

impl Commits {
    /// Waits for so many replicas, half as long as Redis has for an answer: then it can still say how many there were.
    pub(super) fn new(
        place: Whereabouts,
        streams: u16,
        replicas: usize,
        waits: &Waits,
    ) -> Result<Self, StoreError> {
        let wire = Arc::new(Wire::new(place, waits, "the queue's replicas")?);
        let servers = if wire.is_cluster() { streams } else { 1 };
        let servers = (0..servers).map(|_| {
            let (sender, waiting) = mpsc::channel(TOGETHER);
            let writer = Writer {
                wire: Arc::clone(&wire),
                replicas,
                wait: waits.answer / 2,
            };
            tokio::spawn(writer.run(waiting));
            sender
        });
        Ok(Self {
            servers: servers.collect(),
            limit: waits.dial + waits.answer,
        })
    }

    /// What Redis says to `call`, a write that does no harm when it is done twice. A caller that gives up takes nothing back.
    pub(super) async fn ask(&self, server: usize, call: Call) -> Result<Committed, StoreError> {
        let asked = async {
            let (tell, told) = oneshot::channel();
            self.servers[server].send(Write { call, tell }).await.ok()?;
            told.await.ok()
        };
        match timeout(self.limit, asked).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(StoreError::Unavailable("the queue has ended".to_owned())),
            Err(_) => {
                let text = format!(
                    "no answer of redis and its replicas within {:?}",
                    self.limit
                );
                Err(StoreError::Unavailable(text))
            }
        }
    }
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Write>) {
        let mut writes = Vec::with_capacity(TOGETHER);
        while waiting.recv_many(&mut writes, TOGETHER).await > 0 {
            let (calls, tell): (Vec<Call>, Vec<_>) = writes
                .drain(..)
                .map(|write| (write.call, write.tell))
                .unzip();
            let outcomes = self.commit(calls).await;
            for (tell, outcome) in tell.into_iter().zip(outcomes) {
                // Whoever has given up needs no answer.
                let _ = tell.send(outcome);
            }
        }
    }

    /// One write that Redis refuses spoils no other.
    async fn commit(&self, calls: Vec<Call>) -> Vec<Result<Committed, StoreError>> {
        let each: Vec<Call> = calls.clone();
        match self.commit_together(calls).await {
            Ok(committed) => committed.into_iter().map(Ok).collect(),
            Err(StoreError::Refused(_)) if each.len() > 1 => {
                let mut outcomes = Vec::with_capacity(each.len());
                for call in each {
                    let committed = self.commit_together(vec![call]).await;
                    outcomes.push(committed.map(|mut committed| committed.remove(0)));
                }
                outcomes
            }
            Err(error) => each.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn commit_together(&self, mut calls: Vec<Call>) -> Result<Vec<Committed>, StoreError> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.replicas).arg(super::millis(self.wait));
        calls.push(Call::Plain(wait));
        let mut answers = self.wire.ask_together(calls).await?;
        let replicas: usize = read(answers.pop().unwrap_or_default())?;
        let committed = |answer| Committed { answer, replicas };
        Ok(answers.into_iter().map(committed).collect())
    }
}
