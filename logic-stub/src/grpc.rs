//! goim's gRPC service for comets, with health and reflection beside it. `counted` counts its calls.

mod counted;

use std::{net::IpAddr, sync::Arc};

use common::{bearer::Guard, health, incoming::Incoming, readiness::Readiness};
use protocol::{
    Token,
    grpc::goim::logic::{
        CometInfo, ConnectReply, ConnectReq, ConnectionRef, DisconnectReply, DisconnectReq,
        HeartbeatReply, HeartbeatReq, NodesReply, NodesReq, OnlineReply, OnlineReq, ReceiveReply,
        ReceiveReq,
        logic_server::{self, LogicServer},
    },
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Server};
use uuid::Uuid;

use self::counted::Counted;
use crate::{
    business::Refusal,
    config::{Bounds, PerMid},
    logic::Logic,
    sessions::{Client, Holder, LeaseRenewal, RoomCounts, Session, StoreError},
};

/// Bytes of a stream and of a connection that may be under way, as goim's clients have it.
const WINDOW: u32 = 16 << 20;

/// Public addresses that a comet may name: a list for people to configure.
const MAX_ADDRESSES: usize = 64;

/// Bytes of a door's name and of a client's address: an IPv6 address with scope and port has at most 80.
const MAX_CLIENT_TEXT: usize = 128;

type Answer<T> = Result<Response<T>, Status>;

/// Serves comets on `listener` until `shutdown`, then waits for the calls under way.
pub async fn serve(
    listener: TcpListener,
    logic: Arc<Logic>,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let config = &logic.config.rpc_server;
    let metrics = Arc::clone(&logic.metrics);
    let failed = move || {
        metrics.rpc_refusals("handshake").inc();
    };
    let (max, stuck) = (config.max_connections, config.timeout.get());
    let acceptor = logic.access.acceptor.clone();
    let incoming = Incoming::new(listener, max, stuck, acceptor, failed);
    let (reporter, health_service) = tonic_health::server::health_reporter();
    reporter.set_serving::<LogicServer<Counted>>().await;
    health::announce(readiness, reporter.clone(), shutdown.clone()).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(protocol::grpc::DESCRIPTORS)
    };
    let reflection_v1 = reflection()
        .build_v1()
        .map_err(|error| tracing::error!(%error, "no reflection"))
        .ok();
    let reflection_v1alpha = reflection().build_v1alpha().ok();
    let drained = shutdown.clone();
    tokio::spawn(async move {
        drained.cancelled().await;
        reporter.set_not_serving::<LogicServer<Counted>>().await;
    });
    let service = LogicServer::new(Counted(Service(Arc::clone(&logic))))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.max_message)
        .max_encoding_message_size(config.max_message);
    let metrics = Arc::clone(&logic.metrics);
    let guard = Guard::new(
        logic.access.callers.clone(),
        config.tls.asks(),
        move |refused| {
            metrics.rpc_refusals(refused.label()).inc();
        },
    );
    Server::builder()
        .timeout(config.timeout.get())
        .max_concurrent_streams(config.max_streams)
        // A caller that gives up many calls at once is slow, not hostile: h2 would close its connection after 20.
        .http2_max_pending_accept_reset_streams(Some(config.max_streams as usize))
        .http2_keepalive_interval(Some(config.keep_alive_interval.get()))
        .http2_keepalive_timeout(Some(config.keep_alive_timeout.get()))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .layer(guard)
        .add_service(service)
        .add_service(health_service)
        .add_optional_service(reflection_v1)
        .add_optional_service(reflection_v1alpha)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
}

/// goim's `Logic` service.
#[derive(Debug)]
pub struct Service(Arc<Logic>);

impl Service {
    /// The service of `logic`, for servers that are not [`serve`].
    pub fn new(logic: Arc<Logic>) -> Self {
        Self(logic)
    }

    fn session(
        &self,
        (mid, key, server): (i64, String, &str),
        connection: Option<&ConnectionRef>,
    ) -> Result<Session, Status> {
        let bounds = &self.0.config.limits;
        name("server", server, bounds.server)?;
        name("key", &key, bounds.key)?;
        let client: Client = connection.map(Into::into).unwrap_or_default();
        for (field, text) in [
            ("connection.door", &client.door),
            ("connection.client_address", &client.address),
        ] {
            at_most(field, text, MAX_CLIENT_TEXT)?;
        }
        at_most("connection.platform", &client.platform, bounds.platform)?;
        let connection = connection.map(Into::into);
        let holder = Holder {
            server: server.into(),
            connection,
        };
        Ok(Session {
            mid,
            key,
            holder,
            client,
        })
    }

