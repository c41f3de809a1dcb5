//! A caller's end of TLS between the services.

use std::{
    fmt::Display,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Error};
use tower::Service;

use super::{
    ClientTls, anyone,
    files::{self, Loaded},
};
use crate::{
    ends::Shown,
    watched::{WatchError, Watched},
};

/// How a caller connects to gRPC servers: over TLS, or without. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Dialer(Option<Secured>);

/// Connects over TLS.
#[derive(Debug, Clone)]
struct Secured {
    source: Source,
    /// For whom the server's certificate must be; else for the host of its address.
    name: Option<ServerName<'static>>,
}

#[derive(Debug, Clone)]
enum Source {
    Files(Arc<Watched<Loaded<ClientConfig>>>),
    Fixed(Arc<ClientConfig>),
}

impl Dialer {
    /// That of a configuration, which is without TLS unless it says otherwise. Must be called in a tokio runtime.
    pub fn configured(tls: &ClientTls) -> Result<Self, WatchError> {
        if !tls.is_on() {
            return Ok(Self::default());
        }
        let mut paths = vec![Path::new(&tls.ca_file)];
        if !tls.cert_file.is_empty() {
            paths.extend([Path::new(&tls.cert_file), Path::new(&tls.private_file)]);
        }
        let file = tls.cert_file.clone();
        let load = move |contents: &[Vec<u8>]| files::of_a_client(&file, contents);
        let watched = Watched::start_together(&paths, load)?;
        Ok(Self(Some(Secured {
            source: Source::Files(Arc::new(watched)),
            name: owned_name(&tls.server_name),
        })))
    }

    /// Over TLS with whoever answers, whatever the certificate says.
    pub(crate) fn to_anyone() -> Result<Self, rustls::Error> {
        Ok(Self(Some(Secured {
            source: Source::Fixed(Arc::new(anyone::config()?)),
            name: None,
        })))
    }

    /// The same, to addresses that were found under the name of `host`: unless the configuration has a name, certificates must be
    /// for this one.
    #[must_use]
    pub fn to_host(&self, host: &str) -> Self {
        let mut dialer = self.clone();
        if let Some(secured) = &mut dialer.0 {
            secured.name = secured.name.take().or_else(|| owned_name(host));
        }
        dialer
    }

    /// What servers are shown now, if that is something.
    pub fn shown(&self) -> Option<Shown> {
        match &self.0.as_ref()?.source {
            Source::Files(watched) => watched.get().shown.clone(),
            Source::Fixed(_) => None,
        }
    }

    /// A server at `host:port`.
    pub fn endpoint(&self, address: impl Display) -> Result<Endpoint, Error> {
        let scheme = if self.0.is_some() { "https" } else { "http" };
        Endpoint::from_shared(format!("{scheme}://{address}"))
    }

    /// Connects to it.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match &self.0 {
            None => endpoint.connect().await,
            Some(secured) => endpoint.connect_with_connector(secured.clone()).await,
        }
    }

    /// Connects to it with the first call.
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(secured) => endpoint.connect_with_connector_lazy(secured.clone()),
        }
    }
}

impl Secured {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let host = uri.host().unwrap_or_default();
        // An address of IPv6 stands in brackets there.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match self.name {
            Some(name) => name,
            None => owned_name(host).ok_or_else(|| io::Error::other("the address has no host"))?,
        };
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let config = match &self.source {
            Source::Files(watched) => Arc::clone(&watched.get().config),
            Source::Fixed(config) => Arc::clone(config),
        };
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Secured {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

fn owned_name(host: &str) -> Option<ServerName<'static>> {
    let name = ServerName::try_from(host).ok()?;
    Some(name.to_owned())
}
