//! The published page.

use std::fmt::Write as _;

use super::{
    Document,
    cases::Target,
    conditions::Conditions,
    growth,
    numbers::{grouped, number, rate, three},
    pairs::Measured,
    reasons,
    table::faults,
    verdicts::Verdict,
};
use crate::{doors::Door, scenario::Row};

/// The text of docs/benchmarks.md. `pictures` are the names of files under docs/images, with what they show.
pub(super) fn page(document: &Document, pictures: &[(String, String)]) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    head(&mut out, document).unwrap_or_default();
    targets(&mut out, &document.measured).unwrap_or_default();
    growth::section(&mut out, &document.measured).unwrap_or_default();
    missed(&mut out, &document.measured).unwrap_or_default();
    out.push_str(CURVES);
    for (file, title) in pictures {
        write!(
            out,
            "\n<img src=\"images/{file}\" alt=\"{title}\" width=\"100%\">\n"
        )
        .unwrap_or_default();
    }
    results(&mut out, &document.measured).unwrap_or_default();
    out.push_str(REPEAT);
    out
}

const EXPLANATION: &str = "\
- **Runs**: how often it was measured; all figures are medians of these, and counts are sums over them.
- **CPU**: seconds of the server's process, user and system, for a million deliveries (pushes to one key, heartbeats), or for 10,000
  logins. Clients and pusher run on the same machine in other processes and are not in it; their seconds for as many are **Client CPU**.
- **Limit**: the bare loop, CPU seconds for a million: pre-encoded frames, one `send()` after the other to as many connections, nothing
  else, one message a write. It runs right before and after each measurement. A server that writes as often is hardly cheaper: a little
  it can be with many connections, where each of its threads has a part of them in its caches, and the loop's one thread has all. One
  that joins messages can be much cheaper. Where no loop writes in the same way (paced pushes to keys, stopped readers, logins beside
  pushes, searches) there is none.
- **Of the limit**: the median of CPU divided by limit, pair by pair. Machines drift, and the limit drifts with them, so this is the figure
  to compare. In parentheses are the best pair and the worst. A target in CPU seconds was set where the limit was 7.4 (1,000
  connections), 10.8 (10,000) or 10.2 (40 messages a second); it is told as a ratio to that. Of logins it is the CPU time of 10,000
  divided by the limit for a million writes.
- **Window**: pushes that not everyone concerned has received yet.
- **Calls under way**: pushes by goim's unary calls, side by side, as the 32 routines of goim's job make them. Side by side there is no
  order, and the notes below the results count how much was reordered. **Streamed**: `comet.v1`'s stream, which Comet's own logic-stub
  uses; it keeps the order.
- **Memory**: resident, of the server's process after the measurement, in MiB; the most of all runs.
- **Offered, received, lost**: messages over all runs, with their warm-up, counted by sequence on every connection. One that comes
  after 128 later ones counts as lost, and as duplicated.
- **goim**: what goim's comet needed with its own example settings on the same kind of machine, in a measurement of its own.
";

const CURVES: &str = "
## Curves

Each point of cost and latency is one run. The messages in a write are, of the server, those that a client finds in one read.
";

const REPEAT: &str = "
## Repeat it

`make bench` builds comet and `comet-bench` as published (profile `dist`), runs all of this and writes this page. It takes about an hour
on a machine that should have nothing else to do. Two cases are left out of it unless they are named: `million` starts some fifty comets
and as many processes of clients, and needs about 12 GiB of memory; `soak` takes a quarter of an hour. Their results come into the same
page from a file of their own:

```sh
comet-bench --comet PATH --json target/more.json report --only million --only soak --raise-conntrack
comet-bench report --from target/benchmarks.json --from target/more.json
```

Another server is measured by its addresses and its process:

```sh
comet-bench --tcp 127.0.0.1:3101 --websocket 127.0.0.1:3102 --grpc 127.0.0.1:3109 --pid 4711 room --window 8
```

A server that needs a logic may use `comet-bench logic`, which believes every open token. `comet-bench --help` lists the scenarios.
";

fn head(out: &mut String, document: &Document) -> std::fmt::Result {
    let machine = &document.machine;
    writeln!(
        out,
        "# Benchmarks\n\n\
         Written by `comet-bench report`, version {}. Medians of up to {} runs, {} seconds each unless the work takes as long as it \
         takes, after {} seconds of warm-up.\n\n\
         The machine: {} processors of the kind {}, {} GiB of memory, {}. Everything runs on it and talks over loopback.\n",
        document.version,
        document.pairs,
        document.timing.seconds,
        document.timing.warmup,
        machine.processors,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
    )?;
    conditions(out, document)?;
    out.push_str(EXPLANATION);
    Ok(())
}

