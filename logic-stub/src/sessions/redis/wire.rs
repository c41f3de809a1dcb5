//! The way to Redis: one multiplexed connection to one server, or one to each master of a cluster. It is made when it is first
//! needed, made anew when it is lost, and nobody waits for it longer than the limits.

use std::{fmt, time::Duration};

use futures_util::future::try_join_all;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind,
    Value,
    aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig},
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};

use super::{
    Place, Waits,
    health::{Health, Outcome},
    place::Node,
    scripts::Script,
};
use crate::sessions::StoreError;

/// The shortest pause before a cluster is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A connection for all calls.
pub(super) struct Wire {
    link: Link,
    place: Place,
    /// The longest time for one round trip, connecting included.
    limit: Duration,
    health: Health,
}

enum Link {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// What Redis is asked to do; all of its keys are in one slot.
pub(super) enum Call {
    Plain(Cmd),
    Script {
        script: &'static Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    },
}

impl Call {
    /// A script with its keys and arguments.
    pub(super) fn script<const K: usize, const A: usize>(
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
                    redis::cmd("EVALSHA").arg(&*script.hash).to_owned()
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
}

impl Wire {
    /// Connects when it is first needed. Must be called in a tokio runtime.
    pub(super) fn new(place: Place, waits: &Waits) -> Result<Self, StoreError> {
        let link = match &place {
            Place::Single(node) => single(node, waits).map(Link::Single),
            Place::Cluster(nodes) => cluster(nodes, waits).map(Link::Cluster),
        };
        Ok(Self {
            link: link.map_err(|error| fault(&place, &error))?,
            place,
            limit: waits.dial + waits.answer,
            health: Health::new(waits.pause),
        })
    }

    /// Whether it leads to a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.link, Link::Cluster(_))
    }

    /// The answer to one call.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        let mut answers = self.ask_all(vec![call]).await?;
        let answer = answers.pop().unwrap_or_default();
        read(answer)
    }

    /// The answers to calls that do not depend on one another, in one round trip.
    pub(super) async fn ask_all(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        self.exchange(&calls, Order::Any).await
    }

    /// The answers to calls each of which is done before the next one starts: one round trip to a single server, one for each
    /// call to a cluster.
    pub(super) async fn ask_in_turn(&self, calls: Vec<Call>) -> Result<Vec<Value>, StoreError> {
        self.exchange(&calls, Order::InTurn).await
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
        self.health.note(outcome, &self.place);
        answers.map_err(|fault| fault.error)
    }

    async fn attempt(&self, calls: &[Call], order: Order) -> Result<Vec<Value>, Fault> {
        let exchanged = tokio::time::timeout(self.limit, self.exchange_scripts(calls, order));
        match exchanged.await {
            Ok(answers) => answers.map_err(|error| Fault {
                // A cluster that lost a node still has others, and knows when to connect.
                lost: !self.is_cluster() && error.is_io_error() && !error.is_timeout(),
                error: fault(&self.place, &error),
            }),
            Err(_) => Err(Fault {
                error: StoreError::Unavailable(format!(
                    "{}: no answer within {:?}",
                    self.place, self.limit
                )),
                lost: false,
            }),
        }
    }

    /// Scripts that Redis does not have (it has restarted, or sees them for the first time) are sent with their text.
    async fn exchange_scripts(&self, calls: &[Call], order: Order) -> RedisResult<Vec<Value>> {
        let mut answers = self.transmit(calls, order, false).await?;
        let first_unknown = answers
            .iter()
            .position(|answer| answer.as_ref().is_err_and(is_unknown_script));
        if let Some(first) = first_unknown {
            answers.truncate(first);
            answers.extend(self.transmit(&calls[first..], order, true).await?);
        }
        answers.into_iter().collect()
    }

    async fn transmit(
        &self,
        calls: &[Call],
        order: Order,
        with_text: bool,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let commands = calls.iter().map(|call| call.command(with_text));
        match (&self.link, order) {
            (Link::Single(manager), _) => {
                let mut pipeline = Pipeline::with_capacity(calls.len());
                for command in commands {
                    pipeline.add_command(command);
                }
                let mut manager = manager.clone();
                let answers = manager
                    .send_packed_commands(&pipeline, 0, calls.len())
                    .await?;
                Ok(answers.into_iter().map(Value::extract_error).collect())
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
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// What Redis answered, as something that the caller can use.
pub(super) fn read<T: FromRedisValue>(answer: Value) -> Result<T, StoreError> {
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

fn cluster(nodes: &[Node], waits: &Waits) -> RedisResult<ClusterConnection> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let client = ClusterClient::builder(nodes.iter().map(|node| node.0.clone()))
        .connection_timeout(waits.dial)
        .response_timeout(waits.answer)
        .overall_response_timeout(Some(waits.dial + waits.answer))
        .min_retry_wait(millis(FIRST_PAUSE))
        .max_retry_wait(millis(waits.pause))
        .tcp_settings(tcp(waits))
        .build()?;
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