    /// Who a client is that shows this token.
    async fn identify(&self, request: &ConnectReq) -> Result<Token, Status> {
        let Logic {
            config,
            business,
            access,
            metrics,
            ..
        } = &*self.0;
        let count = |reason| {
            metrics.refused_logins(reason).inc();
        };
        let max = config.limits.token;
        if request.token.len() > max {
            count("limits");
            let words = format!("token: over the limit of {max} bytes");
            return Err(Status::invalid_argument(words));
        }
        let token = match &access.clients {
            Some(jwt) => jwt.check(&request.token).map_err(|refused| {
                count(refused.label());
                // The comet tells its client this text.
                Status::permission_denied(refused.to_string())
            })?,
            None => business.authenticate(request).await.map_err(|refused| {
                count("open");
                refusal(refused)
            })?,
        };
        bounded(&token, &config.limits).inspect_err(|_| count("limits"))?;
        Ok(token)
    }

    async fn renew_lease(&self, server: &str, info: CometInfo) -> Result<bool, Status> {
        let bounds = &self.0.config.limits;
        if info.epoch == 0 {
            return Err(Status::invalid_argument("comet.epoch: 0 is none"));
        }
        if info.addresses.len() > MAX_ADDRESSES {
            return Err(Status::invalid_argument(format!(
                "comet.addresses: more than {MAX_ADDRESSES}"
            )));
        }
        let texts = [
            &info.grpc_address,
            &info.region,
            &info.zone,
            &info.env,
            &info.hostname,
            &info.version,
        ];
        for text in texts.into_iter().chain(&info.addresses) {
            if text.len() > bounds.server {
                return Err(Status::invalid_argument(format!(
                    "comet: a text over the limit of {}",
                    bounds.server
                )));
            }
        }
        let known = match self.0.sessions.renew_lease(server, info).await? {
            LeaseRenewal::Known => true,
            LeaseRenewal::New => false,
            LeaseRenewal::Superseded => {
                return Err(Status::failed_precondition(format!(
                    "a comet {server} started later than this one"
                )));
            }
        };
        Ok(known)
    }

    /// What all comets report, or as much of it as a message holds: then `server`'s own rooms, which is enough for the
    /// heartbeats that it answers.
    async fn exchange_rooms(
        &self,
        server: &str,
        epoch: Option<u64>,
        counts: RoomCounts,
    ) -> Result<RoomCounts, StoreError> {
        let Logic {
            config, sessions, ..
        } = &*self.0;
        let mine: Vec<String> = counts.keys().cloned().collect();
        sessions.report_rooms(server, epoch, counts).await?;
        let all = sessions.room_counts().await?;
        if all.len() <= config.limits.rooms {
            return Ok(RoomCounts::clone(&all));
        }
        let known = |room: String| all.get(&room).map(|count| (room, *count));
        Ok(mine.into_iter().filter_map(known).collect())
    }

    /// The counts that a comet reports, without what could not be: a report with an odd room is better than none.
    fn plausible(&self, server: &str, reported: RoomCounts) -> RoomCounts {
        let bounds = &self.0.config.limits;
        let all = reported.len();
        let plausible = reported
            .into_iter()
            .filter(|(room, count)| *count >= 0 && room.len() <= bounds.room);
        let plausible: RoomCounts = plausible.take(bounds.rooms).collect();
        if plausible.len() < all {
            let ignored = all - plausible.len();
            tracing::warn!(server, ignored, "a comet reports rooms beyond the limits");
        }
        plausible
    }
}

#[tonic::async_trait]
impl logic_server::Logic for Service {
    async fn connect(&self, request: Request<ConnectReq>) -> Answer<ConnectReply> {
        let request = request.into_inner();
        let config = &self.0.config;
        let token = self.identify(&request).await?;
        let key = if token.key.is_empty() {
            new_key(&request)
        } else {
            token.key
        };
        let mut session = self.session(
            (token.mid, key, &request.server),
            request.connection.as_ref(),
        )?;
        session.client.platform = token.platform;
        self.0.log_in(&session).await?;
        let sends_platform = config.sessions.per_mid == PerMid::Platform;
        let heartbeat = config.node.client_timeout().as_nanos();
        Ok(Response::new(ConnectReply {
            mid: session.mid,
            key: session.key,
            room_id: token.room_id,
            accepts: token.accepts,
            heartbeat: i64::try_from(heartbeat).unwrap_or(i64::MAX),
            // Comets keep it for each connection: only where it is needed.
            platform: if sends_platform {
                session.client.platform
            } else {
                String::new()
            },
        }))
    }

