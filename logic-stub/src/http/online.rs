//! `GET /goim/online/*`: who is there.

use std::{cmp::Reverse, collections::HashMap};

use axum::extract;
use protocol::RoomId;
use serde::Serialize;

use super::{
    Reply, State,
    query::Query,
    reply::{Done, Failure},
};

/// One of the fullest rooms.
#[derive(Debug, Serialize)]
pub(super) struct Top {
    /// Without its type.
    room_id: String,
    count: i32,
}

/// All comets together.
#[derive(Debug, Serialize)]
pub(super) struct Total {
    /// Client addresses, each counted once for each comet.
    ip_count: u64,
    conn_count: u64,
}

/// `?type=&limit=`: the fullest rooms of a type.
pub(super) async fn top(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<Vec<Top>> {
    let kind = query.text("type")?;
    let limit: usize = query.number("limit")?;
    if limit == 0 {
        return Err(Failure::request("parameter limit: must be above 0"));
    }
    let max = state.logic.config.http_server.max_values;
    if limit > max {
        return Err(Failure::request(format!("parameter limit: at most {max}")));
    }
    let counts = state
        .logic
        .sessions
        .room_counts()
        .await
        .map_err(|error| Failure::server(error.to_string()))?;
    let of_type = counts.iter().filter_map(|(room, count)| {
        let (of, room) = room.split_once("://")?;
        (of == kind).then_some((Reverse(*count), room))
    });
    let mut rooms: Vec<_> = of_type.collect();
    if rooms.len() > limit {
        rooms.select_nth_unstable(limit);
        rooms.truncate(limit);
    }
    rooms.sort_unstable();
    let top = rooms.into_iter().map(|(Reverse(count), room)| Top {
        room_id: room.to_owned(),
        count,
    });
    Ok(Done::with(top.collect()))
}

/// `?type=&rooms=&rooms=`: the counts of these rooms, 0 for those where nobody is.
pub(super) async fn room(
    extract::State(state): extract::State<State>,
    query: Query,
) -> Reply<HashMap<String, i32>> {
    let kind = query.text("type")?;
    let rooms: Vec<String> = query.list("rooms", state.logic.config.http_server.max_values)?;
    let counts = state
        .logic
        .sessions
        .room_counts()
        .await
        .map_err(|error| Failure::server(error.to_string()))?;
    let count = |room: String| {
        let count = counts.get(RoomId::new(&kind, &room).as_str()).copied();
        (room, count.unwrap_or_default())
    };
    Ok(Done::with(rooms.into_iter().map(count).collect()))
}

/// How many connections there are, and from how many addresses.
pub(super) async fn total(extract::State(state): extract::State<State>) -> Reply<Total> {
    let known = state.logic.comets.known();
    let sum = |count: fn(&crate::comets::Comet) -> u32| {
        known.values().map(|comet| u64::from(count(comet))).sum()
    };
    Ok(Done::with(Total {
        ip_count: sum(|comet| comet.info.client_addresses),
        conn_count: sum(|comet| comet.info.connections),
    }))
}
