//! What became of what was pushed, the table of it, and whether it is what is promised.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use super::{
    CLIENTS, ROOMS,
    crowd::{Crowd, Whereabouts},
    load::{Outcome, Push},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");

/// Lines of the document between which the table stands.
const BEGIN: &str = "<!-- make chaos writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// What must be zero after each fault, by its column: of pushes that go to the lanes at once, and of pushes that are stored.
pub const DIRECT: &[Column] = &[("came twice", |tally| tally.repeated)];
pub const STORED: &[Column] = &[
    ("lost by clients that stayed", |tally| tally.lost),
    ("lost by clients that had come back", |tally| tally.late),
    ("came twice", |tally| tally.repeated),
];

type Column = (&'static str, fn(&Tally) -> usize);

/// Of one fault. A message to three clients is three.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pushes that were answered with code 0, for clients that are online.
    accepted: usize,
    refused: usize,
    unanswered: usize,
    /// Messages of the accepted pushes.
    expected: usize,
    /// Those that did not come to a client that stayed connected.
    lost: usize,
    /// Those that did not come to a client that had come back before they were pushed.
    late: usize,
    /// Those that did not come in a connection that ended.
    cut_off: usize,
    /// Those for clients that were not connected.
    away: usize,
    /// Messages that came once more.
    repeated: usize,
    /// From the fault to the last login; none if nobody had to come back.
    back: Option<Duration>,
}

impl Tally {
    /// Adds up what all clients have seen.
    pub fn of(pushes: &[Push], crowd: &Crowd, struck: Instant) -> Self {
        let last = crowd.last_login();
        let mut tally = Self {
            back: last.and_then(|login| login.checked_duration_since(struck)),
            ..Self::default()
        };
        for push in pushes {
            match push.outcome {
                Outcome::Accepted => tally.accepted += 1,
                Outcome::Absent => {}
                Outcome::Refused => tally.refused += 1,
                Outcome::Unanswered => tally.unanswered += 1,
            }
        }
        for (client, track) in crowd.tracks().enumerate() {
            let numbers = track.numbers();
            tally.repeated += numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
            let accepted = pushes.iter().enumerate().filter(|(_, push)| {
                push.outcome == Outcome::Accepted && push.target.is_for(client)
            });
            for (number, push) in accepted {
                tally.expected += 1;
                if numbers.binary_search(&number).is_ok() {
                    continue;
                }
                match track.at(push.at, struck) {
                    Whereabouts::Stayed => tally.lost += 1,
                    Whereabouts::Back => tally.late += 1,
                    Whereabouts::Left => tally.cut_off += 1,
                    Whereabouts::Away => tally.away += 1,
                }
            }
        }
        tally
    }
}

/// The rows that say otherwise than they must, or nothing at all, since nothing was pushed.
pub fn broken_promises(rows: &[(&str, Tally)], zero: &[Column]) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, tally) in rows {
        if tally.accepted == 0 || tally.expected == 0 {
            broken.push(format!("{name}: nothing was pushed"));
        }
        for (column, count) in zero {
            let count = count(tally);
            if count > 0 {
                broken.push(format!("{name}: {count} {column}"));
            }
        }
    }
    broken
}

/// Puts the tables into the document: of pushes that go to the lanes at once, and of pushes that are stored.
pub fn write(direct: &[(&str, Tally)], stored: &[(&str, Tally)]) {
    let tables = format!(
        "Pushes that go to the lanes at once (`queue.mode = \"direct\"`):\n\n{}\n\
         Pushes that are stored first (`queue.mode = \"stored\"`), in a Redis with `appendfsync always`:\n\n{}",
        table(direct),
        table(stored)
    );
    eprintln!("{CLIENTS} clients in {ROOMS} rooms\n\n{tables}");
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("where it begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    fs::write(DOCUMENT, format!("{before}{BEGIN}\n{tables}\n{END}{after}")).unwrap();
}

fn table(rows: &[(&str, Tally)]) -> String {
    let mut table = String::from(
        "| Fault | Pushes: accepted | refused | without an answer | Messages of those accepted | Lost by clients that stayed | by \
         clients that had come back | in connections that ended | by clients that were away | Came twice | All are back after |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, tally) in rows {
        let back = match tally.back {
            Some(back) => format!("{:.0} s", back.as_secs_f64()),
            None => "nobody left".to_owned(),
        };
        writeln!(
            table,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {back} |",
            tally.accepted,
            tally.refused,
            tally.unanswered,
            tally.expected,
            tally.lost,
            tally.late,
            tally.cut_off,
            tally.away,
            tally.repeated,
        )
        .unwrap();
    }
    table
}

#[test]
fn a_row_that_lost_something_breaks_the_promise() {
    let row = || Tally {
        accepted: 1,
        expected: 3,
        cut_off: 1,
        away: 1,
        ..Tally::default()
    };
    let rows = [
        ("kept", row()),
        ("lost", Tally { lost: 2, ..row() }),
        ("late", Tally { late: 3, ..row() }),
        (
            "twice",
            Tally {
                repeated: 4,
                ..row()
            },
        ),
        ("idle", Tally::default()),
    ];
    assert_eq!(
        broken_promises(&rows, STORED),
        [
            "lost: 2 lost by clients that stayed",
            "late: 3 lost by clients that had come back",
            "twice: 4 came twice",
            "idle: nothing was pushed",
        ]
    );
    assert_eq!(
        broken_promises(&rows, DIRECT),
        ["twice: 4 came twice", "idle: nothing was pushed"]
    );
}
