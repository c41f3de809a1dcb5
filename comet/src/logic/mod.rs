//! Calls to logic. Each has a time limit and goes to the addresses in turn; while logic is away, comet stays up.
//!
//! # Layout
//!
//! - [`Logic`]: the calls
//! - `announced`: whether logic knows this comet
//! - `targets`: the addresses, from a list and DNS
//! - [`goodbye`]: Disconnects, retried while logic is away
//! - [`register`]: all sessions once more, after logic has lost them
//! - [`renew`]: RenewOnline, comet's sign of life

mod announced;
pub mod goodbye;
pub mod register;
pub mod renew;
mod targets;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use bytes::Bytes;
use common::{
    bearer::{self, Credential},
    mutual::Dialer,
};
use protocol::grpc::goim::{
    logic::{
        ConnectReply, ConnectReq, ConnectionRef, DisconnectReq, HeartbeatReq, NodesReq,
        OnlineReply, OnlineReq, ReceiveReq, logic_client::LogicClient,
    },
    protocol::Proto,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding, transport::Channel};

use self::{
    announced::Announced,
    targets::{Dial, Targets},
};
use crate::{config::Config, metrics::Metrics, transport::Door};

/// Why a call to logic has no answer to go by.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Logic answered: the key has logged in again since.
    #[error("the key has logged in again")]
    Superseded,
    /// Logic answered: it knows who this is, and does not let it in. The words are for the client.
    #[error("logic denies: {0}")]
    Denied(String),
    /// Logic answered: no.
    #[error("logic refuses: {0}")]
    Refused(String),
    /// No address answered in time.
    #[error("logic cannot be asked: {0}")]
    Unavailable(String),
}

/// Who a session's connection is, for logic.
#[derive(Debug)]
pub struct Session {
    /// The user.
    pub mid: i64,
    /// The connection's key.
    pub key: Arc<str>,
    /// The connection's id within this comet's epoch.
    pub id: u64,
    /// How it came in.
    pub door: Door,
    /// From where.
    pub client: SocketAddr,
    /// What logic wants to hear of it again; as a rule nothing.
    pub platform: Box<str>,
    /// The tick from which on logic is told that it lives, when the client is heard.
    pub renew_at: AtomicU32,
}

#[cfg(test)]
impl Session {
    /// One for tests that need only this.
    pub(crate) fn of(key: &str, mid: i64, id: u64) -> Arc<Self> {
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let door = Door::Tcp;
        Arc::new(Self {
            mid,
            key: key.into(),
            id,
            door,
            client,
            platform: Box::default(),
            renew_at: AtomicU32::default(),
        })
    }
}

/// Logic, as comet calls it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logic(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// This comet's name.
    server: String,
    epoch: u64,
    timeout: Duration,
    targets: Targets,
    announced: Announced,
    credential: Credential,
    metrics: Arc<Metrics>,
    max_message: usize,
}

impl Logic {
    /// Begins to look up logic's addresses, until `shutdown`. `server` and `epoch` name this comet, `credential` is shown with
    /// each call, on connections that `dialer` makes.
    pub fn start(
        config: &Config,
        server: String,
        epoch: u64,
        credential: Credential,
        dialer: Dialer,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let dial = Dial {
            dialer,
            patience: config.rpc_client.dial.get(),
        };
        let targets = Targets::start(&config.logic, &dial, shutdown);
        Self(Arc::new(Inner {
            server,
            epoch,
            timeout: config.rpc_client.timeout.get(),
            targets,
            announced: Announced::new(),
            credential,
            metrics,
            max_message: config.rpc_server.max_message,
        }))
    }

    /// This comet's name.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// When this comet started, in microseconds since 1970.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Waits until all names among logic's addresses have been looked up once.
    pub async fn looked_up(&self) {
        self.0.targets.looked_up().await;
    }

    /// RenewOnline was answered, and this comet is known after so long. The first answer counts. Returns what is left of that time.
    pub fn announced(&self, known_after: Duration) -> Duration {
        self.0.announced.hear(known_after)
    }

    /// RenewOnline was not answered. Until it is for the first time, nobody comes in.
    pub(crate) fn unannounced(&self) {
        self.0.announced.miss();
    }

    /// Asks who a client is by its token, as soon as all who route pushes know this comet: a client that is in misses none.
    /// `session` has neither mid nor key yet.
    pub async fn connect(
        &self,
        id: u64,
        door: Door,
        client: SocketAddr,
        cookie: &str,
        token: Bytes,
    ) -> Result<ConnectReply, CallError> {
        if !self.0.announced.settled(self.0.timeout).await {
            let words = "logic has not heard of this comet yet";
            return Err(CallError::Unavailable(words.to_owned()));
        }
        let request = ConnectReq {
            server: self.0.server.clone(),
            cookie: cookie.to_owned(),
            token,
            connection: Some(self.connection_ref(id, door, client)),
        };
        self.call(
            "connect",
            Repeat::Harmless,
            request,
            async |mut logic, request| logic.connect(request).await,
        )
        .await
    }

    /// Tells that a connection has ended.
    pub async fn disconnect(&self, session: &Session) -> Result<bool, CallError> {
        let request = DisconnectReq {
            mid: session.mid,
            key: session.key.to_string(),
            server: self.0.server.clone(),
            connection: Some(self.connection_ref(session.id, session.door, session.client)),
        };
        let reply = self
            .call(
                "disconnect",
                Repeat::Harmless,
                request,
                async |mut logic, request| logic.disconnect(request).await,
            )
            .await?;
        Ok(reply.has)
    }

