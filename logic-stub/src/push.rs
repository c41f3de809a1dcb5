//! The way of a push: from keys, mids, a room or everyone into the lanes of the comets concerned, into all or none.
//!
//! # Layout
//!
//! - [`Pusher`]: finds and enqueues
//! - `message`: what is pushed, and to whom; `names`: lists for people

mod message;
mod names;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
};

use thiserror::Error;

pub use self::{
    message::{Message, Target, Whom},
    names::Names,
};
use crate::{
    comets::{Comet, Comets, Known},
    lanes::{Lane, Loss, Refused, Reservation, Tally},
    metrics::Metrics,
    sessions::{Holder, Sessions, StoreError},
};

/// Routes pushes. Shared by all requests.
pub struct Pusher {
    sessions: Arc<dyn Sessions>,
    comets: Arc<Comets>,
    metrics: Arc<Metrics>,
    /// Keys in one message to a comet.
    keys_per_call: usize,
}

/// Why a push was not taken for everyone it was for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The store did not say where the sessions are; nothing was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no comet at all.
    #[error("no comet is known")]
    NoComet,
    /// The lanes of these comets have no room for it; nothing was sent.
    #[error("nothing was sent: no room at {0}")]
    Full(Names),
    /// It would not fit into an empty lane either; nothing was sent.
    #[error("nothing was sent: {0}")]
    TooLarge(Names),
    /// There is no lane to these comets. The others have got it.
    #[error("not taken by {0}")]
    Unreached(Names),
}

/// Where those are whom a push is for.
#[derive(Debug)]
pub(crate) struct Found {
    /// Who gets it by each comet.
    targets: BTreeMap<Arc<str>, Vec<Target>>,
    /// The comets as of then.
    known: Arc<Known>,
    /// Who is not online.
    absent: Absent,
    /// Comets that it is for too, and that are cut off.
    cut_off: Arc<Vec<Arc<str>>>,
}

#[derive(Debug)]
enum Absent {
    Keys(Vec<String>),
    Mids(Vec<String>),
}

impl Found {
    /// The keys that it is for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        let targets = self.targets.values().flatten();
        targets.flat_map(|target| match target {
            Target::Keys(keys) => keys.as_slice(),
            Target::Room(_) | Target::Everyone { .. } => &[],
        })
    }

    /// Leaves out the keys of which `keep` says so by their comets, and forgets who is not online.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Arc<str>, &String) -> bool) {
        for (comet, targets) in &mut self.targets {
            for target in targets.iter_mut() {
                if let Target::Keys(keys) = target {
                    keys.retain(|key| keep(comet, key));
                }
            }
            targets.retain(|target| target.weight() > 0);
        }
        self.targets.retain(|_, targets| !targets.is_empty());
        self.absent = Absent::Keys(Vec::new());
    }
}