    async fn disconnect(&self, request: Request<DisconnectReq>) -> Answer<DisconnectReply> {
        let DisconnectReq {
            mid,
            key,
            server,
            connection,
        } = request.into_inner();
        let session = self.session((mid, key, &server), connection.as_ref())?;
        let has = self.0.sessions.remove(&session).await?;
        Ok(Response::new(DisconnectReply { has }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatReq>) -> Answer<HeartbeatReply> {
        let HeartbeatReq {
            mid,
            key,
            server,
            connection,
        } = request.into_inner();
        let session = self.session((mid, key, &server), connection.as_ref())?;
        self.0.hear(&session).await?;
        Ok(Response::new(HeartbeatReply {}))
    }

    async fn renew_online(&self, request: Request<OnlineReq>) -> Answer<OnlineReply> {
        let OnlineReq {
            server,
            room_count,
            comet,
        } = request.into_inner();
        let Logic {
            config, sessions, ..
        } = &*self.0;
        name("server", &server, config.limits.server)?;
        let epoch = comet.as_ref().map(|info| info.epoch);
        let lease_known = match comet {
            Some(info) => self.renew_lease(&server, info).await?,
            None => false,
        };
        let counts = self.plausible(&server, room_count);
        // At once, since each takes a turn or two of the store, and a comet does not wait for ever.
        let (all_room_count, store_generation, ()) = tokio::try_join!(
            self.exchange_rooms(&server, epoch, counts),
            sessions.generation(),
            self.0.comets.refresh(),
        )?;
        let known_after = self.0.comets.known_after();
        Ok(Response::new(OnlineReply {
            all_room_count,
            lease_known,
            store_generation,
            known_after_ms: u32::try_from(known_after.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    async fn receive(&self, request: Request<ReceiveReq>) -> Answer<ReceiveReply> {
        self.0.business.receive(request.into_inner()).await?;
        Ok(Response::new(ReceiveReply {}))
    }

    async fn nodes(&self, request: Request<NodesReq>) -> Answer<NodesReply> {
        let NodesReq {
            platform,
            client_ip,
        } = request.into_inner();
        let client: Option<IpAddr> = client_ip.parse().ok();
        Ok(Response::new(self.0.nodes(&platform, client)))
    }
}

/// A key for a connection that brought none. The same for the same connection, so that a comet which asks again, since it got no
/// answer, does not leave a session of another key behind.
fn new_key(request: &ConnectReq) -> String {
    let key = match &request.connection {
        Some(ConnectionRef { epoch, id, .. }) => {
            let name = format!("{epoch} {id} {}", request.server);
            Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
        }
        None => Uuid::new_v4(),
    };
    key.to_string()
}

fn bounded(token: &Token, bounds: &Bounds) -> Result<(), Status> {
    at_most("the token's key", &token.key, bounds.key)?;
    at_most("the token's room_id", &token.room_id, bounds.room)?;
    at_most("the token's platform", &token.platform, bounds.platform)?;
    if token.accepts.len() > bounds.accepts {
        return Err(Status::invalid_argument(format!(
            "the token's accepts: more than {}",
            bounds.accepts
        )));
    }
    Ok(())
}

fn name(field: &str, value: &str, max: usize) -> Result<(), Status> {
    match value.len() {
        0 => Err(Status::invalid_argument(format!("{field}: empty"))),
        len if len > max => Err(Status::invalid_argument(format!(
            "{field}: {len} bytes are over the limit of {max}"
        ))),
        _ => Ok(()),
    }
}

fn at_most(field: &str, value: &str, max: usize) -> Result<(), Status> {
    if value.len() > max {
        return Err(Status::invalid_argument(format!(
            "{field}: over the limit of {max} bytes"
        )));
    }
    Ok(())
}

fn refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Malformed(message) => Status::invalid_argument(message),
        Refusal::Unauthenticated(message) => Status::unauthenticated(message),
    }
}
