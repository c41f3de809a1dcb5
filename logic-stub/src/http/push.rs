//! `POST /goim/push/*`: the body of the request is the message.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use protocol::op;

use super::{
    Reply, State,
    query::Query,
    reply::{Done, Failure, Outcome},
};
use crate::{
    lanes::{Report, Tally},
    push::{Message, Names, Whom},
    queue::Stored,
};

type Pushed = Reply<Report>;

/// `?operation=&keys=&keys=&report=`
pub(super) async fn keys(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let config = &state.logic.config;
    let operation = operation(&query)?;
    let keys = query.keys(config)?;
    let push = Push::read(&state, &query, operation, body).await?;
    push.send(&state, Whom::Keys(keys)).await
}

/// `?operation=&mids=&mids=&report=`
pub(super) async fn mids(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let operation = operation(&query)?;
    let mids: Vec<i64> = query.list("mids", state.logic.config.http_server.max_values)?;
    let push = Push::read(&state, &query, operation, body).await?;
    push.send(&state, Whom::Mids(mids)).await
}

/// `?operation=&type=&room=&report=`
pub(super) async fn room(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let operation = operation(&query)?;
    let room = query.room(&state.logic.config)?;
    let push = Push::read(&state, &query, operation, body).await?;
    push.send(&state, Whom::Room(room)).await
}

/// `?operation=&speed=&report=`
pub(super) async fn everyone(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let operation = operation(&query)?;
    let speed = query.optional::<i32>("speed")?.unwrap_or_default();
    if speed < 0 {
        return Err(Failure::request("parameter speed: negative"));
    }
    let push = Push::read(&state, &query, operation, body).await?;
    push.send(&state, Whom::Everyone { speed }).await
}

/// One request. Until its message is in the lanes or stored, a pusher that hangs up ends it, and nobody has got it as far as is
/// known; after that, it goes its way whoever waits.
struct Push {
    message: Message,
    /// Whether the pusher wants to know what becomes of it.
    asked: bool,
}

impl Push {
    async fn read(
        state: &State,
        query: &Query,
        operation: i32,
        body: Body,
    ) -> Result<Self, Failure> {
        let asked = match query.optional::<u8>("report")?.unwrap_or_default() {
            0 => false,
            1 => true,
            _ => return Err(Failure::request("parameter report: must be 0 or 1")),
        };
        let message = message(state, operation, body).await?;
        Ok(Self { message, asked })
    }

    async fn send(self, state: &State, whom: Whom) -> Pushed {
        match &state.logic.queue {
            Some(queue) => self.store(state, queue, whom).await,
            None => self.push(state, whom).await,
        }
    }

    async fn store(self, state: &State, queue: &Stored, whom: Whom) -> Pushed {
        let Self { message, asked } = self;
        let logic = &state.logic;
        if matches!(whom, Whom::Room(_) | Whom::Everyone { .. }) {
            logic.pusher.check_comets().map_err(|error| {
                logic.pusher.refused(&error);
                Failure::server(error.to_string())
            })?;
        }
        let stored = queue.push(&message, whom, asked).await;
        let receipt = stored.map_err(|error| Failure::server(error.to_string()))?;
        if !asked {
            return Ok(Done::saying(String::new(), None));
        }
        let limit = logic.config.lanes.report.get();
        let report = queue.report(receipt, limit).await;
        Ok(Done::saying(String::new(), Some(report)))
    }

    async fn push(self, state: &State, whom: Whom) -> Pushed {
        let Self { message, asked } = self;
        let lanes = &state.logic.config.lanes;
        let report = asked.then(|| Arc::new(Tally::new(message.id, lanes.report_keys)));
        let way = &state.logic.pusher;
        let outcome = way.push(&message, whom, report.as_ref()).await;
        let report = match report {
            Some(report) => Some(report.wait(lanes.report.get()).await),
            None => None,
        };
        match outcome {
            Ok(names) => Ok(Done::saying(absent(&names), report)),
            Err(error) => {
                let report = report.map(Outcome::Pushed);
                Err(Failure::server(error.to_string()).with(report))
            }
        }
    }
}

fn operation(query: &Query) -> Result<i32, Failure> {
    let operation = query.number("operation")?;
    match operation {
        ..=0 => Err(Failure::request("parameter operation: must be above 0")),
        // A client would take what is inside for frames.
        op::RAW => Err(Failure::request(
            "parameter operation: 9 is how pushes are wrapped",
        )),
        operation => Ok(operation),
    }
}

async fn message(state: &State, operation: i32, body: Body) -> Result<Message, Failure> {
    let config = &state.logic.config.http_server;
    let reading = tokio::time::timeout(config.read_timeout.get(), read(body, config.max_body));
    let body = match reading.await {
        Ok(read) => read?,
        Err(_) => return Err(Failure::request("the body did not come in time")),
    };
    if body.is_empty() {
        return Err(Failure::request("the body is empty: it is the message"));
    }
    Ok(Message::new(operation, &body))
}

/// How much more than allowed is read and thrown away, in bytes, so that the caller reads our answer instead of a reset.
const DISCARD: usize = 1 << 20;

/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

async fn read(mut body: Body, max: usize) -> Result<Bytes, Failure> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::request(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > max {
            drop(tokio::time::timeout(DISCARD_TIME, discard(body)).await);
            return Err(Failure::request(format!(
                "the body is over the limit of {max} bytes"
            )));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

async fn discard(mut body: Body) {
    let mut discarded = 0;
    while discarded < DISCARD
        && let Some(Ok(frame)) = body.frame().await
    {
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Who is not online is no failure, as in goim, but the pusher is told.
pub(super) fn absent(names: &Names) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("not online: {names}")
    }
}
