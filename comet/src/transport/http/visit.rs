//! What the requests of one connection lead to.

use std::{convert::Infallible, future::ready, net::SocketAddr, pin::Pin, time::Duration};

use axum::{body::Body, extract::ConnectInfo, response::IntoResponse as _};
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use hyper::{
    body::{Body as _, Incoming},
    service::Service,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::{
    Admitted, Door, subscribe,
    upgrade::{self, PATH, Refusal},
};

/// How far a connection is, beside hyper's own state.
pub(super) struct Visit {
    started: Instant,
    deadline: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: u32,
    accepted: Option<(Admitted, String, Instant)>,
}

/// Answers the requests of one connection.
pub(super) struct Visitor<'a> {
    pub(super) door: &'a Door,
    pub(super) visit: &'a Visit,
    pub(super) peer: SocketAddr,
}

impl Visit {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            started: Instant::now(),
            deadline,
            state: Mutex::default(),
        }
    }

    /// Until when the first request must be complete.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the first request is yet to come.
    pub(super) fn is_first(&self) -> bool {
        self.state.lock().requests == 0
    }

    /// Who the client of the accepted handshake is, its cookie, and the deadline of the login.
    pub(super) fn take_accepted(&self) -> Option<(Admitted, String, Instant)> {
        self.state.lock().accepted.take()
    }

    fn count(&self) {
        let requests = &mut self.state.lock().requests;
        *requests = requests.saturating_add(1);
    }

    fn accept(&self, admitted: Admitted, cookie: String) {
        let mut state = self.state.lock();
        let spent = if state.requests > 1 {
            self.started.elapsed()
        } else {
            Duration::ZERO
        };
        state.accepted = Some((admitted, cookie, self.deadline + spent));
    }
}

impl<'a> Service<Request<Incoming>> for Visitor<'a> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'a>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.visit.count();
        let door = self.door;
        if request.uri().path() == PATH {
            let serve = door.subscribe.as_ref();
            return match serve.filter(|_| subscribe::is_subscription(&request)) {
                Some(serve) => Box::pin(subscribe::answer(door, serve, request, self.peer).map(Ok)),
                None => Box::pin(ready(Ok(self.upgrade(&request)))),
            };
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        Box::pin(async move {
            let Ok(response) = door.pages.clone().oneshot(request).await;
            Ok(explain(response, door))
        })
    }
}

impl Visitor<'_> {
    fn upgrade(&self, request: &Request<Incoming>) -> Response<Body> {
        let judged = upgrade::handshake(request, &self.door.origins);
        let judged = judged.and_then(|(response, cookie)| {
            let admitted = (self.door.admit)(request.headers(), self.peer);
            Ok((response, cookie, admitted.map_err(Refusal::Limit)?))
        });
        match judged {
            Ok((response, cookie, admitted)) => {
                self.visit.accept(admitted, cookie);
                response
            }
            Err(refusal) => {
                (self.door.on_refused)(refusal);
                refusal.into_response()
            }
        }
    }
}

/// Counts a missing page, and says so where the router does not.
fn explain(response: Response<Body>, door: &Door) -> Response<Body> {
    if response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    (door.on_refused)(Refusal::NotFound);
    if response.body().is_end_stream() {
        Refusal::NotFound.into_response()
    } else {
        response
    }
}