/// Under which conditions was measured; where they differ, which cases under which, those of most cases first.
fn conditions(out: &mut String, document: &Document) -> std::fmt::Result {
    let mut groups: Vec<(&Conditions, Vec<&str>)> = Vec::new();
    for case in &document.measured {
        match groups.iter_mut().find(|(it, _)| **it == case.conditions) {
            Some((_, ids)) => ids.push(&case.id),
            None => groups.push((&case.conditions, vec![case.id.as_str()])),
        }
    }
    groups.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
    for (at, (conditions, ids)) in groups.iter().enumerate() {
        if at > 0 {
            write!(out, "Under other conditions: `{}`. ", ids.join("`, `"))?;
        }
        writeln!(out, "{}\n", conditions.told())?;
    }
    Ok(())
}

fn targets(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    writeln!(
        out,
        "\n## Targets\n\n\
         | Work | Door | Connections | Runs | CPU | Limit | Reached | Target | Met | goim |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for case in measured {
        // Each part has figures of its own, below.
        let row = match &case.medians[..] {
            [row] => Some(row),
            _ => None,
        };
        let (door, connections) = door_and_connections(case);
        for verdict in &case.verdicts {
            writeln!(
                out,
                "| {} | {door} | {connections} | {} | {} | {} | {} | {} | {} | {} |",
                title(case),
                case.runs.len(),
                number(row.and_then(|row| row.server_cpu)),
                number(row.and_then(|row| row.limit)),
                reached(case, verdict),
                verdict.aim(),
                if verdict.met { "yes" } else { "**no**" },
                case.goim
            )?;
        }
    }
    Ok(())
}

/// What was reached, with the spread of the pairs where it is told by them.
fn reached(case: &Measured, verdict: &Verdict) -> String {
    let reached = verdict.reached();
    match (verdict.target, case.spread()) {
        (Target::OfLimit(_), Some((least, most))) => {
            format!("{reached} ({} to {})", three(least), three(most))
        }
        _ => reached,
    }
}

/// Why targets were missed, and what was tried; and which cases failed.
fn missed(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for case in measured {
        let reason = match &case.failed {
            Some(error) => {
                let line = error.replace('\n', " ");
                format!("failed after {} runs: {line}", case.runs.len())
            }
            None if case.verdicts.iter().all(|verdict| verdict.met) => continue,
            None => reasons::of(&case.id).to_owned(),
        };
        let (door, connections) = door_and_connections(case);
        let work = listed(&[&title(case), door, &connections]);
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, works)) => works.push(work),
            None => reasons.push((reason, vec![work])),
        }
    }
    if !reasons.is_empty() {
        writeln!(out, "\n### What is missed, and why\n")?;
    }
    for (reason, works) in reasons {
        writeln!(out, "- *{}*: {reason}", works.join("*; *"))?;
    }
    Ok(())
}

fn results(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    writeln!(
        out,
        "\n## All results\n\nMedians of the runs; counts are sums over them.\n\n\
         | Work | Door | Connections | Runs | A second | CPU | Limit | Of the limit | Client CPU | Memory | p50, p99, p99.9 ms | A read \
         | Offered | Received | Lost | goim |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    let mut notes = Vec::new();
    for case in measured {
        for (part, row) in case.medians.iter().enumerate() {
            result(out, case, part, row)?;
            let faults = faults(row);
            if !faults.is_empty() {
                let door = row.door.map_or("", Door::name);
                let work = listed(&[&work(row), door, &grouped(row.connections.into())]);
                notes.push(format!("- {work}: {}", faults.join("; ")));
            }
        }
    }
    writeln!(
        out,
        "\n\"A read\" is the messages that a client found in one read: about what the server writes at once.\n"
    )?;
    writeln!(out, "{}", notes.join("\n"))
}

/// The line of a part of a case; the ratio and goim's figure are the first one's.
fn result(out: &mut String, case: &Measured, part: usize, row: &Row) -> std::fmt::Result {
    let quantiles: Vec<_> = [row.p50, row.p99, row.p999].into_iter().flatten().collect();
    let quantiles = quantiles.iter().map(|millis| format!("{millis:.2}"));
    let quantiles = quantiles.collect::<Vec<_>>().join(", ");
    let memory = row.rss.map(|rss| grouped(rss >> 20));
    writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {quantiles} | {} | {} | {} | {} | {} |",
        work(row),
        row.door.map_or("", Door::name),
        grouped(row.connections.into()),
        case.runs.len(),
        rate(row.per_second),
        number(row.server_cpu),
        number(row.limit),
        number(case.of_limit.filter(|_| part == 0)),
        number(row.client_cpu),
        memory.unwrap_or_default(),
        number(row.messages_per_read),
        grouped(row.offered),
        grouped(row.received),
        grouped(row.lost),
        if part == 0 { case.goim.as_str() } else { "" },
    )
}

