//! The whitelist, changed while comet runs: the connections that are here are told at once.

use std::sync::Arc;

use protocol::grpc::comet::v1::{
    WhitelistReply, WhitelistRequest, whitelist_request::Change as Asked,
};
use tonic::Status;

use super::Pusher;
use crate::{
    channel::Channel,
    gateway::Gateway,
    logic::Session,
    whitelist::{Change, ChangeError, Names, Step},
};

/// Connections that a bucket lists in one of its turns.
const SHARE: usize = 1000;

impl Pusher {
    /// Changes the whitelist, and answers who is on it now. An error is the caller's fault, and then nothing changes.
    pub async fn whitelist(&self, request: WhitelistRequest) -> Result<WhitelistReply, Status> {
        let asked = Asked::try_from(request.change);
        let asked = asked.map_err(|_| Status::invalid_argument("change: not known"))?;
        let names = Names {
            mids: request.mids.into_iter().collect(),
            keys: request.keys.into_iter().collect(),
        };
        let change = match asked {
            Asked::None => None,
            Asked::Add => Some(Change::Add),
            Asked::Remove => Some(Change::Remove),
            Asked::Replace => Some(Change::Replace),
        };
        let gateway = &self.gateway;
        if let Some(change) = change {
            gateway.channels.whitelist.change(change, &names)?;
            tell_all(gateway).await;
        }
        let whitelist = &gateway.channels.whitelist;
        let now = whitelist.names();
        Ok(WhitelistReply {
            mids: now.mids.iter().copied().collect(),
            keys: now.keys.iter().cloned().collect(),
            connections: u32::try_from(whitelist.connections()).unwrap_or(u32::MAX),
        })
    }
}

/// Looks at every connection. One that logs in meanwhile looks for itself, after it has joined its bucket.
async fn tell_all(gateway: &Gateway) {
    for bucket in gateway.buckets.all() {
        let mut from = Some(0);
        while let Some(at) = from {
            let (some, next) = bucket.list(at, SHARE).await;
            for (session, channel) in some {
                tell(gateway, &session, &channel);
            }
            from = next;
        }
    }
}

/// Has the steps of a connection noted if it is on the whitelist now, and no longer if it is not.
pub(crate) fn tell(gateway: &Gateway, session: &Arc<Session>, channel: &Channel) {
    let is_listed = gateway.channels.whitelist.has(session.mid, &session.key);
    if is_listed != channel.is_noted() {
        channel.set_noted(is_listed.then_some((session.mid, &session.key)));
        channel.note(&Step::Noted);
    }
}

impl From<ChangeError> for Status {
    fn from(error: ChangeError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
