//! The way to a master that sentinels name: asked for when there is no connection, and again when it was lost, does not answer, or
//! is a replica by now.

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, RedisResult, TlsMode,
    aio::MultiplexedConnection,
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::{Waits, place::Sentinels};

/// A connection to whichever server is the master.
pub(super) struct Master {
    /// One search at a time.
    sentinels: tokio::sync::Mutex<SentinelClient>,
    connection: Mutex<Option<MultiplexedConnection>>,
    config: AsyncConnectionConfig,
}

impl Master {
    pub(super) fn new(place: &Sentinels, waits: &Waits, tcp: TcpSettings) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(waits.dial))
            .set_response_timeout(Some(waits.answer));
        Ok(Self {
            sentinels: tokio::sync::Mutex::new(client(place, tcp)?),
            connection: Mutex::default(),
            config,
        })
    }

    /// The connection that there is, or one to the server that the sentinels name now.
    pub(super) async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        let mut sentinels = self.sentinels.lock().await;
        // Somebody else may have searched meanwhile.
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        let connection = sentinels
            .get_async_connection_with_config(&self.config)
            .await?;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// The connection is of no use any more.
    pub(super) fn forget(&self) {
        *self.connection.lock() = None;
    }
}

/// The server that is the master now.
pub(super) async fn master(place: &Sentinels, tcp: TcpSettings) -> RedisResult<Client> {
    client(place, tcp)?.async_get_client().await
}

fn client(place: &Sentinels, tcp: TcpSettings) -> RedisResult<SentinelClient> {
    let addresses = place.nodes.iter().map(|node| node.0.addr().clone());
    let settings = &place.settings;
    let mut builder =
        SentinelClientBuilder::new(addresses, &place.master, SentinelServerType::Master)?
            .set_client_to_redis_db(settings.db())
            .set_client_to_redis_tcp_settings(tcp.clone())
            .set_client_to_sentinel_tcp_settings(tcp);
    if let Some(username) = settings.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if !place.password.is_empty() {
        builder = builder.set_client_to_sentinel_password(&place.password);
    }
    if place.secure {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = &place.certificates {
        builder = builder.set_client_to_redis_certificates(certificates.clone());
    }
    builder.build()
}