/// What is not empty, as a list.
fn listed(words: &[&str]) -> String {
    let words = words.iter().filter(|word| !word.is_empty());
    words.copied().collect::<Vec<_>>().join(", ")
}

/// The words of a case's line: of the case itself where not one run was whole, or where it has several parts.
fn title(case: &Measured) -> String {
    match &case.medians[..] {
        [] => case.id.clone(),
        [row] => work(row),
        [row, ..] => {
            let name = row.scenario.split_once(':');
            let name = name.map_or(row.scenario.as_str(), |(name, _)| name);
            format!("{name}: all parts")
        }
    }
}

/// Door and connections of a case.
fn door_and_connections(case: &Measured) -> (&'static str, String) {
    case.medians.first().map_or_else(Default::default, |row| {
        let door = row.door.map_or("", Door::name);
        (door, grouped(row.connections.into()))
    })
}

fn work(row: &Row) -> String {
    match row.body {
        Some(body) if body != 32 => format!("{}, {body} bytes", row.scenario),
        _ => row.scenario.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str) -> Row {
        Row {
            scenario: scenario.to_owned(),
            door: Some(Door::Tcp),
            connections: 1000,
            ..Row::default()
        }
    }

    fn missed(target: Target, reached: Option<f64>) -> Verdict {
        Verdict {
            target,
            reached,
            met: false,
            set_at: None,
        }
    }

    fn page_of(case: Measured) -> String {
        let document = Document {
            measured: vec![case],
            ..Document::default()
        };
        page(&document, &[("a.svg".to_owned(), "b".to_owned())])
    }

    #[test]
    fn a_missed_target_stays_in_the_table() {
        let page = page_of(Measured {
            medians: vec![Row {
                server_cpu: Some(3.7),
                limit: Some(7.4),
                rss: Some(14 << 20),
                client_cpu: Some(8.0),
                ..row("room")
            }],
            runs: vec![Vec::new(); 5],
            verdicts: vec![missed(Target::OfLimit(0.27), Some(0.5))],
            of_limit: Some(0.5),
            goim: "7.2".to_owned(),
            ..Measured::default()
        });
        let line = "| room | TCP | 1,000 | 5 | 3.70 | 7.40 | 0.500 of the limit | at most 0.270 | **no** | 7.2 |";
        assert!(page.contains(line), "{page}");
        let line = "| room | TCP | 1,000 | 5 |  | 3.70 | 7.40 | 0.500 | 8.00 | 14 |  |  | 0 | 0 | 0 | 7.2 |";
        assert!(page.contains(line), "{page}");
        assert!(page.contains("<img src=\"images/a.svg\" alt=\"b\""));
    }

    #[test]
    fn cases_under_other_conditions_are_named() {
        let case = |id: &str, commit: &str| Measured {
            id: id.to_owned(),
            conditions: Conditions {
                commit: Some(commit.to_owned()),
                ..Conditions::default()
            },
            ..Measured::default()
        };
        let document = Document {
            measured: vec![case("soak", "a"), case("room", "b"), case("keys", "b")],
            ..Document::default()
        };
        let page = page(&document, &[]);
        let at = |text: &str| page.find(text).unwrap();
        assert!(
            at("commit: b.") < at("Under other conditions: `soak`. The server:"),
            "{page}"
        );
        assert!(
            at("Under other conditions: `soak`. The server:") < at("commit: a."),
            "{page}"
        );
    }

    #[test]
    fn notes_say_what_they_are_about() {
        let page = page_of(Measured {
            medians: vec![Row {
                reordered: 7_039_000,
                ..row("room")
            }],
            ..Measured::default()
        });
        let line = "- room, TCP, 1,000: 7,039,000 reordered\n";
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn a_case_that_failed_is_on_the_page() {
        let page = page_of(Measured {
            id: "room-1-tcp-1000".to_owned(),
            verdicts: vec![missed(Target::OfLimit(1.25), None)],
            failed: Some("no answer".to_owned()),
            ..Measured::default()
        });
        let line = "| room-1-tcp-1000 |  |  | 0 |  |  | not measured | at most 1.25 | **no** |  |";
        assert!(page.contains(line), "{page}");
        let line = "- *room-1-tcp-1000*: failed after 0 runs: no answer";
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn a_case_of_several_parts_is_named_by_none_of_them() {
        let page = page_of(Measured {
            medians: vec![row("overload: the best"), row("overload: afterwards")],
            verdicts: vec![missed(Target::Recovers, Some(2.0))],
            ..Measured::default()
        });
        let line = "| overload: all parts | TCP | 1,000 | 0 |  |  | 2 lost, closed or stalled afterwards | none | **no** |  |";
        assert!(page.contains(line), "{page}");
    }
}
