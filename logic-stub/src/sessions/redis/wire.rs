//! The way to Redis: one multiplexed connection to one server, or one to each master of a cluster. It is made when it is first
//! needed, made anew when it is lost, and nobody waits for it longer than the limits.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::try_join_all;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind,
    Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSubStream},
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};

use super::{
    Place, Waits, Whereabouts,
    health::{Health, Outcome},
    place::{Cluster, Node},
    sentinel::{self, Master},
};
use crate::sessions::StoreError;

/// The shortest pause before a cluster is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A connection for all calls.
pub(crate) struct Wire {
    place: Whereabouts,
    linked: ArcSwap<Linked>,
    waits: Waits,
    /// The longest time for one round trip, connecting included.
    limit: Duration,
    health: Health,
}

/// The connection to a place. Those that use it keep it while another one takes its place.
struct Linked {
    place: Arc<Place>,
    link: Link,
}

enum Link {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
    Sentinel(Box<Master>),
}

/// Something that Redis does in one step.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    /// The name under which Redis has it, once it was sent.
    hash: OnceLock<String>,
}

impl Script {
    /// A script of this text.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: OnceLock::new(),
        }
    }

    fn hash(&self) -> &str {
        let hash = || redis::Script::new(self.text).get_hash().to_owned();
        self.hash.get_or_init(hash)
    }
}

/// What Redis is asked to do; all of its keys are in one slot.
#[derive(Clone)]
pub(crate) enum Call {
    Plain(Cmd),
    Script {
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    },
}

impl Call {
    /// A script with its keys and arguments.
    pub(crate) fn script<const K: usize, const A: usize>(
        script: &'static Script,
        keys: [String; K],
        args: [&[u8]; A],
    ) -> Self {
        Self::Script {
            script,
            keys: keys.into(),
            args: args.map(<[u8]>::to_vec).into(),
        }
    }

    fn command(&self, with_text: bool) -> Cmd {
        match self {
            Self::Plain(command) => command.clone(),
            Self::Script { script, keys, args } => {
                let mut command = if with_text {
                    redis::cmd("EVAL").arg(script.text).to_owned()
                } else {
                    redis::cmd("EVALSHA").arg(script.hash()).to_owned()
                };
                command.arg(keys.len()).arg(keys).arg(args);
                command
            }
        }
    }
}

/// Why calls failed.
struct Fault {
    error: StoreError,
    /// Whether there is no connection.
    lost: bool,
}

/// Which of several calls may be under way together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Any,
    InTurn,
    /// In turn, by one connection.
    Together,
}

impl Wire {
    /// Connects when it is first needed, and anew when the place has other certificates. `what` names it in the log. Must be
    /// called in a tokio runtime.
    pub(crate) fn new(
        place: Whereabouts,
        waits: &Waits,
        what: &'static str,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            linked: ArcSwap::from_pointee(Linked::to(place.now(), waits)?),
            place,
            waits: *waits,
            limit: waits.dial + waits.answer,
            health: Health::new(what, waits.pause),
        })
    }

    /// Whether it leads to a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.linked.load().link, Link::Cluster(_))
    }

    /// The connection to where Redis is now.
    fn linked(&self) -> Arc<Linked> {
        let linked = self.linked.load_full();
        let place = self.place.now();
        if Arc::ptr_eq(&linked.place, &place) {
            return linked;
        }
        match Linked::to(place, &self.waits) {
            Ok(new) => {
                let new = Arc::new(new);
                self.linked.store(Arc::clone(&new));
                new
            }
            Err(error) => {
                tracing::error!(%error, "the connection of before stays");
                linked
            }
        }
    }

    /// The answer to one call.
    pub(crate) async fn ask<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        let mut answers = self.ask_all(vec![call]).await?;
        let answer = answers.pop().unwrap_or_default();
        read(answer)
    }

    /// The answers to calls that do not depend on one another, in one round trip.
    pub(crate) async fn ask_all(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        self.exchange(&calls, Order::Any).await
    }

    /// The answers to calls each of which is done before the next one starts: one round trip to a single server, one for each
    /// call to a cluster.
    pub(crate) async fn ask_in_turn(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        self.exchange(&calls, Order::InTurn).await
    }

    /// The answers to calls that go by one connection, each done before the next one starts, in one round trip. In a cluster all of
    /// their keys are in one slot. Who is not told whether they were done, as when a slot has moved, has had them done twice.
    pub(crate) async fn ask_together(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        self.exchange(&calls, Order::Together).await
    }

    async fn exchange(&self, calls: &[Call], order: Order) -> Result<Vec<Value>, StoreError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let was_lost = self.health.admit()?;
        let mut answers = self.attempt(calls, order).await;
        if was_lost && answers.as_ref().is_err_and(|fault| fault.lost) {
            // The library has said how its attempt before this call had ended, and has made another.
            answers = self.attempt(calls, order).await;
        }
        let outcome = match &answers {
            Err(Fault { error, lost: true }) => Outcome::Lost(error),
            Err(Fault {
                error: error @ StoreError::Unavailable(_),
                ..
            }) => Outcome::Failed(error),
            Ok(_) | Err(_) => Outcome::Answered,
        };
        self.health.note(outcome, &self.linked.load().place);
        answers.map_err(|fault| fault.error)
    }

    async fn attempt(&self, calls: &[Call], order: Order) -> Result<Vec<Value>, Fault> {
        let linked = self.linked();
        let exchanged = tokio::time::timeout(self.limit, linked.exchange_scripts(calls, order));
        let Ok(answers) = exchanged.await else {
            linked.forget_master();
            let text = format!("{}: no answer within {:?}", linked.place, self.limit);
            return Err(Fault {
                error: StoreError::Unavailable(text),
                lost: false,
            });
        };
        answers.map_err(|error| {
            let replica = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
            if replica || error.is_io_error() || error.is_timeout() {
                linked.forget_master();
            }
            Fault {
                // A cluster that lost a node still has others, and knows when to connect.
                lost: !self.is_cluster() && error.is_io_error() && !error.is_timeout(),
                error: fault(&linked.place, &error),
            }
        })
    }
}

