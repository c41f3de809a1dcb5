//! Where sessions and pushes are kept, as the configuration says.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use common::{
    ends::{Ends, Shown},
    tls,
    watched::Watched,
};
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::{
    clock::Clock,
    config::{Config, QueueMode},
    queue::{MemoryQueue, Queue, RedisQueue},
    sessions::{
        MemorySessions, RedisSessions, Sessions, StoreError,
        redis::{PlaceError, Whereabouts},
    },
};

/// Where sessions are kept, and pushes if they are stored: what is given, or else as the configuration says. The end of the
/// certificate that Redis is shown is added to `ends`. Must be called in a tokio runtime.
pub(super) fn open(
    config: &Config,
    clock: Clock,
    sessions: Option<Arc<dyn Sessions>>,
    given: Option<Arc<dyn Queue>>,
    ends: &Ends,
    shutdown: &CancellationToken,
) -> Result<Stores, StartError> {
    let place = place(config, ends)?;
    let queue = match given {
        Some(given) => Some(given),
        None => queue(config, place.clone(), clock.clone())?,
    };
    let sessions = match (sessions, place) {
        (Some(sessions), _) => sessions,
        (None, Some(place)) => redis(config, place, clock)?,
        (None, None) => memory(config, clock, shutdown),
    };
    Ok((sessions, queue))
}

type Stores = (Arc<dyn Sessions>, Option<Arc<dyn Queue>>);

/// The configuration's Redis, if it has one. The end of the certificate that it is shown is added to `ends`.
fn place(config: &Config, ends: &Ends) -> Result<Option<Whereabouts>, StartError> {
    let Some(place) = config.store_place()? else {
        return Ok(None);
    };
    let files = config.redis.files();
    if place.is_secure() {
        // The library takes what the process has; that another one was chosen before is as well.
        let _ = Arc::unwrap_or_clone(tls::provider()).install_default();
    } else if !files.is_empty() {
        return Err(PlaceError::Plain.into());
    }
    if files.is_empty() {
        return Ok(Some(place.into()));
    }
    let redis = config.redis.clone();
    let shown = Arc::<ArcSwapOption<Shown>>::default();
    let in_use = Arc::clone(&shown);
    let followed = Watched::start_together(&files, move |contents| {
        let (certificates, shown) = redis.certificates(contents)?;
        let place = place.clone().with_certificates(certificates);
        let place = place.map_err(|error| error.to_string())?;
        in_use.store(shown.map(Arc::new));
        Ok(place)
    })?;
    ends.add(move || shown.load_full().as_deref().cloned());
    Ok(Some(followed.into()))
}

/// Sessions in Redis.
fn redis(
    config: &Config,
    place: Whereabouts,
    clock: Clock,
) -> Result<Arc<dyn Sessions>, StoreError> {
    tracing::info!(place = %place.now(), "sessions are kept in redis");
    let fixed = config.comets.fixed.iter();
    let fixed = fixed.map(|comet| comet.server.as_str().into()).collect();
    let (limits, waits) = (config.store_limits(), config.store_waits());
    Ok(Arc::new(RedisSessions::new(
        place, limits, waits, clock, fixed,
    )?))
}

/// Where pushes are stored, if the configuration has them stored.
fn queue(
    config: &Config,
    place: Option<Whereabouts>,
    clock: Clock,
) -> Result<Option<Arc<dyn Queue>>, StoreError> {
    let limits = config.queue_limits();
    match (config.queue.mode, place) {
        (QueueMode::Direct, _) | (QueueMode::Auto, None) => Ok(None),
        (QueueMode::Auto | QueueMode::Stored, Some(place)) => {
            let queue = RedisQueue::new(place, limits, config.store_waits())?;
            Ok(Some(Arc::new(queue)))
        }
        (QueueMode::Stored, None) => {
            tracing::warn!(
                "pushes are stored in memory: what waits is lost when this process ends"
            );
            Ok(Some(Arc::new(MemoryQueue::new(limits, clock))))
        }
    }
}

/// Sessions in this process.
fn memory(config: &Config, clock: Clock, shutdown: &CancellationToken) -> Arc<dyn Sessions> {
    let store = Arc::new(MemorySessions::new(config.store_limits(), clock));
    tokio::spawn(sweep(
        Arc::clone(&store),
        config.sessions.sweep.get(),
        shutdown.clone(),
    ));
    store
}

async fn sweep(store: Arc<MemorySessions>, every: Duration, shutdown: CancellationToken) {
    while shutdown
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        let swept = Arc::clone(&store);
        // A million sessions are a tenth of a second: too long for a thread that serves calls.
        let sweeping = tokio::task::spawn_blocking(move || swept.sweep());
        if let Err(error) = sweeping.await {
            tracing::error!(%error, "sweeping the sessions failed");
        }
    }
}
