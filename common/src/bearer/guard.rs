//! The layer of a gRPC server that lets nobody pass who does not show who it is.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{Refused, Tokens};
use crate::incoming::PeerInfo;

/// What stays open: whether a process is ready is nobody's secret, and `--health` has neither token nor certificate.
const OPEN: &str = "/grpc.health.v1.Health/";

/// Asks each call for a token, for a certificate of its connection, or for both; but not those of the health service.
#[derive(Clone)]
pub struct Guard {
    tokens: Option<Tokens>,
    certificates: bool,
    on_refused: Arc<dyn Fn(Refused) + Send + Sync>,
}

impl Guard {
    /// Asks for one of `tokens`, if there are some, and for a certificate if `certificates` says so. `on_refused` is told of
    /// each call that is not taken.
    pub fn new(
        tokens: Option<Tokens>,
        certificates: bool,
        on_refused: impl Fn(Refused) + Send + Sync + 'static,
    ) -> Self {
        Self {
            tokens,
            certificates,
            on_refused: Arc::new(on_refused),
        }
    }

    fn check<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        if request.uri().path().starts_with(OPEN) {
            return Ok(());
        }
        let shown = self.certificate(request).and_then(|()| {
            let tokens = self.tokens.as_ref();
            tokens.map_or(Ok(()), |tokens| tokens.check(request.headers()))
        });
        shown.inspect_err(|refused| {
            tracing::debug!(path = request.uri().path(), %refused, "a call is refused");
            (self.on_refused)(*refused);
        })
    }

    fn certificate<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let peer = request.extensions().get::<PeerInfo>();
        if !self.certificates || peer.is_some_and(|peer| peer.is_certified) {
            Ok(())
        } else {
            Err(Refused::NoCertificate)
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("tokens", &self.tokens)
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            guard: self.clone(),
            inner,
        }
    }
}

/// A service behind a [`Guard`].
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.guard.check(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(refused) => Either::Right(ready(Ok(Status::from(refused).into_http()))),
        }
    }
}
