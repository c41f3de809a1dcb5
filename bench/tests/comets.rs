//! `comet-bench` with comets that it starts itself, small: as processes, as people run it.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::{path::PathBuf, process::Command};

use bench::scenario::Row;

/// What `comet-bench` says with a comet that it may start, as JSON; nothing where no comet has been built beside it.
fn bench(args: &[&str]) -> Option<Row> {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_comet-bench"));
    let comet = bench.with_file_name("comet");
    if !comet.exists() {
        eprintln!("skipped: cargo build -p comet builds the server that this test needs");
        return None;
    }
    let output = Command::new(bench)
        .arg("--comet")
        .arg(comet)
        .args(["--json", "-"])
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let rows: Vec<Row> = serde_json::from_slice(&output.stdout).unwrap();
    rows.into_iter().next()
}

#[test]
fn many_comets_have_their_connections_and_all_get_a_broadcast() {
    let args = "million --connections 2000 --per-comet 1000 --quiet 1";
    let args: Vec<_> = args.split(' ').collect();
    for door in ["tcp", "websocket", "tcp-tls", "wss"] {
        let Some(row) = bench(&[&args[..], &["--door", door]].concat()) else {
            return;
        };
        assert!(row.scenario.starts_with("2 comets"), "{row:?}");
        assert_eq!(
            (row.connections, row.received, row.faults()),
            (2000, 2000, 0)
        );
        // So few connections are less than what an allocator takes and gives back by itself.
        assert!(
            row.bytes_per_connection.is_some() && row.rss.unwrap() > 0,
            "{row:?}"
        );
        assert!(
            row.server_cpu.unwrap() > 0.0 && row.p99.unwrap() > 0.0,
            "{row:?}"
        );
    }
}

#[test]
fn what_is_dropped_for_those_who_do_not_read_is_told() {
    // A backlog of few messages is soon full, but not for clients that are only kept waiting for a second.
    let args = "--set protocol.svrProto=4 --warmup 0.2 --seconds 8 slow --resume --via stream --rate 10 --connections 40 --stopped 10";
    let args: Vec<_> = args.split(' ').collect();
    let Some(row) = bench(&args) else {
        return;
    };
    assert!(row.lost > 0 && row.told == Some(row.lost), "{row:?}");
    assert_eq!(row.faults(), row.lost, "{row:?}");
}

#[test]
fn every_door_gets_every_message() {
    for door in ["tcp", "websocket", "sse", "poll"] {
        let args = format!("--warmup 0.1 --seconds 0.5 room --connections 50 --door {door}");
        let Some(row) = bench(&args.split(' ').collect::<Vec<_>>()) else {
            return;
        };
        assert_eq!(row.faults(), 0, "{row:?}");
        assert!(row.received >= 50 && row.received == row.offered, "{row:?}");
    }
}

#[test]
fn a_soak_ends_with_what_it_began_with() {
    let args = "soak --minutes 0.0834 --staying 40 --coming 10 --stopped 4";
    let args: Vec<_> = args.split(' ').collect();
    let Some(row) = bench(&args) else {
        return;
    };
    assert_eq!(row.faults(), 0, "{row:?}");
    assert!(
        row.received > 1000 && row.received == row.offered,
        "{row:?}"
    );
    assert!(row.note.contains("logins and goodbyes"), "{row:?}");
}