impl Linked {
    fn to(place: Arc<Place>, waits: &Waits) -> Result<Self, StoreError> {
        let link = match &*place {
            Place::Single(node) => single(node, waits).map(Link::Single),
            Place::Cluster(place) => cluster(place, waits).map(Link::Cluster),
            Place::Sentinel(sentinels) => Master::new(sentinels, waits, tcp(waits))
                .map(|master| Link::Sentinel(Box::new(master))),
        };
        let link = link.map_err(|error| fault(&place, &error))?;
        Ok(Self { place, link })
    }

    /// A master that is lost, silent, or a replica by now may have a successor.
    fn forget_master(&self) {
        if let Link::Sentinel(master) = &self.link {
            master.forget();
        }
    }

    /// Scripts that Redis does not have (it has restarted, or sees them for the first time) are sent with their text. What was
    /// done is not done again, unless it had to wait for one of those.
    async fn exchange_scripts(&self, calls: &[Call], order: Order) -> RedisResult<Vec<Value>> {
        let mut answers = self.transmit(calls.iter().collect(), order, false).await?;
        let unknown = |answer: &RedisResult<Value>| answer.as_ref().is_err_and(is_unknown_script);
        let first = answers.iter().position(unknown).unwrap_or(calls.len());
        if order != Order::Any {
            answers.truncate(first);
        }
        let again: Vec<usize> = (first..calls.len())
            .filter(|&at| answers.get(at).is_none_or(unknown))
            .collect();
        if !again.is_empty() {
            let missing = again.iter().map(|&at| &calls[at]).collect();
            let found = self.transmit(missing, order, true).await?;
            for (at, answer) in again.into_iter().zip(found) {
                match answers.get_mut(at) {
                    Some(place) => *place = answer,
                    None => answers.push(answer),
                }
            }
        }
        answers.into_iter().collect()
    }

