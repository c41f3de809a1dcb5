//! What a request is answered.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use protocol::{Header, op, query::Form};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    Subscriptions,
    serve::Manner,
    visit::{Answer, Outcome, Rejection},
};
use crate::{
    close::{CloseReason, Farewell},
    transport::http::{
        Refusal,
        subscribe::{
            event,
            json::{self as answers, Message, Verdict},
        },
    },
};

/// The name of all that is wrong with parameters.
const BAD_REQUEST: &str = "bad_request";

impl Subscriptions {
    pub(super) fn answer(
        &self,
        outcome: Result<Outcome, Rejection>,
        manner: Manner,
        form: &Form,
    ) -> Response<Body> {
        match outcome {
            Ok(Outcome::Answer(answer)) => respond(&answer, form),
            Ok(Outcome::One(Some((header, body)))) => {
                answers::respond(StatusCode::OK, form, answers::version1(header, &body))
            }
            Ok(Outcome::One(None)) => {
                let nothing = answers::version1(Header::push(op::HEARTBEAT_REPLY), b"");
                answers::respond(StatusCode::OK, form, nothing)
            }
            Ok(Outcome::Stream(events)) => stream(events),
            Ok(Outcome::Taken) => Verdict::taken().into_response(form),
            Err(rejection) => self.reject(&rejection, manner, form),
        }
    }

    /// Refuses a request for its parameters.
    pub(super) fn bad_request(&self, words: &str) -> Response<Body> {
        self.refused(StatusCode::BAD_REQUEST, BAD_REQUEST, words, &Form::Json)
    }

    /// Refuses to answer with a script, which every page can read.
    pub(super) fn untold(&self) -> Response<Body> {
        let words = "this server answers with scripts only where the request names its page: by Referer or Sec-Fetch-Site";
        self.refused(
            StatusCode::FORBIDDEN,
            Refusal::Origin.label(),
            words,
            &Form::Json,
        )
    }

    pub(super) fn refused(
        &self,
        status: StatusCode,
        reason: &'static str,
        words: &str,
        form: &Form,
    ) -> Response<Body> {
        self.gateway.metrics.http_refusals(reason).inc();
        Verdict::refused(status, reason, words).into_response(form)
    }

    fn reject(&self, rejection: &Rejection, manner: Manner, form: &Form) -> Response<Body> {
        let is_stream = manner == Manner::Stream;
        match rejection {
            Rejection::Closed(farewell) if is_stream && is_passing(farewell) => {
                self.last_words(&farewell.body(manner.door()))
            }
            // It is counted as a close.
            Rejection::Closed(farewell) => {
                let words = farewell.body(manner.door());
                Verdict::of(status_of(farewell.reason), words).into_response(form)
            }
            // The one status after which browsers do not come back.
            Rejection::Over { stay_away: true } => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Rejection::Full | Rejection::Limit(_) | Rejection::TooFast if is_stream => {
                let (_, reason, words) = rejection.refusal();
                self.gateway.metrics.http_refusals(reason).inc();
                self.last_words(&json!({ "reason": reason, "message": words }))
            }
            _ => {
                let (status, reason, words) = rejection.refusal();
                let mut response = self.refused(status, reason, &words, form);
                if let Some(seconds) = rejection.retry_after() {
                    let headers = response.headers_mut();
                    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                response
            }
        }
    }

    /// Tells a browser by an event what will pass, so that it comes back by itself; after other statuses it does not.
    fn last_words(&self, words: &Value) -> Response<Body> {
        let header = Header::push(op::DISCONNECT_REPLY);
        let body = words.to_string();
        let message = Message::new(header, body.as_bytes(), None);
        let mut chunk = Vec::new();
        let delay = words["delay_ms"].as_u64().map(Duration::from_millis);
        event::put_last(
            delay.unwrap_or(self.limits.retry.get()),
            &message,
            &mut chunk,
        );
        event_stream(Body::from(chunk))
    }
}

impl Rejection {
    /// The status, the reason's name, and words.
    fn refusal(&self) -> (StatusCode, &'static str, String) {
        let (status, reason, words) = match self {
            Self::Limit(refused) => {
                return (refused.status(), refused.label(), refused.to_string());
            }
            Self::Closed(farewell) => (status_of(farewell.reason), farewell.reason.label(), ""),
            Self::Over { .. } => (
                StatusCode::NOT_FOUND,
                "unknown_session",
                "no such session, and no token to log in with",
            ),
            Self::NoToken => (
                StatusCode::BAD_REQUEST,
                BAD_REQUEST,
                "parameter t: missing, and no session to go on with",
            ),
            Self::Superseded => (
                StatusCode::CONFLICT,
                "superseded",
                "a newer request of the session came",
            ),
            Self::BadAck => (
                StatusCode::BAD_REQUEST,
                BAD_REQUEST,
                "parameter ack: beyond what was sent",
            ),
            Self::RingFull => (
                StatusCode::TOO_MANY_REQUESTS,
                "ring_full",
                "too many requests of the session are not answered yet",
            ),
            Self::TooFast => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_fast",
                "the session has sent too much for a second",
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_sessions",
                "this server has as many sessions as it may have",
            ),
        };
        (status, reason, words.to_owned())
    }

    /// When the same may do better, in seconds, where that is known.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Limit(refused) => refused.retry_after(),
            Self::TooFast => Some(1),
            _ => None,
        }
    }
}

fn respond(answer: &Answer, form: &Form) -> Response<Body> {
    let protos = answer.parcel.protos();
    let messages = protos.map(|proto| Message::new(proto.header, proto.body, proto.id));
    let json = answers::encode(&answers::Answer {
        code: 0,
        message: "",
        session: answer.id.to_string(),
        key: &answer.key,
        mid: answer.mid,
        ack: answer.last,
        online: answer.online,
        messages: messages.collect(),
    });
    answers::respond(StatusCode::OK, form, json)
}

fn stream(events: mpsc::Receiver<Bytes>) -> Response<Body> {
    let chunks = ReceiverStream::new(events).map(Ok::<_, Infallible>);
    event_stream(Body::from_stream(chunks))
}

fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Whether the same login may succeed later.
fn is_passing(farewell: &Farewell) -> bool {
    status_of(farewell.reason) == StatusCode::SERVICE_UNAVAILABLE
}

fn status_of(reason: CloseReason) -> StatusCode {
    match reason {
        CloseReason::AuthRefused => StatusCode::FORBIDDEN,
        CloseReason::Replaced { .. } => StatusCode::CONFLICT,
        CloseReason::LogicUnavailable | CloseReason::GoingAway | CloseReason::HandshakeTimeout => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CloseReason::BadRoom | CloseReason::TooManyAccepts => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
