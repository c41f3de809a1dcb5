//! One message to many: a room, several rooms in turn, everyone, keys in turn.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Bench, Row, progress};
use crate::{
    doors::Door,
    measure::real,
    pusher::{Pace, Plan, To, Via},
};

/// A share of what was offered, above which a rate is too high.
const TOLERATED_LOSS: f64 = 0.001;

/// How pushes are made.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct Pushes {
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// By which they come in.
    #[arg(long, value_enum, default_value_t = Door::Tcp)]
    pub door: Door,
    /// Bytes of a message's body, at least 16.
    #[arg(long, default_value_t = 32)]
    pub body: usize,
    /// Pushes under way, not yet received by everyone concerned.
    #[arg(long, default_value_t = 8, conflicts_with = "rate")]
    pub window: u64,
    /// Pushes a second, instead of a window.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Messages that the pusher joins, as goim's job does.
    #[arg(long, default_value_t = 1)]
    pub join: u32,
    /// goim's calls, or comet.v1's stream.
    #[arg(long, value_enum, default_value_t = Via::Unary)]
    pub via: Via,
    /// Unary calls under way at once; more than one may reorder what they push.
    #[arg(long, default_value_t = 1)]
    pub calls: u32,
}

impl Default for Pushes {
    fn default() -> Self {
        Self {
            connections: 1000,
            door: Door::Tcp,
            body: 32,
            window: 8,
            rate: None,
            join: 1,
            via: Via::Unary,
            calls: 1,
        }
    }
}

impl Pushes {
    /// The plan to push to groups.
    pub fn plan(&self, to: To, groups: u32) -> Plan {
        Plan {
            to,
            via: self.via,
            calls: self.calls,
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            members: self.connections,
            groups,
            joined: self.join,
            body: self.body,
        }
    }
}

/// Pushes to rooms in turn, over which the connections are spread.
pub async fn rooms(bench: &Bench, pushes: &Pushes, rooms: u32) -> anyhow::Result<Row> {
    bench
        .open(0, pushes.connections, pushes.door, rooms)
        .await?;
    let name = match rooms {
        1 => "room fan-out".to_owned(),
        rooms => format!("{rooms} rooms in turn"),
    };
    let outcome = bench
        .series(&name, pushes.door, pushes.plan(To::Room, rooms))
        .await?;
    bench.close(0, pushes.connections).await?;
    Ok(outcome.row)
}

/// Pushes to everyone.
pub async fn broadcast(bench: &Bench, pushes: &Pushes) -> anyhow::Result<Row> {
    bench.open(0, pushes.connections, pushes.door, 0).await?;
    let plan = pushes.plan(To::Everyone, 1);
    let outcome = bench.series("broadcast", pushes.door, plan).await?;
    bench.close(0, pushes.connections).await?;
    Ok(outcome.row)
}

/// Pushes to keys in turn, `per_call` keys in a push.
pub async fn keys(bench: &Bench, pushes: &Pushes, per_call: u32) -> anyhow::Result<Row> {
    bench.open(0, pushes.connections, pushes.door, 0).await?;
    let groups = (pushes.connections / per_call.max(1)).max(1);
    let name = match per_call {
        1 => "push to one key".to_owned(),
        keys => format!("push to {keys} keys"),
    };
    let outcome = bench
        .series(&name, pushes.door, pushes.plan(To::Keys, groups))
        .await?;
    bench.close(0, pushes.connections).await?;
    Ok(outcome.row)
}

/// The highest rate of pushes to one room of which less than one in a thousand is lost: doubled until it is too high, and then
/// narrowed down to 5 %.
pub async fn search(bench: &Bench, pushes: &Pushes) -> anyhow::Result<Row> {
    bench.open(0, pushes.connections, pushes.door, 1).await?;
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = 40_000.0 / f64::from(pushes.connections.max(1));
    let mut best = Row::default();
    while bad / good > 1.05 {
        let pushes = Pushes {
            rate: Some(rate),
            ..pushes.clone()
        };
        let plan = pushes.plan(To::Room, 1);
        let row = bench
            .series("highest rate with under 0.1 % lost", pushes.door, plan)
            .await?
            .row;
        progress(&format!(
            "{rate:.0} pushes a second: {} of {} lost, {} unsent, p99 {:.1} ms",
            row.lost,
            row.offered,
            row.unsent,
            row.p99.unwrap_or(0.0)
        ));
        if keeps_up(&row, rate) {
            (good, best) = (rate, row);
        } else {
            bad = rate;
        }
        rate = if bad.is_finite() {
            f64::midpoint(good, bad)
        } else {
            rate * 2.0
        };
        if rate < 1.0 {
            break;
        }
    }
    bench.close(0, pushes.connections).await?;
    Ok(best)
}

/// Whether all that was asked for was pushed and received, as far as is tolerated.
fn keeps_up(row: &Row, rate: f64) -> bool {
    let lost = real(row.lost + row.refused) / real(row.offered.max(1));
    let pushed = row.pushes_per_second.unwrap_or(0.0);
    row.unsent == 0 && pushed > 0.97 * rate && lost < TOLERATED_LOSS
}
