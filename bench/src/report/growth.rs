//! How the cost of a delivery grows with what a server holds: not at all, if all is well.

use std::fmt::Write as _;

use super::{numbers::three, pairs::Measured, reasons};

/// Cases that differ in one thing alone: with little of it, and with much.
const PAIRS: [(&str, &str); 4] = [
    ("room-1-tcp-1000", "room-1-tcp-19000"),
    ("room-8-tcp-1000", "room-8-tcp-19000"),
    ("rooms-1", "rooms-10000"),
    ("rooms-10", "rooms-10000"),
];

/// How many times as much of the limit the larger one may take.
pub(super) const MOST_GROWTH: f64 = 1.15;

/// The part of the page on it; nothing where no pair was measured.
pub(super) fn section(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    let of_limit = |id: &str| {
        let case = measured.iter().find(|case| case.id == id)?;
        let of_limit = case.of_limit.filter(|_| case.failed.is_none())?;
        Some((of_limit, case.verdicts.iter().all(|verdict| verdict.met)))
    };
    let (mut lines, mut why) = (String::new(), String::new());
    for (small, large) in PAIRS {
        let Some(((before, _), (after, is_fine))) = of_limit(small).zip(of_limit(large)) else {
            continue;
        };
        let growth = after / before;
        // What misses its own targets too is explained with those.
        if growth > MOST_GROWTH && is_fine && !why.contains(large) {
            writeln!(why, "- `{large}`: {}", reasons::of(large))?;
        }
        writeln!(
            lines,
            "| `{small}`: {} | `{large}`: {} | {} | at most {MOST_GROWTH} | {} |",
            three(before),
            three(after),
            three(growth),
            if growth <= MOST_GROWTH {
                "yes"
            } else {
                "**no**"
            },
        )?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let gap = if why.is_empty() { "" } else { "\n" };
    write!(
        out,
        "\n### Growth\n\nTimes the limit of as many connections, with few connections or rooms and with many.\n\n\
         | From | To | Growth | Target | Met |\n| --- | --- | --- | --- | --- |\n{lines}{gap}{why}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_where_both_were_measured() {
        let case = |id: &str, of_limit| Measured {
            id: id.to_owned(),
            of_limit: Some(of_limit),
            ..Measured::default()
        };
        let mut measured = vec![case("room-1-tcp-1000", 1.0), case("rooms-10", 1.0)];
        let mut page = String::new();
        section(&mut page, &measured).unwrap();
        assert_eq!(page, "");
        measured.push(case("room-1-tcp-19000", 1.15));
        measured.push(case("rooms-10000", 1.2));
        section(&mut page, &measured).unwrap();
        assert!(
            page.contains("| `room-1-tcp-19000`: 1.15 | 1.15 | at most 1.15 | yes |"),
            "{page}"
        );
        assert!(page.contains("| 1.20 | at most 1.15 | **no** |"), "{page}");
        assert!(
            page.contains("\n\n- `rooms-10000`: a room of one: "),
            "{page}"
        );
        assert!(!page.contains("room-8"), "{page}");
    }
}
