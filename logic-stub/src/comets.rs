//! Which comets there are: those whose lease lives, and those of the configuration. Each has a lane, which is closed when the
//! comet is gone or has started anew.

mod settling;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use protocol::grpc::goim::logic::CometInfo;

pub(crate) use self::settling::Settled;
use self::settling::Settling;
use crate::{
    config,
    lanes::{Lane, Lanes, Loss},
    sessions::{Leases, Sessions, StoreError},
};

/// How long a look at the leases may take, so that whoever looks every `comets.refresh` has seen in this time more what was there.
const LOOK: Duration = Duration::from_millis(500);

/// All comets, as of the last refresh. Shared by all pushes.
#[derive(Debug)]
pub struct Comets {
    sessions: Store,
    lanes: Lanes,
    fixed: Vec<(Arc<str>, Arc<CometInfo>)>,
    started: Instant,
    refresh: Duration,
    known: ArcSwap<Known>,
    /// Comets whose lease has ended without a word, and whose clients may still be there.
    cut_off: ArcSwap<Vec<Arc<str>>>,
    /// How long that is believed.
    cut_off_for: Duration,
    /// Since when they are known.
    settling: Settling,
    /// One refresh at a time, so that an older answer of the store never replaces a newer one.
    refreshing: tokio::sync::Mutex<()>,
}

/// The comets by name.
pub type Known = BTreeMap<Arc<str>, Arc<Comet>>;

/// A store that tells no one what is in it.
struct Store(Arc<dyn Sessions>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

/// A comet that pushes can be sent to.
#[derive(Debug)]
pub struct Comet {
    /// The name under which it calls logic.
    pub name: Arc<str>,
    /// What is known of it.
    pub info: Arc<CometInfo>,
    /// When it last said so; for comets of the configuration, when this process started.
    pub renewed: Instant,
    /// The way to it; none when its address is none.
    pub(crate) lane: Option<Arc<Lane>>,
}

impl Comet {
    /// Its host name: what it says, else the name under which it calls.
    pub fn hostname(&self) -> &str {
        if self.info.hostname.is_empty() {
            &self.name
        } else {
            &self.info.hostname
        }
    }

    /// Whether its lane has lost it since it last said that it lives: it may be dead.
    pub fn is_suspect(&self) -> bool {
        let failed = self.lane.as_ref().and_then(|lane| lane.failed());
        failed.is_some_and(|failed| failed > self.renewed)
    }
}

impl Comets {
    /// The comets of the configuration; the others are found by [`Comets::refresh`]. Must be called in a tokio runtime.
    pub fn new(sessions: Arc<dyn Sessions>, comets: &config::Comets, lanes: Lanes) -> Self {
        let fixed = comets
            .fixed
            .iter()
            .map(|comet| (comet.server.as_str().into(), Arc::new(info(comet))));
        let comets = Self {
            sessions: Store(sessions),
            lanes,
            fixed: fixed.collect(),
            started: Instant::now(),
            refresh: comets.refresh.get(),
            known: ArcSwap::default(),
            cut_off: ArcSwap::default(),
            cut_off_for: comets.cut_off.get(),
            settling: Settling::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        comets.put(Leases::default());
        comets
    }

    /// The comets as of the last refresh.
    pub fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Comets that may have clients and cannot be reached, as of the last refresh: their lease has ended less than
    /// `comets.cutOff` ago, and they did not say that they leave.
    pub fn cut_off(&self) -> Arc<Vec<Arc<str>>> {
        self.cut_off.load_full()
    }

    /// The comets as of the last refresh, looked up once more if one of `names` is not among them: it may have registered with
    /// another logic-stub a moment ago.
    pub async fn known_with<'a>(
        &self,
        names: impl Iterator<Item = &'a Arc<str>>,
    ) -> Result<Arc<Known>, StoreError> {
        let known = self.known();
        if names.into_iter().all(|name| known.contains_key(name)) {
            return Ok(known);
        }
        self.refresh().await?;
        Ok(self.known())
    }

    /// Asks the store which leases live.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one = self.refreshing.lock().await;
        let leases = self.sessions.0.leases().await?;
        let ended: Vec<Arc<str>> = leases
            .ended
            .iter()
            .map(|of| Arc::clone(&of.server))
            .collect();
        self.put(leases);
        self.settling.note(&self.known(), ended);
        Ok(())
    }

    /// Whether who is not known may be taken to be gone, by somebody who wants to send what was there `age` ago. After a start, or
    /// when none was known, comets whose leases ended meanwhile get the time of one `lease` to renew them.
    pub(crate) fn settled(&self, age: Duration, lease: Duration) -> Settled {
        self.settling
            .settled(age.saturating_sub(self.known_after()), lease)
    }

    /// How long it takes from a lease's first renewal until all who share the store, and refresh as often as this process, have
    /// seen the comet.
    pub fn known_after(&self) -> Duration {
        if self.sessions.0.is_shared() {
            self.refresh + LOOK
        } else {
            Duration::ZERO
        }
    }

    /// Waits until nothing is in any lane.
    pub async fn idle(&self) {
        for comet in self.known().values() {
            if let Some(lane) = &comet.lane {
                lane.idle().await;
            }
        }
    }

    /// Ends all lanes: what is in them is lost.
    pub fn close(&self) {
        for comet in self.known().values() {
            if let Some(lane) = &comet.lane {
                lane.close(Loss::LaneClosed);
            }
        }
    }

    /// A lease wins over the configuration: the comet itself knows best.
    fn put(&self, leases: Leases) {
        let Leases { alive, ended } = leases;
        let before = self.known.load_full();
        let fixed = self
            .fixed
            .iter()
            .map(|(name, info)| (Arc::clone(name), (Arc::clone(info), self.started)));
        let registered = alive
            .into_iter()
            .map(|lease| (lease.server, (lease.info, lease.renewed)));
        let by_name: BTreeMap<_, _> = fixed.chain(registered).collect();
        let mut known = Known::new();
        for (name, (info, renewed)) in by_name {
            let lane = self.lane(before.get(&name), &name, &info);
            let comet = Comet {
                name: Arc::clone(&name),
                info,
                renewed,
                lane,
            };
            known.insert(name, Arc::new(comet));
        }
        self.close_old(&before, &known);
        let cut_off = ended
            .into_iter()
            .filter(|ended| ended.since < self.cut_off_for && !known.contains_key(&ended.server));
        let cut_off = cut_off.map(|ended| ended.server).collect();
        self.cut_off.store(Arc::new(cut_off));
        self.known.store(Arc::new(known));
    }

    /// The lane that the comet has, unless it has started anew. goim's own comet does not say.
    fn lane(
        &self,
        before: Option<&Arc<Comet>>,
        name: &Arc<str>,
        info: &CometInfo,
    ) -> Option<Arc<Lane>> {
        let same = before.filter(|before| {
            let (old, new) = (before.info.epoch, info.epoch);
            old == new || old == 0 || new == 0
        });
        let unmoved = same.filter(|before| before.info.grpc_address == info.grpc_address);
        if let Some(before) = unmoved {
            return before.lane.clone();
        }
        let address = &info.grpc_address;
        let Some(endpoint) = self.lanes.endpoint(address) else {
            tracing::warn!(comet = %name, address, "a comet's gRPC address is none: no push can reach it");
            return None;
        };
        if let Some(lane) = same.and_then(|before| before.lane.clone()) {
            lane.move_to(endpoint);
            return Some(lane);
        }
        Some(Arc::new(self.lanes.open(name, endpoint)))
    }

    /// Closes the lanes that no comet has any more.
    fn close_old(&self, before: &Known, now: &Known) {
        for (name, comet) in before {
            let Some(old) = &comet.lane else { continue };
            match now.get(name).map(|comet| &comet.lane) {
                None => {
                    old.close(Loss::LeaseEnded);
                    self.lanes.forget(name);
                }
                Some(None) => old.close(Loss::NoAddress),
                Some(Some(lane)) if !Arc::ptr_eq(old, lane) => old.close(Loss::CometRestarted),
                Some(Some(_)) => {}
            }
        }
    }
}

