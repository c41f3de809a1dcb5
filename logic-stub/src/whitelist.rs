//! The comets' whitelists: users and keys whose every step they note. Changed at all comets that live, together.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use protocol::grpc::comet::v1::{WhitelistReply, WhitelistRequest, whitelist_request::Change};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    comets::Comets,
    kick::{Failure, KickError, Limits, answer, client},
};

/// Changes whitelists. Shared by all requests.
pub struct Whitelists {
    comets: Arc<Comets>,
    limits: Limits,
}

/// What the comets answered.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The list of each comet.
    pub comets: BTreeMap<String, List>,
    /// Comets that were not reached, and why.
    pub unreached: BTreeMap<String, String>,
}

/// One comet's list.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct List {
    /// Users on it.
    pub mids: Vec<i64>,
    /// Keys on it.
    pub keys: Vec<String>,
    /// Connections whose steps are noted.
    pub connections: u32,
}

impl Whitelists {
    /// Calls `comets`.
    pub fn new(comets: Arc<Comets>, limits: Limits) -> Self {
        Self { comets, limits }
    }

    /// Changes the lists of all comets, or only asks for them.
    pub async fn change(
        &self,
        change: Change,
        mids: Vec<i64>,
        keys: Vec<String>,
    ) -> Result<Listed, KickError> {
        let known = self.comets.known();
        if known.is_empty() {
            return Err(KickError::NoComet);
        }
        let request = WhitelistRequest {
            change: change.into(),
            mids,
            keys,
        };
        let deadline = Instant::now() + self.limits.timeout;
        let calling = known.iter().map(|(name, comet)| {
            let request = request.clone();
            async move {
                let calling = async {
                    let (mut client, request) = client(Some(comet), request, &self.limits)?;
                    answer(client.whitelist(request), deadline, &self.limits).await
                };
                (name.as_ref().to_owned(), calling.await)
            }
        });
        let mut calling: FuturesUnordered<_> = calling.collect();
        let mut listed = Listed::default();
        while let Some((name, answer)) = calling.next().await {
            listed.put(name, answer);
        }
        Ok(listed)
    }
}

impl Listed {
    fn put(&mut self, comet: String, answer: Result<WhitelistReply, Failure>) {
        match answer {
            Ok(WhitelistReply {
                mids,
                keys,
                connections,
            }) => {
                let list = List {
                    mids,
                    keys,
                    connections,
                };
                self.comets.insert(comet, list);
            }
            Err(failure) => {
                tracing::warn!(%comet, %failure, "a comet's whitelist stays as it is");
                self.unreached.insert(comet, failure.to_string());
            }
        }
    }
}

impl fmt::Debug for Whitelists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whitelists")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
