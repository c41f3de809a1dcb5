//! How pushes get into the streams.

use futures_util::future::try_join_all;

use super::{RedisQueue, commits::Committed, millis, scripts::APPEND};
use crate::{
    queue::Part,
    sessions::{
        StoreError,
        redis::{
            time::RedisTime,
            wire::{Call, read},
        },
    },
};

/// How much longer the name of a push is kept than anybody waits for an answer.
const NAMES_LIVE: u32 = 2;

/// What became of calls that append.
#[derive(Default)]
struct Appended<'a> {
    /// The parts that came too late.
    late: Vec<&'a [Part]>,
    /// Why others are refused.
    refused: Option<StoreError>,
    /// Whether any is stored.
    stored: bool,
}

impl RedisQueue {
    pub(super) async fn append_now(&self, parts: &[Part]) -> Result<(), StoreError> {
        let together = if self.wire.is_cluster() {
            1
        } else {
            parts.len().max(1)
        };
        let calls: Vec<&[Part]> = parts.chunks(together).collect();
        let first = self.append_once(&calls).await?;
        // An answer that came says that it is late: the connection took its time, its clock was set, or it is another server. It has just
        // told the time.
        let again = self.append_once(&first.late).await?;
        let too_late = || StoreError::Unavailable("redis's clock does not go as ours".to_owned());
        let refused = first.refused.or(again.refused);
        match refused.or((!again.late.is_empty()).then(too_late)) {
            Some(error @ StoreError::TooFew { .. }) => Err(error),
            Some(error) if first.stored || again.stored => Err(StoreError::Partly(Box::new(error))),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn append_once<'a>(&self, calls: &[&'a [Part]]) -> Result<Appended<'a>, StoreError> {
        let mut appended = Appended::default();
        let answers = self.exchange(calls).await?;
        for (parts, Committed { answer, replicas }) in calls.iter().zip(answers) {
            let answer: Vec<u64> = read(answer)?;
            if let (Some(part), Some(millis)) = (parts.first(), answer.get(1)) {
                self.time_of(part.stream)
                    .note(std::time::Instant::now(), *millis);
            }
            match answer.first() {
                Some(0) => appended.refused = Some(self.limits.too_many_messages()),
                Some(1) => appended.refused = Some(self.limits.too_many_bytes()),
                Some(3) => appended.late.push(*parts),
                Some(_) | None => {
                    appended.stored = true;
                    let wanted = self.limits.replicas;
                    if replicas < wanted {
                        appended.refused = Some(StoreError::TooFew { replicas, wanted });
                    }
                    let mine = answer.into_iter().skip(2);
                    mine.filter_map(|stream| u16::try_from(stream).ok())
                        .for_each(|stream| self.wakes.wake(stream));
                }
            }
        }
        Ok(appended)
    }

    async fn exchange(&self, calls: &[&[Part]]) -> Result<Vec<Committed>, StoreError> {
        let asked = calls.iter().map(|parts| self.append_call(parts));
        let Some(commits) = &self.commits else {
            let answers = self.wire.ask_all(asked.collect()).await?;
            let alone = |answer| Committed {
                answer,
                replicas: 0,
            };
            return Ok(answers.into_iter().map(alone).collect());
        };
        let server = |parts: &[Part]| parts.first().map_or(0, |part| self.server_of(part.stream));
        let asked = calls.iter().zip(asked);
        try_join_all(asked.map(|(parts, call)| commits.ask(server(parts), call))).await
    }

    /// Numbers servers; the streams of a cluster have one each, as far as is known here.
    fn server_of(&self, stream: u16) -> usize {
        if self.wire.is_cluster() {
            usize::from(stream)
        } else {
            0
        }
    }

    /// What is known of the clock of the server that has a stream; a single server has all. It is noted when an answer comes, so what
    /// is reckoned from it is never too late: nothing is stored that was given up.
    pub(super) fn time_of(&self, stream: u16) -> &RedisTime {
        &self.times[self.server_of(stream)]
    }

    fn append_call(&self, parts: &[Part]) -> Call {
        let keys = parts.iter().flat_map(|part| {
            let names = self.names_key(part.stream);
            self.keys(part.stream).into_iter().chain([names])
        });
        let patience = parts
            .first()
            .map_or(0, |part| self.time_of(part.stream).after(self.waits.answer));
        let mut args = vec![
            self.limits.messages.to_string().into_bytes(),
            self.limits.bytes.to_string().into_bytes(),
            self.process.clone().into_bytes(),
            patience.to_string().into_bytes(),
            millis(NAMES_LIVE * (self.waits.dial + self.waits.answer)).into_bytes(),
        ];
        for part in parts {
            args.push(part.stream.to_string().into_bytes());
            args.push(part.id.0.to_vec());
            args.push(part.content.to_vec());
        }
        Call::Script {
            script: &APPEND,
            keys: keys.collect(),
            args,
        }
    }
}
