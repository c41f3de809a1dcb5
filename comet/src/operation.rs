//! Messages from a client to the application: handed to logic's Receive, then answered with the same operation and sequence and
//! an empty body. Slow logic does not hold up anything else: heartbeats and pings are answered meanwhile.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use protocol::{Header, grpc::goim::protocol::Proto};

use crate::{channel::Channel, gateway::Gateway, logic::Session};

/// The way of one connection's messages to logic. What waits is bounded by the connection's ring, in which each message owes an
/// answer.
#[derive(Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Gateway>,
    channel: Arc<Channel>,
    session: Arc<Session>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Header, Bytes)>,
    /// Tasks that make calls.
    callers: u32,
}

impl Upstream {
    /// For one connection.
    pub fn new(gateway: &Arc<Gateway>, channel: Arc<Channel>, session: Arc<Session>) -> Self {
        let gateway = Arc::clone(gateway);
        Self(Arc::new(Inner {
            gateway,
            channel,
            session,
            state: Mutex::default(),
        }))
    }

    /// Sends a message, for which an answer is owed.
    pub fn send(&self, header: Header, body: Bytes) {
        let mut state = self.0.state.lock();
        state.waiting.push_back((header, body));
        if state.callers < self.0.gateway.logic_config.receive_concurrency {
            state.callers += 1;
            tokio::spawn(call_all(Arc::clone(&self.0)));
        }
    }
}

/// Makes calls until nothing waits.
async fn call_all(inner: Arc<Inner>) {
    while let Some((header, body)) = inner.next() {
        let Header { ver, op, seq } = header;
        let proto = Proto {
            ver: ver.into(),
            op,
            seq,
            body,
        };
        // A call that fails is counted with the other calls, and the client is answered, as by goim.
        if let Err(error) = inner.gateway.logic.receive(&inner.session, proto).await {
            tracing::debug!(key = %inner.session.key, %error, "a message does not reach logic");
        }
        let mut bytes = Vec::new();
        inner.channel.door().encode(header, &[], &mut bytes);
        inner.gateway.metrics.protos_out(op).inc();
        inner.channel.answer_owed(&bytes);
    }
}

impl Inner {
    fn next(&self) -> Option<(Header, Bytes)> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.callers -= 1;
            // Nothing is kept for the next message, which may be long in coming.
            state.waiting = VecDeque::new();
        }
        next
    }
}
