//! What several runs come to.

use crate::scenario::Row;

/// Medians of what is measured, and sums of what is counted.
pub(super) fn median_row(rows: &[&Row]) -> Row {
    let of =
        |value: fn(&Row) -> Option<f64>| median(rows.iter().filter_map(|row| value(row)).collect());
    let sum = |value: fn(&Row) -> u64| rows.iter().map(|row| value(row)).sum();
    let Some(first) = rows.first() else {
        return Row::default();
    };
    Row {
        seconds: of(|row| Some(row.seconds)).unwrap_or(0.0),
        offered: sum(|row| row.offered),
        received: sum(|row| row.received),
        lost: sum(|row| row.lost),
        refused: sum(|row| row.refused),
        told: rows.iter().map(|row| row.told).sum(),
        unsent: sum(|row| row.unsent),
        duplicated: sum(|row| row.duplicated),
        reordered: sum(|row| row.reordered),
        strays: sum(|row| row.strays),
        gone: sum(|row| row.gone),
        stalls: sum(|row| row.stalls),
        kept: sum(|row| row.kept),
        per_second: of(|row| Some(row.per_second)).unwrap_or(0.0),
        pushes_per_second: of(|row| row.pushes_per_second),
        server_cpu: of(|row| row.server_cpu),
        client_cpu: of(|row| row.client_cpu),
        limit: of(|row| row.limit),
        p50: of(|row| row.p50),
        p99: of(|row| row.p99),
        p999: of(|row| row.p999),
        messages_per_read: of(|row| row.messages_per_read),
        bytes_per_connection: of(|row| row.bytes_per_connection),
        idle_cpu: of(|row| row.idle_cpu),
        rss: rows.iter().filter_map(|row| row.rss).max(),
        error: last(rows, |row| &row.error),
        note: last(rows, |row| &row.note),
        ..(*first).clone()
    }
}

/// The last of some texts: there is no median of them, so it is said to be that of one run.
fn last(rows: &[&Row], text: fn(&Row) -> &String) -> String {
    let mut texts = rows.iter().rev().map(|row| text(row));
    match texts.find(|text| !text.is_empty()) {
        Some(text) if rows.len() > 1 => format!("in one run: {text}"),
        text => text.cloned().unwrap_or_default(),
    }
}

/// The middle of some values, or of the two that are nearest to it.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn what_one_run_says_is_not_said_of_all() {
        let says = |note: &str| Row {
            note: note.to_owned(),
            ..Row::default()
        };
        let note = |rows: &[&Row]| median_row(rows).note;
        assert_eq!(note(&[&says("95 %")]), "95 %");
        assert_eq!(note(&[&says("95 %"), &says("")]), "in one run: 95 %");
        assert_eq!(note(&[&says(""), &says("")]), "");
    }
}
