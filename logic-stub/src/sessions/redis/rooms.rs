//! What comets report of their rooms, in goim's form, and the sum of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use redis::Value;
use serde::{Deserialize, Serialize};

use super::{
    RedisSessions, city, millis, names, record,
    scripts::{READ_ROOMS, REPORT_ROOMS},
    wire::{Call, read},
};
use crate::sessions::{RoomCounts, StoreError, memory::REPORT_MAX_AGE};

/// goim's number of fields for one comet's rooms.
const FIELDS: u32 = 64;

/// Reports in one round trip: one may have megabytes.
const REPORTS: usize = 16;

/// The last sum, or why there is none.
#[derive(Debug)]
pub(super) struct Sum {
    answer: Result<Arc<RoomCounts>, StoreError>,
    /// By the machine's clock: when it was asked for.
    asked: Instant,
    holds_until: Instant,
}

/// A field of goim's.
#[derive(Debug, Serialize, Deserialize)]
struct Online {
    server: String,
    /// `null` is how goim writes an empty map.
    #[serde(default)]
    room_count: Option<HashMap<String, i32>>,
    /// Seconds since 1970.
    updated: i64,
}

impl RedisSessions {
    pub(super) async fn report_rooms_now(
        &self,
        server: &str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Result<(), StoreError> {
        if epoch.is_none() {
            self.enlist(server).await?;
        }
        let (name, updated) = (server.to_owned(), self.clock.seconds_since_1970());
        let life = millis(self.limits.expire);
        let args = blocking(move || {
            let epoch = epoch.map(record::epoch).unwrap_or_default();
            let mut args = vec![epoch.into_bytes(), life.into_bytes()];
            for (field, value) in fields(&name, counts, updated)? {
                args.push(field.to_string().into_bytes());
                args.push(value);
            }
            Ok(args)
        });
        let call = Call::Script {
            script: &REPORT_ROOMS,
            keys: vec![names::rooms(server), names::rooms_epoch(server)],
            args: args.await?,
        };
        self.wire.ask(call).await
    }

    /// One task asks Redis at a time; the others take what it found.
    pub(super) async fn room_counts_now(&self) -> Result<Arc<RoomCounts>, StoreError> {
        let arrived = Instant::now();
        let mut sum = self.sum.lock().await;
        if let Some(last) = &*sum {
            let holds = last.answer.is_ok() && last.holds_until > self.clock.now();
            if holds || last.asked > arrived {
                return last.answer.clone();
            }
        }
        let (asked, holds_until) = (Instant::now(), self.clock.now() + self.waits.room_counts);
        let answer = self.add_up().await;
        *sum = Some(Sum {
            answer: answer.clone(),
            asked,
            holds_until,
        });
        answer
    }

    async fn add_up(&self) -> Result<Arc<RoomCounts>, StoreError> {
        let mut servers = self.listed().await?;
        servers.extend(self.fixed.iter().cloned());
        servers.sort_unstable();
        servers.dedup();
        let oldest = self.clock.seconds_since_1970() - seconds(REPORT_MAX_AGE);
        let mut sum = RoomCounts::new();
        for servers in servers.chunks(REPORTS) {
            let call = |server: &Arc<str>| {
                let keys = [
                    names::rooms(server),
                    names::rooms_epoch(server),
                    names::alive(server),
                ];
                Call::script(&READ_ROOMS, keys, [])
            };
            let reports = self
                .wire
                .ask_all(servers.iter().map(call).collect())
                .await?;
            sum = blocking(move || {
                for report in reports {
                    add(&mut sum, report, oldest)?;
                }
                Ok(sum)
            })
            .await?;
        }
        Ok(Arc::new(sum))
    }
}

/// The fields of a report and what is in them.
fn fields(
    server: &str,
    counts: RoomCounts,
    updated: i64,
) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    let mut fields: BTreeMap<u32, HashMap<String, i32>> = BTreeMap::new();
    for (room, count) in counts {
        let field = city::hash32(room.as_bytes()) % FIELDS;
        fields.entry(field).or_default().insert(room, count);
    }
    let written = fields.into_iter().map(|(field, rooms)| {
        let online = Online {
            server: server.to_owned(),
            room_count: Some(rooms),
            updated,
        };
        Ok((field, serde_json::to_vec(&online)?))
    });
    let written: Result<_, serde_json::Error> = written.collect();
    written.map_err(|error| StoreError::Refused(format!("a report cannot be written: {error}")))
}

/// Adds one comet's report. goim's logic leaves the fields of rooms that are empty now as they were: each has its own age.
fn add(sum: &mut RoomCounts, report: Value, oldest: i64) -> Result<(), StoreError> {
    let fields: Vec<Vec<u8>> = read(report)?;
    for field in fields {
        let online: Online = match serde_json::from_slice(&field) {
            Ok(online) => online,
            Err(error) => {
                tracing::debug!(%error, "a report of rooms is not readable");
                continue;
            }
        };
        if online.updated <= oldest {
            continue;
        }
        for (room, count) in online.room_count.into_iter().flatten() {
            let total = sum.entry(room).or_default();
            *total = total.saturating_add(count);
        }
    }
    Ok(())
}

/// Megabytes of JSON are too long for a thread that serves calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StoreError::Refused(format!(
            "counting the rooms failed: {error}"
        ))),
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
