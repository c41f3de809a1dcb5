//! Logins: connect, Auth, AuthReply. The connections stay open meanwhile, so that no goodbye is in the figure.

use super::{Bench, Row, millis, progress};
use crate::{
    clients::Cohort,
    doors::Door,
    measure::{Processes, real},
};

/// Logs `count` clients in, `at_once` under way, `rounds` times after one that only warms up.
pub async fn run(
    bench: &Bench,
    door: Door,
    count: u32,
    at_once: u32,
    rounds: u32,
) -> anyhow::Result<Row> {
    let cohort = Cohort {
        first: 0,
        count,
        door,
        rooms: 1,
        shift: 0,
    };
    let mut row = Row {
        scenario: format!("logins, {at_once} under way"),
        door: Some(door),
        connections: count,
        ..Row::default()
    };
    let (mut server, mut client) = (0.0, 0.0);
    let mut latency = crate::clients::Opened::default().latency;
    for round in 0..=rounds {
        let cpu = (bench.server.processes.cpu()?, Processes::this().cpu()?);
        let opened = bench.fleet.open(cohort, at_once).await?;
        let after = (bench.server.processes.cpu()?, Processes::this().cpu()?);
        let rate = f64::from(opened.opened) / (real(opened.elapsed.max(1)) / 1e9);
        progress(&format!(
            "{} logged in, {} not, {rate:.0} a second",
            opened.opened, opened.failed
        ));
        if let Some(error) = opened.last_error {
            row.error = error;
        }
        if round > 0 {
            row.offered += u64::from(count);
            row.received += u64::from(opened.opened);
            row.lost += u64::from(opened.failed);
            row.seconds += real(opened.elapsed) / 1e9;
            server += after.0 - cpu.0;
            client += after.1 - cpu.1;
            latency.add(&opened.latency)?;
        }
        bench.close(0, count).await?;
    }
    let logins = real(row.received.max(1));
    row.per_second = logins / row.seconds.max(1e-9);
    row.server_cpu = (!bench.server.processes.is_empty()).then_some(server / logins * 1e4);
    row.client_cpu = Some(client / logins * 1e4);
    row.p50 = millis(&latency, 0.5);
    row.p99 = millis(&latency, 0.99);
    row.p999 = millis(&latency, 0.999);
    Ok(row)
}
