//! Sessions that live on HTTP requests: long-poll and Server-Sent Events. They are sessions as all others, in their buckets and
//! rooms; but each outlives the request that logged in, until the next one names it.
//!
//! # Layout
//!
//! - [`Subscriptions`]: all of them, by the names that requests know
//! - `serve`: what a request asks for; `replies`: what it is answered
//! - `visit`: requests for a session, and what they get
//! - `keeper`: the task of one session
//! - `held`: what a session's requests were given and may ask for again

mod held;
mod keeper;
mod replies;
mod serve;
mod visit;

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::Header;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::{
    keeper::Keeper,
    visit::{Rejection, Visit},
};
use super::{Login, arrival, greeting, online::Talk};
use crate::{
    channel::{Channel, Outlet},
    close::{CloseReason, CloseWhen, Farewell},
    config,
    gate::Presence,
    gateway::Gateway,
};

/// Requests that wait for one session's task.
const INBOX: usize = 4;

/// All sessions on HTTP requests.
#[derive(Debug)]
pub struct Subscriptions {
    gateway: Arc<Gateway>,
    limits: config::Subscription,
    /// One for each session that may be open.
    permits: Arc<Semaphore>,
    /// The sessions' tasks.
    tasks: TaskTracker,
    open: Mutex<HashMap<SessionId, mpsc::Sender<Visit>, foldhash::fast::RandomState>>,
}

/// By what requests name a session: 122 random bits, since whoever knows it is taken for the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SessionId(Uuid);

impl Subscriptions {
    /// None yet. Their tasks are counted in `tasks`.
    pub fn new(gateway: Arc<Gateway>, limits: config::Subscription, tasks: TaskTracker) -> Self {
        Self {
            gateway,
            permits: Arc::new(Semaphore::new(limits.sessions)),
            limits,
            tasks,
            open: Mutex::default(),
        }
    }

    /// Begins a session by a login, for this request, unless there are as many as may be. It counts as a connection, beside those
    /// of HTTP that carry it: it outlives them.
    fn begin(
        self: &Arc<Self>,
        login: Login,
        auth: Header,
        token: Bytes,
        visit: Visit,
    ) -> Result<(), Rejection> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Rejection::Full)?;
        let entered = arrival::enter(&self.gateway, login.door, login.client);
        let presence = entered.map_err(Rejection::Limit)?;
        let shared = Arc::clone(self);
        // In a task of its own: a client that goes while it logs in is not to leave half a session behind.
        self.tasks
            .spawn(shared.live(login, auth, token, visit, (presence, permit)));
        Ok(())
    }

    /// The task of a session that is open.
    fn find(&self, id: &str) -> Option<mpsc::Sender<Visit>> {
        let id = SessionId::parse(id)?;
        self.open.lock().get(&id).cloned()
    }

    async fn live(
        self: Arc<Self>,
        login: Login,
        auth: Header,
        token: Bytes,
        visit: Visit,
        counted: (Presence, OwnedSemaphorePermit),
    ) {
        let gateway = Arc::clone(&self.gateway);
        let context = Arc::clone(&gateway.channels);
        let channel = Arc::new(Channel::new(0, login.door, Outlet::Woken, context));
        let session = match greeting::log_in(&gateway, &channel, &login, auth, token).await {
            Ok(session) => session,
            Err(farewell) => return self.refuse(&channel, farewell, visit),
        };
        let id = SessionId(Uuid::new_v4());
        let (sender, visits) = mpsc::channel(INBOX);
        self.open.lock().insert(id, sender);
        let talk = Talk::begin(gateway, channel, session);
        let keeper = Keeper::new(self, id, talk, visits, counted);
        keeper.run(visit).await;
    }

    fn refuse(&self, channel: &Channel, farewell: Farewell, visit: Visit) {
        channel.close(&farewell, CloseWhen::Now);
        channel.finish();
        let reason = channel.closing().unwrap_or(CloseReason::Internal);
        self.gateway.metrics.refused_logins(reason.label()).inc();
        self.gateway.metrics.closes(reason.label()).inc();
        let (Visit::Poll { reply, .. }
        | Visit::Once { reply }
        | Visit::Stream { reply, .. }
        | Visit::Send { reply, .. }) = visit;
        // Whoever asked may have gone.
        drop(reply.send(Err(Rejection::Closed(farewell))));
    }

    fn forget(&self, id: SessionId) {
        self.open.lock().remove(&id);
    }
}

impl SessionId {
    fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.simple(), f)
    }
}

impl fmt::Debug for SessionId {
    /// Whoever reads a log is not to take a session over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId")
    }
}
