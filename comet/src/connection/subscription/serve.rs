//! What a request asks for, and its answer.

use std::{net::SocketAddr, sync::Arc};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use protocol::{
    op,
    query::{Form, Place, Query, QueryError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Subscriptions,
    visit::{Outcome, Rejection, Reply, Visit},
};
use crate::{
    connection::Login,
    transport::{
        Door,
        http::{
            self as http_door,
            subscribe::{self, Page},
        },
    },
};

/// How a request gets what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Poll,
    /// goim 1's poll.
    Once,
    Stream,
}

/// A request to log in or to go on with a session.
struct Asked {
    query: Query,
    manner: Manner,
    /// The session and the last number of a stream's that broke.
    last_event: Option<(String, u64)>,
    cookie: String,
    client: SocketAddr,
}

impl Subscriptions {
    /// Answers a request to `/sub` that is not for WebSocket.
    pub async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::POST {
            self.send(&parts, body).await
        } else {
            let client = self.gateway.forwarded(&parts.headers, peer);
            self.get(&parts, client.unwrap_or(peer)).await
        }
    }

    async fn get(self: &Arc<Self>, parts: &Parts, client: SocketAddr) -> Response<Body> {
        let query = match self.query(parts, Some(op::AUTH)) {
            Ok(query) => query,
            Err(error) => return self.bad_request(&error.to_string()),
        };
        let form = query.form.clone();
        let mut cookie = http_door::cookie(&parts.headers);
        if form != Form::Json {
            match parts.extensions.get() {
                Some(Page::Known) => {}
                Some(Page::Any) => cookie = String::new(),
                Some(Page::Untold) | None => return self.untold(),
            }
        }
        let is_stream = form == Form::Json && subscribe::wants_events(&parts.headers);
        let manner = match query.session {
            _ if is_stream => Manner::Stream,
            Some(_) => Manner::Poll,
            None => Manner::Once,
        };
        let last_event = subscribe::last_event_id(&parts.headers).and_then(Place::parse);
        let last_event = last_event.map(|place| (place.session.to_owned(), place.number));
        let asked = Asked {
            query,
            manner,
            last_event: last_event.filter(|_| is_stream),
            cookie,
            client,
        };
        let outcome = self.ask(asked).await;
        self.answer(outcome, manner, &form)
    }

    /// Hands a proto of the client's to its session.
    async fn send(&self, parts: &Parts, body: Incoming) -> Response<Body> {
        let query = match self.query(parts, None) {
            Ok(query) => query,
            Err(error) => return self.bad_request(&error.to_string()),
        };
        let form = Form::Json;
        let Some(visits) = query.session.as_deref().and_then(|id| self.find(id)) else {
            return self.answer(Err(over()), Manner::Poll, &form);
        };
        let max_body = self.gateway.protocol.max_body;
        let reading = Limited::new(body, max_body).collect();
        let body = match timeout(self.gateway.protocol.handshake_timeout.get(), reading).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let words = format!("a body over {max_body} bytes");
                return self.refused(StatusCode::PAYLOAD_TOO_LARGE, "body", &words, &form);
            }
            Ok(Err(_)) | Err(_) => {
                let words = "the body did not come";
                return self.refused(StatusCode::REQUEST_TIMEOUT, "body", words, &form);
            }
        };
        let header = query.header;
        let outcome = visit(&visits, |reply| Visit::Send {
            header,
            body,
            reply,
        });
        self.answer(outcome.await, Manner::Poll, &form)
    }

    /// Goes on with the session that is named, if it is open, or logs in.
    async fn ask(self: &Arc<Self>, asked: Asked) -> Result<Outcome, Rejection> {
        let named = asked.last_event.clone().or_else(|| {
            let session = asked.query.session.clone();
            let named = session.filter(|session| !session.is_empty());
            named.map(|session| (session, asked.query.ack))
        });
        if let Some((session, number)) = &named {
            let number = *number;
            if let Some(visits) = self.find(session) {
                let outcome = visit(&visits, |reply| asked.manner.visit(number, reply)).await;
                if !matches!(outcome, Err(Rejection::Over { stay_away: false })) {
                    return outcome;
                }
            }
            if asked.manner == Manner::Stream {
                self.gateway.metrics.resumed("unknown").inc();
            }
        }
        let Some(token) = asked.query.token.clone() else {
            return Err(if named.is_some() {
                over()
            } else {
                Rejection::NoToken
            });
        };
        let login = Login {
            door: asked.manner.door(),
            client: asked.client,
            cookie: asked.cookie,
            deadline: Instant::now() + self.gateway.protocol.handshake_timeout.get(),
        };
        let (reply, outcome) = oneshot::channel();
        let first = asked.manner.visit(0, reply);
        self.begin(login, asked.query.header, token, first)?;
        outcome.await.unwrap_or_else(|_| Err(over()))
    }

    /// Reads the parameters; `only` is the one operation that they may name, and need not.
    fn query(&self, parts: &Parts, only: Option<i32>) -> Result<Query, QueryError> {
        let text = parts.uri.query().unwrap_or_default();
        Query::parse(text, only, self.gateway.protocol.max_body)
    }
}

impl Manner {
    pub(super) fn door(self) -> Door {
        match self {
            Self::Poll | Self::Once => Door::Poll,
            Self::Stream => Door::Sse,
        }
    }

    /// What the session is asked, by a client that has everything up to `number`.
    fn visit(self, number: u64, reply: Reply) -> Visit {
        match self {
            Self::Poll => Visit::Poll { ack: number, reply },
            Self::Once => Visit::Once { reply },
            Self::Stream => Visit::Stream {
                after: number,
                reply,
            },
        }
    }
}

/// Asks a session's task, which may have ended meanwhile.
async fn visit(
    visits: &mpsc::Sender<Visit>,
    ask: impl FnOnce(Reply) -> Visit,
) -> Result<Outcome, Rejection> {
    let (reply, outcome) = oneshot::channel();
    if visits.send(ask(reply)).await.is_err() {
        return Err(over());
    }
    outcome.await.unwrap_or_else(|_| Err(over()))
}

fn over() -> Rejection {
    Rejection::Over { stay_away: false }
}
