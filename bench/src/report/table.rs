//! Results as a table of plain text.

use super::numbers::grouped;
use crate::scenario::Row;

/// The heads of the columns.
const HEADS: [&str; 14] = [
    "scenario",
    "door",
    "conns",
    "body",
    "per s",
    "server",
    "limit",
    "client",
    "p50 ms",
    "p99 ms",
    "p99.9",
    "per read",
    "RSS MiB",
    "offered/lost",
];

/// Prints results, one below the other.
pub fn print(rows: &[Row]) {
    let lines: Vec<[String; HEADS.len()]> = rows.iter().map(cells).collect();
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| {
            let cells = lines.iter().map(|cells| cells[column].len());
            cells.chain([HEADS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    print_line(&HEADS.map(str::to_owned), &widths);
    for (cells, row) in lines.iter().zip(rows) {
        print_line(cells, &widths);
        for fault in faults(row) {
            println!("    {fault}");
        }
    }
}

/// What went otherwise than it should, and notes.
pub(super) fn faults(row: &Row) -> Vec<String> {
    let counts = [
        (row.refused, "refused by the server"),
        (row.unsent, "pushes that the pusher could not make"),
        (row.duplicated, "duplicated"),
        (row.reordered, "reordered"),
        (row.strays, "for someone else"),
        (row.gone, "connections closed by the server"),
        (row.stalls, "times nothing moved"),
        (row.kept, "open files or MiB too many at the end"),
    ];
    let mut faults: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    if let Some(told) = row.told.filter(|told| *told != row.lost) {
        faults.push(format!("the server tells of {} dropped", grouped(told)));
    }
    let texts = [&row.error, &row.note].into_iter();
    faults.extend(texts.filter(|text| !text.is_empty()).cloned());
    faults
}

fn cells(row: &Row) -> [String; HEADS.len()] {
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let memory = match (row.bytes_per_connection, row.rss) {
        (Some(bytes), _) => format!("{bytes:.0} B each"),
        (None, Some(rss)) => (rss >> 20).to_string(),
        (None, None) => "-".to_owned(),
    };
    [
        row.scenario.clone(),
        row.door.map_or("-", crate::doors::Door::name).to_owned(),
        row.connections.to_string(),
        row.body
            .map_or_else(|| "-".to_owned(), |body| body.to_string()),
        format!("{:.0}", row.per_second),
        number(row.server_cpu),
        number(row.limit),
        number(row.client_cpu),
        number(row.p50),
        number(row.p99),
        number(row.p999),
        number(row.messages_per_read),
        memory,
        format!("{}/{}", row.offered, row.lost),
    ]
}

fn print_line(cells: &[String; HEADS.len()], widths: &[usize]) {
    let aligned = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            if column == 0 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
    println!("{}", aligned.collect::<Vec<_>>().join("  "));
}