fn info(comet: &config::FixedComet) -> CometInfo {
    CometInfo {
        grpc_address: comet.grpc_address.clone(),
        addresses: comet.addrs.clone(),
        region: comet.region.clone(),
        zone: comet.zone.clone(),
        env: comet.env.clone(),
        hostname: comet.server.clone(),
        weight: comet.weight,
        offline: comet.offline,
        ..CometInfo::default()
    }
}

#[cfg(test)]
impl Comet {
    pub(crate) fn for_test(name: &str, info: CometInfo) -> Self {
        Self {
            name: name.into(),
            info: Arc::new(info),
            renewed: Instant::now(),
            lane: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::{bearer::Credential, mutual::Dialer};

    use super::*;
    use crate::{
        clock::Clock,
        config::FixedComet,
        sessions::{MemorySessions, memory::Limits},
    };

    fn limits() -> Limits {
        Limits {
            expire: Duration::from_secs(1),
            lease: Duration::from_secs(1),
            max_sessions: 1,
            max_comets: 9,
        }
    }

    #[tokio::test]
    async fn leases_join_the_configured_and_win_over_them() {
        let store = Arc::new(MemorySessions::new(limits(), Clock::system()));
        let fixed = FixedComet {
            server: "a".into(),
            grpc_address: "1.1.1.1:1".into(),
            ..FixedComet::default()
        };
        let config = config::Comets {
            fixed: vec![fixed],
            ..config::Comets::default()
        };
        let comets = Comets::new(
            Arc::clone(&store) as Arc<dyn Sessions>,
            &config,
            Lanes::new(
                config::Lanes::default(),
                config::RpcClient::default(),
                Credential::default(),
                Dialer::default(),
                Arc::default(),
            ),
        );
        assert_eq!(
            comets.known().keys().map(AsRef::as_ref).collect::<Vec<_>>(),
            ["a"]
        );

        let lease = |address: &str| CometInfo {
            grpc_address: address.to_owned(),
            epoch: 1,
            ..CometInfo::default()
        };
        store.renew_lease("a", lease("2.2.2.2:2")).await.unwrap();
        store.renew_lease("b", lease("no address")).await.unwrap();
        comets.refresh().await.unwrap();
        let known = comets.known();
        assert_eq!(known["a"].info.grpc_address, "2.2.2.2:2");
        assert!(known["a"].lane.is_some());
        assert!(known["b"].lane.is_none());
    }
}
