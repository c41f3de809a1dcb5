//! What became of what was pushed, and the table of it.

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

/// Of one fault. A message to three clients is three.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pushes that were answered with code 0, for clients that are online.
    pub accepted: usize,
    refused: usize,
    unanswered: usize,
    /// Messages of the accepted pushes.
    pub expected: usize,
    /// Those of them that came.
    pub received: usize,
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
                    tally.received += 1;
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

    /// Messages that did not come.
    pub const fn missing(&self) -> usize {
        self.lost + self.late + self.cut_off + self.away
    }
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
