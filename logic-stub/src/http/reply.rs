//! The shape of every answer.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use common::bearer::Refused;
use serde::Serialize;

use crate::{kick::Kicked, lanes::Report, whitelist::Listed};

/// What a handler returns.
pub(super) type Reply<T> = Result<Done<T>, Failure>;

/// goim's success: code 0.
#[derive(Debug)]
pub(super) struct Done<T> {
    data: Option<T>,
    message: String,
}

/// goim's failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: i32,
    message: String,
    data: Option<Box<Outcome>>,
}

/// What became of a request that failed for some.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// Of a push, for those who asked.
    Pushed(Report),
    /// Of a kick.
    Kicked(Kicked),
    /// Of a change of the whitelists.
    Whitelisted(Listed),
}

impl<T> Done<T> {
    /// Success with data.
    pub(super) fn with(data: T) -> Self {
        Self::saying(String::new(), Some(data))
    }

    /// Success with something to say about it, or nothing, and data for those who asked.
    pub(super) fn saying(message: String, data: Option<T>) -> Self {
        Self { data, message }
    }
}

impl Failure {
    /// The caller is at fault: -400.
    pub(super) fn request(message: impl Into<String>) -> Self {
        Self {
            code: -400,
            message: message.into(),
            data: None,
        }
    }

    /// We are, or something behind us: -500.
    pub(super) fn server(message: impl Into<String>) -> Self {
        Self {
            code: -500,
            message: message.into(),
            data: None,
        }
    }

    /// The same, with data.
    pub(super) fn with(self, data: Option<Outcome>) -> Self {
        let data = data.map(Box::new);
        Self { data, ..self }
    }
}

/// As in goim, an answer without data has no such field.
#[derive(Serialize)]
struct Envelope<'a, T> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

impl<T: Serialize> IntoResponse for Done<T> {
    fn into_response(self) -> Response {
        json(
            StatusCode::OK,
            &Envelope {
                code: 0,
                message: &self.message,
                data: self.data,
            },
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        json(
            StatusCode::OK,
            &Envelope {
                code: self.code,
                message: &self.message,
                data: self.data,
            },
        )
    }
}

/// An unknown path.
pub(super) async fn not_found() -> Response {
    let envelope = Envelope::<()> {
        code: -404,
        message: "no such path",
        data: None,
    };
    json(StatusCode::NOT_FOUND, &envelope)
}

/// A request that may be another site's doing.
pub(super) async fn foreign_site() -> Response {
    let envelope = Envelope::<()> {
        code: -403,
        message: "not taken from pages of other sites; with httpServer.tokenFile, whoever shows a token may call",
        data: None,
    };
    json(StatusCode::FORBIDDEN, &envelope)
}

/// A request that does not show who makes it.
pub(super) fn unauthenticated(refused: Refused) -> Response {
    let envelope = Envelope::<()> {
        code: -401,
        message: &refused.to_string(),
        data: None,
    };
    let mut response = json(StatusCode::UNAUTHORIZED, &envelope);
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, refused.challenge());
    response
}

/// A known path with a wrong method; axum adds the right ones.
pub(super) async fn not_allowed() -> Response {
    let envelope = Envelope::<()> {
        code: -405,
        message: "this path has another method",
        data: None,
    };
    json(StatusCode::METHOD_NOT_ALLOWED, &envelope)
}

fn json<T: Serialize>(status: StatusCode, envelope: &Envelope<'_, T>) -> Response {
    match serde_json::to_vec(envelope) {
        Ok(body) => (
            status,
            [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
            body,
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