    async fn transmit(
        &self,
        calls: Vec<&Call>,
        order: Order,
        with_text: bool,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let commands = calls.iter().map(|call| call.command(with_text));
        match (&self.link, order) {
            (Link::Single(manager), _) => pipelined(&mut manager.clone(), commands).await,
            (Link::Sentinel(master), _) => {
                pipelined(&mut master.connection().await?, commands).await
            }
            (Link::Cluster(cluster), Order::Together) => {
                let commands: Vec<Cmd> = commands.collect();
                let together =
                    async || pipelined(&mut cluster.clone(), commands.clone().into_iter()).await;
                let answers = together().await?;
                if !answers.iter().any(has_moved) {
                    return Ok(answers);
                }
                // The library follows a slot for single commands only.
                if let Some(first) = commands.first() {
                    send(cluster.clone(), first.clone()).await?.ok();
                }
                together().await
            }
            (Link::Cluster(cluster), Order::Any) => {
                try_join_all(commands.map(|command| send(cluster.clone(), command))).await
            }
            (Link::Cluster(cluster), Order::InTurn) => {
                let mut answers = Vec::with_capacity(calls.len());
                for command in commands {
                    let answer = send(cluster.clone(), command).await?;
                    let unknown = answer.as_ref().is_err_and(is_unknown_script);
                    answers.push(answer);
                    if unknown {
                        break;
                    }
                }
                Ok(answers)
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("place", &self.place.now())
            .finish_non_exhaustive()
    }
}

/// What is said on a channel from now on, over a connection of its own that ends when it breaks.
pub(crate) async fn subscribe(
    place: &Place,
    waits: &Waits,
    channel: &str,
) -> RedisResult<PubSubStream> {
    let listening = async |client: Client| {
        let mut listener = client.get_async_pubsub().await?;
        listener.subscribe(channel).await?;
        Ok(listener.into_on_message())
    };
    let mut outcome = Err(timed_out());
    for node in place.nodes() {
        let limit = waits.dial + waits.answer;
        let attempt = async {
            let client = match place {
                Place::Sentinel(sentinels) => sentinel::master(sentinels, tcp(waits)).await?,
                Place::Single(_) | Place::Cluster(_) => {
                    Client::open(node.0.clone().set_tcp_settings(tcp(waits)))?
                }
            };
            listening(client).await
        };
        outcome = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(timed_out()),
        };
    }
    outcome
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// What Redis answered, as something that the caller can use.
pub(crate) fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
    redis::from_redis_value(answer).map_err(|error| {
        StoreError::Refused(format!("an answer of redis is not readable: {error}"))
    })
}

fn single(node: &Node, waits: &Waits) -> RedisResult<ConnectionManager> {
    let info = node.0.clone().set_tcp_settings(tcp(waits));
    // The pauses between attempts are ours: nobody waits through them.
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(waits.dial))
        .set_response_timeout(Some(waits.answer))
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(Client::open(info)?, config)
}

fn cluster(place: &Cluster, waits: &Waits) -> RedisResult<ClusterConnection> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let nodes = place.nodes.iter().map(|node| node.0.clone());
    let mut builder = ClusterClient::builder(nodes)
        .connection_timeout(waits.dial)
        .response_timeout(waits.answer)
        .overall_response_timeout(Some(waits.dial + waits.answer))
        .min_retry_wait(millis(FIRST_PAUSE))
        .max_retry_wait(millis(waits.pause))
        .tcp_settings(tcp(waits));
    if let Some(certificates) = &place.certificates {
        builder = builder.certs(certificates.clone());
    }
    let client = builder.build()?;
    Ok(client.get_pending_async_connection_with_config(ClusterConfig::new()))
}

/// A server that vanished without a word is noticed by TCP.
fn tcp(waits: &Waits) -> TcpSettings {
    let silence = 2 * (waits.dial + waits.answer);
    let keepalive = socket2::TcpKeepalive::new().with_time(silence.max(Duration::from_secs(1)));
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(silence);
    settings
}

/// Commands to one server, in one round trip.
async fn pipelined(
    connection: &mut impl ConnectionLike,
    commands: impl ExactSizeIterator<Item = Cmd>,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands {
        pipeline.add_command(command);
    }
    let answers = connection.req_packed_commands(&pipeline, 0, count).await?;
    Ok(answers.into_iter().map(Value::extract_error).collect())
}

/// One command; what Redis says against it is its answer.
async fn send(mut cluster: ClusterConnection, command: Cmd) -> RedisResult<RedisResult<Value>> {
    match cluster.req_packed_command(&command).await {
        Ok(answer) => Ok(answer.extract_error()),
        Err(error) if is_unknown_script(&error) => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn has_moved(answer: &RedisResult<Value>) -> bool {
    let moved = |error: &RedisError| error.is_cluster_error();
    answer.as_ref().is_err_and(moved)
}

fn fault(place: &Place, error: &RedisError) -> StoreError {
    let text = format!("{place}: {error}");
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::ResponseError | ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot,
        )
        | ErrorKind::Extension
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::InvalidClientConfig => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}
