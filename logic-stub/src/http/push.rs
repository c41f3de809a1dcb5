//! `POST /goim/push/*`: the body of the request is the message.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use protocol::{RoomId, op};

use super::{
    Reply, State,
    query::Query,
    reply::{Done, Failure},
};
use crate::push::{Message, Names, PushError};

type Pushed = Reply<()>;

/// `?operation=&keys=&keys=`
pub(super) async fn keys(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let config = &state.logic.config;
    let operation = operation(&query)?;
    let keys: Vec<String> = query.list("keys", config.http_server.max_values)?;
    if keys.iter().any(|key| key.len() > config.limits.key) {
        return Err(Failure::request(format!(
            "parameter keys: one is over the limit of {} bytes",
            config.limits.key
        )));
    }
    let message = message(&state, operation, body).await?;
    let logic = Arc::clone(&state.logic);
    carry_out(&state, async move {
        Ok(absent(&logic.pusher.keys(message, keys).await?))
    })
    .await
}

/// `?operation=&mids=&mids=`
pub(super) async fn mids(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let operation = operation(&query)?;
    let mids: Vec<i64> = query.list("mids", state.logic.config.http_server.max_values)?;
    let message = message(&state, operation, body).await?;
    let logic = Arc::clone(&state.logic);
    carry_out(&state, async move {
        Ok(absent(&logic.pusher.mids(message, mids).await?))
    })
    .await
}

/// `?operation=&type=&room=`
pub(super) async fn room(
    extract::State(state): extract::State<State>,
    query: Query,
    body: Body,
) -> Pushed {
    let operation = operation(&query)?;
    let room = RoomId::new(&query.text("type")?, &query.text("room")?);
    let max = state.logic.config.limits.room;
    if room.as_str().len() > max {
        return Err(Failure::request(format!(
            "parameters type and room: over the limit of {max} bytes"
        )));
    }
    let message = message(&state, operation, body).await?;
    let logic = Arc::clone(&state.logic);
    carry_out(&state, async move {
        logic
            .pusher
            .room(message, room)
            .await
            .map(|()| String::new())
    })
    .await
}

/// `?operation=&speed=`
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
    let message = message(&state, operation, body).await?;
    let logic = Arc::clone(&state.logic);
    carry_out(&state, async move {
        let pushed = logic.pusher.everyone(message, speed).await;
        pushed.map(|()| String::new())
    })
    .await
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
fn absent(names: &Names) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("not online: {names}")
    }
}

/// In a task of its own: a pusher that hangs up in the middle does not leave half of the comets without the message.
async fn carry_out(
    state: &State,
    push: impl Future<Output = Result<String, PushError>> + Send + 'static,
) -> Pushed {
    match state.pushes.spawn(push).await {
        Ok(Ok(message)) => Ok(Done::saying(message)),
        Ok(Err(error)) => Err(Failure::server(error.to_string())),
        Err(error) => {
            tracing::error!(%error, "a push ended in the middle");
            Err(Failure::server("the push ended in the middle"))
        }
    }
}
