//! Many idle connections and some busy rooms.

use super::{Bench, Row, fanout::Pushes};
use crate::pusher::To;

/// How many of so many connections are in rooms that are pushed to.
pub fn busy(connections: u32) -> u32 {
    (connections / 10).max(1)
}

/// Measures pushes to `rooms` rooms in turn, which have a tenth of the connections; the others are in no room and idle.
pub async fn run(bench: &Bench, pushes: &Pushes, rooms: u32) -> anyhow::Result<Row> {
    let count = pushes.connections;
    let busy = Pushes {
        connections: busy(count),
        ..pushes.clone()
    };
    bench.open(0, busy.connections, pushes.door, rooms).await?;
    bench
        .open(busy.connections, count - busy.connections, pushes.door, 0)
        .await?;
    let plan = busy.plan(To::Room, rooms);
    let mut row = bench
        .series(&format!("mix, {rooms} busy rooms"), pushes.door, plan)
        .await?
        .row;
    row.connections = count;
    bench.close(0, count).await?;
    Ok(row)
}
