//! The curves of the published set.

use super::{
    pairs::Measured,
    svg::{Axis, Chart, Line},
};
use crate::{
    doors::Door,
    limit::{self, LimitArgs},
    measure::real,
    pusher::Via,
    scenario::{
        Bench, Row, Timing,
        fanout::{self, Pushes},
        progress,
    },
    server::ServerArgs,
};

/// Connections of the curves of cost and latency.
const CONNECTIONS: u32 = 1000;

/// Pushes under way, and messages joined by the limit.
const WINDOWS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Pushes a second.
const RATES: [f64; 7] = [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];

/// CPU time against the messages that are written together: as many as a client finds in one read.
pub(super) async fn cost(server: &ServerArgs, timing: Timing) -> anyhow::Result<Chart> {
    progress("curve: cost");
    let bench = Bench::start(server, 1, timing)?;
    let mut lines = Vec::new();
    for door in doors(server) {
        let mut points = Vec::new();
        for window in WINDOWS {
            let pushes = Pushes {
                connections: CONNECTIONS,
                door,
                window: window.into(),
                via: Via::Stream,
                ..Pushes::default()
            };
            let row = fanout::rooms(&bench, &pushes, 1).await?;
            points.extend(row.messages_per_read.zip(row.server_cpu));
        }
        lines.push(line(door.name(), points));
    }
    let mut points = Vec::new();
    for join in WINDOWS {
        let row = limit::run_apart(&LimitArgs {
            connections: CONNECTIONS,
            join,
            ..LimitArgs::default()
        })?;
        points.extend(row.server_cpu.map(|cpu| (f64::from(join), cpu)));
    }
    lines.push(line("limit", points));
    Ok(Chart {
        title: format!("Cost of a delivery, room of {CONNECTIONS}"),
        x: axis("messages in a write", Some(2.0)),
        y: axis("CPU seconds for a million", Some(10.0)),
        lines,
    })
}

/// Latency against load.
pub(super) async fn latency(server: &ServerArgs, timing: Timing) -> anyhow::Result<Chart> {
    progress("curve: latency");
    let bench = Bench::start(server, 1, timing)?;
    let mut rows = Vec::new();
    for rate in RATES {
        let pushes = Pushes {
            connections: CONNECTIONS,
            rate: Some(rate),
            ..Pushes::default()
        };
        rows.push(fanout::rooms(&bench, &pushes, 1).await?);
    }
    let points = |value: fn(&Row) -> Option<f64>| {
        let measured = RATES.iter().zip(&rows);
        let point = |(rate, row): (&f64, &Row)| Some((rate * f64::from(CONNECTIONS), value(row)?));
        measured.filter_map(point).collect()
    };
    Ok(Chart {
        title: format!("Latency under load, room of {CONNECTIONS}, TCP"),
        x: axis("deliveries a second that are asked for", Some(10.0)),
        y: axis("milliseconds from push to receipt", Some(10.0)),
        lines: vec![
            line("p50", points(|row| row.p50)),
            line("p99", points(|row| row.p99)),
            line("p99.9", points(|row| row.p999)),
        ],
    })
}

/// Memory against connections, as far as it was measured.
pub(super) fn memory(measured: &[Measured]) -> Option<Chart> {
    let with_memory = measured.iter().filter(|case| !case.memory.is_empty());
    let lines: Vec<Line> = with_memory
        .map(|case| {
            let door = case.medians.first().and_then(|row| row.door);
            let point = |(count, bytes): &(u32, u64)| (f64::from(*count), real(*bytes) / 1e6);
            line(
                door.map_or("", Door::name),
                case.memory.iter().map(point).collect(),
            )
        })
        .collect();
    (!lines.is_empty()).then(|| Chart {
        title: "Memory of idle connections".to_owned(),
        x: axis("connections", None),
        y: axis("megabytes resident, of the whole process", None),
        lines,
    })
}

/// Those that the server has.
fn doors(server: &ServerArgs) -> impl Iterator<Item = Door> {
    let has = move |door: &Door| match door {
        Door::Websocket => server.comet.is_some() || server.websocket.is_some(),
        _ => server.comet.is_some() || server.tcp.is_some(),
    };
    [Door::Tcp, Door::Websocket].into_iter().filter(has)
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Line {
    Line {
        name: name.to_owned(),
        points,
    }
}

fn axis(label: &str, powers: Option<f64>) -> Axis {
    Axis {
        label: label.to_owned(),
        powers,
    }
}