impl Pusher {
    /// Routes by what `sessions` knows to `comets`, in messages of at most `keys_per_call` keys.
    pub fn new(
        sessions: Arc<dyn Sessions>,
        comets: Arc<Comets>,
        keys_per_call: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            sessions,
            comets,
            metrics,
            keys_per_call,
        }
    }

    /// Puts a message into the lanes. Answers which of the keys or mids are not online. `report` is told what becomes of it.
    pub async fn push(
        &self,
        message: &Message,
        whom: Whom,
        report: Option<&Arc<Tally>>,
    ) -> Result<Names, PushError> {
        let label = whom.label();
        let outcome = async {
            let found = self.find(whom).await?;
            self.enqueue(message, &found, report)?;
            Ok(found.absent.into_names())
        };
        let outcome = outcome.await;
        match &outcome {
            Ok(_) => drop(self.metrics.pushes(label).inc()),
            Err(error) => self.refused(error),
        }
        outcome
    }

    /// Fails if there is no comet at all.
    pub fn check_comets(&self) -> Result<(), PushError> {
        if self.comets.known().is_empty() {
            return Err(PushError::NoComet);
        }
        Ok(())
    }

    /// Changes whenever the store may have forgotten where they are.
    pub(crate) async fn generation(&self) -> Result<u64, StoreError> {
        self.sessions.generation().await
    }

    /// Counts a push of which nothing was taken.
    pub(crate) fn refused(&self, error: &PushError) {
        let reason = match error {
            PushError::Full(_) | PushError::TooLarge(_) => "lane_full",
            PushError::Store(_) => "store",
            PushError::NoComet => "no_comet",
            PushError::Unreached(_) => return,
        };
        self.metrics.refused_pushes(reason).inc();
    }

    /// Looks up where they are.
    pub(crate) async fn find(&self, whom: Whom) -> Result<Found, PushError> {
        match whom {
            Whom::Keys(keys) => self.find_keys(keys).await,
            Whom::Mids(mids) => self.find_mids(mids).await,
            Whom::Room(room) => self.all_comets(&Target::Room(room)),
            Whom::Everyone { speed } => {
                // goim's job shares the speed among the comets.
                let comets = i32::try_from(self.comets.known().len())
                    .unwrap_or(i32::MAX)
                    .max(1);
                let speed = if speed > 0 {
                    (speed / comets).max(1)
                } else {
                    0
                };
                self.all_comets(&Target::Everyone { speed })
            }
        }
    }

    /// These, at their comets.
    pub(crate) fn there(&self, targets: impl Iterator<Item = (Arc<str>, Target)>) -> Found {
        Found {
            targets: targets
                .map(|(comet, target)| (comet, vec![target]))
                .collect(),
            known: self.comets.known(),
            absent: Absent::Keys(Vec::new()),
            cut_off: Arc::default(),
        }
    }

    /// Whether all comets have the lanes that they had when the receivers were looked up. If not, one of them may have started anew,
    /// and who is there now is reached by its new lane alone.
    pub(crate) fn is_current(&self, found: &Found) -> bool {
        let (now, then) = (self.comets.known(), &found.known);
        let lane = |comet: &Arc<Comet>| comet.lane.as_ref().map(Arc::as_ptr);
        let same = |((a, one), (b, other)): ((_, &Arc<Comet>), (_, &Arc<Comet>))| {
            a == b && lane(one) == lane(other)
        };
        Arc::ptr_eq(&now, then)
            || (now.len() == then.len() && now.iter().zip(then.iter()).all(same))
    }

    async fn find_keys(&self, keys: Vec<String>) -> Result<Found, PushError> {
        let holders = self.sessions.holders(&keys).await?;
        let mut absent = Vec::new();
        let mut online = Vec::new();
        for (key, holder) in keys.into_iter().zip(holders) {
            match holder {
                Some(holder) => online.push((key, holder)),
                None => absent.push(key),
            }
        }
        self.found(online, Absent::Keys(absent)).await
    }

    async fn find_mids(&self, mids: Vec<i64>) -> Result<Found, PushError> {
        let sessions = self.sessions.of_mids(&mids).await?;
        let online: HashSet<i64> = sessions.iter().map(|session| session.mid).collect();
        let absent = mids.iter().filter(|mid| !online.contains(mid));
        let absent = Absent::Mids(absent.map(ToString::to_string).collect());
        let sessions = sessions
            .into_iter()
            .map(|session| (session.key, session.holder));
        self.found(sessions.collect(), absent).await
    }

    async fn found(
        &self,
        online: Vec<(String, Holder)>,
        absent: Absent,
    ) -> Result<Found, PushError> {
        let mut by_comet: BTreeMap<Arc<str>, Vec<String>> = BTreeMap::new();
        for (key, holder) in online {
            by_comet.entry(holder.server).or_default().push(key);
        }
        let known = self.comets.known_with(by_comet.keys()).await?;
        let targets = by_comet.into_iter().map(|(comet, keys)| {
            let parts = keys.chunks(self.keys_per_call);
            (
                comet,
                parts.map(|part| Target::Keys(part.to_vec())).collect(),
            )
        });
        Ok(Found {
            targets: targets.collect(),
            known,
            absent,
            // Keys there are not online, and counted as that.
            cut_off: Arc::default(),
        })
    }

    fn all_comets(&self, target: &Target) -> Result<Found, PushError> {
        self.check_comets()?;
        let known = self.comets.known();
        let targets = known
            .keys()
            .map(|name| (Arc::clone(name), vec![target.clone()]));
        Ok(Found {
            targets: targets.collect(),
            known,
            absent: Absent::Keys(Vec::new()),
            cut_off: self.comets.cut_off(),
        })
    }

    /// Puts the message into the lanes of all comets concerned, or into none. Comets without a lane do not hold up the others:
    /// trying again would not help.
    pub(crate) fn enqueue(
        &self,
        message: &Message,
        found: &Found,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let mut reserved = Vec::with_capacity(found.targets.len());
        let mut full = Vec::new();
        let mut too_large = Vec::new();
        let mut unreached = Vec::new();
        for (name, targets) in &found.targets {
            match lane_of(found.known.get(name)) {
                Ok(lane) => match lane.reserve(message, targets, report) {
                    Ok(room) => reserved.push(room),
                    Err(refused) => {
                        let names = match refused {
                            Refused::Full { .. } => &mut full,
                            Refused::TooLarge { .. } => &mut too_large,
                        };
                        names.push(format!("comet {name} ({refused})"));
                    }
                },
                Err(why) => unreached.push((name, targets, why)),
            }
        }
        if !too_large.is_empty() {
            return Err(PushError::TooLarge(too_large.into()));
        }
        if !full.is_empty() {
            return Err(PushError::Full(full.into()));
        }
        let offline = found.absent.count() as u64;
        self.metrics.offline.inc_by(offline);
        if let Some(report) = report {
            match &found.absent {
                Absent::Keys(keys) => report.absent(keys),
                Absent::Mids(mids) => report.absent_users(mids.len() as u64),
            }
        }
        reserved.iter().for_each(Reservation::announce);
        reserved.into_iter().for_each(Reservation::fill);
        self.miss(&found.cut_off, report);
        self.lose(unreached, report)
    }

    /// Counts a message for comets that are cut off. Pushing it again would not help, so it is taken all the same.
    fn miss(&self, cut_off: &[Arc<str>], report: Option<&Arc<Tally>>) {
        for _ in cut_off {
            self.metrics.lose(Loss::LeaseEnded, 1);
            if let Some(report) = report {
                report.lose(Loss::LeaseEnded, &Target::Everyone { speed: 0 });
            }
        }
    }

    fn lose(
        &self,
        unreached: Vec<(&Arc<str>, &Vec<Target>, Loss)>,
        report: Option<&Arc<Tally>>,
    ) -> Result<(), PushError> {
        let mut names = Vec::new();
        for (comet, targets, why) in unreached {
            tracing::warn!(%comet, reason = why.label(), "there is no lane to a comet");
            for target in targets {
                self.metrics.lose(why, target.weight());
                if let Some(report) = report {
                    report.lose(why, target);
                }
            }
            names.push(format!("comet {comet} ({why})"));
        }
        if names.is_empty() {
            Ok(())
        } else {
            Err(PushError::Unreached(names.into()))
        }
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("comets", &self.comets)
            .finish_non_exhaustive()
    }
}

impl Found {
    /// Whether somebody is not online.
    pub(crate) fn lacks_some(&self) -> bool {
        self.absent.count() > 0
    }
}

impl Absent {
    fn count(&self) -> usize {
        match self {
            Self::Keys(names) | Self::Mids(names) => names.len(),
        }
    }

    fn into_names(self) -> Names {
        match self {
            Self::Keys(names) | Self::Mids(names) => names.into(),
        }
    }
}

fn lane_of(comet: Option<&Arc<Comet>>) -> Result<&Lane, Loss> {
    let comet = comet.ok_or(Loss::NotKnown)?;
    comet.lane.as_deref().ok_or(Loss::NoAddress)
}