    /// Renews a session's expiry.
    pub async fn heartbeat(&self, session: &Session) -> Result<(), CallError> {
        let connection = self.connection_ref(session.id, session.door, session.client);
        let request = HeartbeatReq {
            mid: session.mid,
            key: session.key.to_string(),
            server: self.0.server.clone(),
            connection: Some(ConnectionRef {
                platform: session.platform.as_ref().to_owned(),
                ..connection
            }),
        };
        self.call(
            "heartbeat",
            Repeat::Harmless,
            request,
            async |mut logic, request| logic.heartbeat(request).await,
        )
        .await?;
        Ok(())
    }

    /// Hands on a client's message.
    pub async fn receive(&self, session: &Session, proto: Proto) -> Result<(), CallError> {
        let request = ReceiveReq {
            mid: session.mid,
            proto: Some(proto),
            connection: Some(self.connection_ref(session.id, session.door, session.client)),
        };
        self.call(
            "receive",
            Repeat::IfUnsent,
            request,
            async |mut logic, request| logic.receive(request).await,
        )
        .await?;
        Ok(())
    }

    /// Tells this comet's room counts and gets those over all comets. Compressed, as goim's.
    pub async fn renew_online(&self, request: OnlineReq) -> Result<OnlineReply, CallError> {
        self.call(
            "renew_online",
            Repeat::Harmless,
            request,
            async |logic, request| {
                let mut logic = logic.send_compressed(CompressionEncoding::Gzip);
                logic.renew_online(request).await
            },
        )
        .await
    }

    /// Asks where clients of a platform should connect: `web` gets host names, others addresses.
    pub async fn nodes(&self, platform: &str) -> Result<Vec<String>, CallError> {
        let request = NodesReq {
            platform: platform.to_owned(),
            client_ip: String::new(),
        };
        let reply = self
            .call(
                "nodes",
                Repeat::Harmless,
                request,
                async |mut logic, request| logic.nodes(request).await,
            )
            .await?;
        Ok(reply.nodes)
    }

    fn connection_ref(&self, id: u64, door: Door, client: SocketAddr) -> ConnectionRef {
        ConnectionRef {
            epoch: self.0.epoch,
            id,
            door: door.label().to_owned(),
            client_address: client.to_string(),
            platform: String::new(),
        }
    }

    /// Makes one call, to the next address while one does not answer, until one does or the time is up.
    async fn call<Q: Clone, A>(
        &self,
        name: &'static str,
        repeat: Repeat,
        request: Q,
        call: impl AsyncFn(LogicClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CallError> {
        let deadline = Instant::now() + self.0.timeout;
        let targets = self.0.targets.in_turn();
        let mut last = "no address of logic is known".to_owned();
        for (at, target) in targets.iter().enumerate() {
            let shares = match repeat {
                Repeat::Harmless => targets.len() - at,
                Repeat::IfUnsent => 1,
            };
            let client = LogicClient::new(target.channel.clone())
                .max_decoding_message_size(self.0.max_message)
                .max_encoding_message_size(self.0.max_message)
                .accept_compressed(CompressionEncoding::Gzip);
            let begun = Instant::now();
            let calling = call(client, self.0.credential.request(request.clone()));
            let answer = timeout_at(share(deadline, shares), calling).await;
            let called = |result| {
                let metrics = &self.0.metrics;
                metrics.called_logic(name, result, begun.elapsed());
            };
            target.note(answer.as_ref().is_ok_and(is_answer));
            let (result, why, may_be_taken) = match answer {
                Ok(Ok(answer)) => {
                    called("ok");
                    return Ok(answer.into_inner());
                }
                Ok(Err(status)) if is_refusal(&status) => {
                    called("refused");
                    return Err(refusal(&status));
                }
                Ok(Err(status)) => ("unavailable", describe(&status), may_be_taken(&status)),
                Err(_) => (
                    "timeout",
                    format!("no answer within {:?}", self.0.timeout),
                    true,
                ),
            };
            called(result);
            last = why;
            if may_be_taken && matches!(repeat, Repeat::IfUnsent) {
                break;
            }
        }
        Err(CallError::Unavailable(last))
    }
}

/// Whether a call may be made again at the next address.
#[derive(Debug, Clone, Copy)]
enum Repeat {
    /// It comes to the same; so no address gets more of the time than leaves as much for each of the others.
    Harmless,
    /// Only while it is certain that logic has not got it.
    IfUnsent,
}

/// The end of the time of the first of `shares`.
fn share(deadline: Instant, shares: usize) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    now + left / u32::try_from(shares.max(1)).unwrap_or(u32::MAX)
}

/// Whether logic itself said something, if only that it cannot now.
fn is_answer<A>(answer: &Result<A, Status>) -> bool {
    use std::error::Error as _;
    answer
        .as_ref()
        .map_or_else(|status| status.source().is_none(), |_| true)
}

/// Whether logic may have got a call that failed: unless there was no connection to it, or it wants another token.
fn may_be_taken(status: &Status) -> bool {
    use std::error::Error as _;
    if bearer::is_refused(status) {
        return false;
    }
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return false;
        }
        source = error.source();
    }
    true
}

fn refusal(status: &Status) -> CallError {
    let words = status.message().to_owned();
    match status.code() {
        Code::Aborted => CallError::Superseded,
        Code::PermissionDenied => CallError::Denied(words),
        _ => CallError::Refused(words),
    }
}

/// Whether logic itself answered, and would answer the same again. A status that has a source was made on this side, by a
/// connection that failed. That logic wants another token is this comet's fault, not its client's: who configures it can mend
/// that.
fn is_refusal(status: &Status) -> bool {
    use std::error::Error as _;
    let passing = matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    );
    !passing && status.source().is_none() && !bearer::is_refused(status)
}

fn describe(status: &Status) -> String {
    use std::error::Error as _;
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
