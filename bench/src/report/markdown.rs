//! The published page.

use std::fmt::Write as _;

use super::{
    Document,
    cases::Target,
    pairs::{Measured, Verdict},
    table::faults,
};
use crate::{doors::Door, measure::real, scenario::Row};

/// The text of docs/benchmarks.md. `pictures` are the names of files under docs/images, with what they show.
pub(super) fn page(document: &Document, pictures: &[(String, String)]) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    head(&mut out, document).unwrap_or_default();
    targets(&mut out, &document.measured).unwrap_or_default();
    out.push_str("\n## Curves\n");
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
- **CPU**: seconds of the server's process, user and system, for a million deliveries (pushes to one key, heartbeats), or for 10,000
  logins. Clients and pusher run on the same machine in other processes and are not in it.
- **Limit**: the bare loop, CPU seconds for a million: pre-encoded frames, one `send()` after the other to as many connections, nothing
  else, one message a write. It runs right before and after each measurement. No server that writes as often can be cheaper; one that
  joins messages can.
- **Of the limit**: the median of CPU divided by limit, pair by pair. Machines drift, and the limit drifts with them, so this is the figure
  to compare. A target in CPU seconds was set where the limit was 7.4 (1,000 connections), 10.8 (10,000) or 10.2 (40 messages a second);
  it is told as a ratio to that.
- **Window**: pushes that not everyone concerned has received yet.
- **Offered, received, lost**: messages over all runs, with their warm-up, counted by sequence on every connection.
- **goim**: what goim's comet needed with its own example settings on the same kind of machine, in a measurement of its own.
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
         Written by `comet-bench report`, version {}. Medians of {} runs of {} seconds each, after {} seconds of warm-up.\n\n\
         The machine: {} processors of the kind {}, {} GiB of memory, {}. Everything runs on it and talks over loopback.\n\n\
         {EXPLANATION}",
        document.version,
        document.pairs,
        document.timing.seconds,
        document.timing.warmup,
        machine.processors,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
    )
}

fn targets(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    writeln!(
        out,
        "\n## Targets\n\n| Work | Door | Connections | Reached | Target | Met | goim |\n| --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for case in measured {
        let Some(row) = case.medians.first() else {
            continue;
        };
        for verdict in &case.verdicts {
            let (reached, target) = told(verdict);
            writeln!(
                out,
                "| {} | {} | {} | {reached} | {target} | {} | {} |",
                work(row),
                row.door.map_or("", Door::name),
                grouped(row.connections.into()),
                if verdict.met { "yes" } else { "**no**" },
                case.goim
            )?;
        }
    }
    Ok(())
}

fn results(out: &mut String, measured: &[Measured]) -> std::fmt::Result {
    writeln!(
        out,
        "\n## All results\n\nMedians of the runs; counts are sums over them.\n\n\
         | Work | Door | Connections | A second | CPU | Limit | Of the limit | p50, p99, p99.9 ms | A read | Offered | Received | Lost |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    let mut notes = Vec::new();
    for case in measured {
        for (part, row) in case.medians.iter().enumerate() {
            let ratio = case.of_limit.filter(|_| part == 0);
            let quantiles: Vec<_> = [row.p50, row.p99, row.p999].into_iter().flatten().collect();
            let quantiles = quantiles.iter().map(|millis| format!("{millis:.2}"));
            let quantiles = quantiles.collect::<Vec<_>>().join(", ");
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {quantiles} | {} | {} | {} | {} |",
                work(row),
                row.door.map_or("", Door::name),
                grouped(row.connections.into()),
                rate(row.per_second),
                number(row.server_cpu),
                number(row.limit),
                number(ratio),
                number(row.messages_per_read),
                grouped(row.offered),
                grouped(row.received),
                grouped(row.lost),
            )?;
            let faults = faults(row);
            if !faults.is_empty() {
                notes.push(format!("- {}: {}", work(row), faults.join("; ")));
            }
        }
    }
    writeln!(
        out,
        "\n\"A read\" is the messages that a client found in one read: about what the server writes at once.\n"
    )?;
    writeln!(out, "{}", notes.join("\n"))
}

/// What a verdict says.
fn told(verdict: &Verdict) -> (String, String) {
    let reached = verdict.reached.unwrap_or(f64::NAN);
    match verdict.target {
        Target::OfLimit(most) => (
            format!("{reached:.2} of the limit"),
            format!("at most {most:.2}"),
        ),
        Target::P99(most) => (format!("p99 {reached:.2} ms"), format!("at most {most} ms")),
        Target::PerSecond(least) => (
            format!("{} a second", rate(reached)),
            format!("at least {}", rate(least)),
        ),
        Target::Bytes(most) => (
            format!("{reached:.0} bytes each"),
            format!("at most {most:.0}"),
        ),
        Target::IdleCpu(most) => (
            format!("{:.3} % of a core", reached * 100.0),
            format!("at most {:.1} %", most * 100.0),
        ),
        Target::NoFault => (format!("{reached:.0} faults"), "none".to_owned()),
        Target::Told => (
            format!("{reached:.0} lost and not told, or the reverse"),
            "none".to_owned(),
        ),
        Target::Keeps(least) => (
            format!("{:.0} % of the best throughput", reached * 100.0),
            format!("at least {:.0} %", least * 100.0),
        ),
    }
}

fn work(row: &Row) -> String {
    match row.body {
        Some(body) if body != 32 => format!("{}, {body} bytes", row.scenario),
        _ => row.scenario.clone(),
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.2}"))
}

/// A rate, without digits that mean nothing.
fn rate(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1.0.. => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below a million"
            )]
            let whole = value.round() as u64;
            grouped(whole)
        }
        _ => String::new(),
    }
}

/// A count with commas.
fn grouped(count: u64) -> String {
    if count >= 10_000_000 {
        return format!("{:.1} M", real(count) / 1e6);
    }
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let texts = [0, 999, 1000, 1_234_567, 12_345_678].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "12.3 M"]);
        assert_eq!(
            [0.0, 1234.4, 1_500_000.0].map(rate),
            ["", "1,234", "1.50 M"]
        );
    }

    #[test]
    fn a_missed_target_stays_in_the_table() {
        let verdict = Verdict {
            target: Target::OfLimit(0.27),
            reached: Some(0.5),
            met: false,
        };
        let case = Measured {
            medians: vec![Row {
                scenario: "room".to_owned(),
                ..Row::default()
            }],
            verdicts: vec![verdict],
            goim: "7.2".to_owned(),
            ..Measured::default()
        };
        let document = Document {
            measured: vec![case],
            ..Document::default()
        };
        let page = page(&document, &[("a.svg".to_owned(), "b".to_owned())]);
        assert!(
            page.contains("| 0.50 of the limit | at most 0.27 | **no** | 7.2 |"),
            "{page}"
        );
        assert!(page.contains("<img src=\"images/a.svg\" alt=\"b\""));
    }
}
