//! What a server does wrong is counted: against a server that does it on purpose, and counts what it did.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use bench::{
    clients::Fleet,
    doors::Door,
    measure::Processes,
    pusher::block_on_local,
    scenario::{Bench, Row, Timing, fanout, heartbeats, logins},
    server::Server,
};
use support::{Fake, Fault};

/// Pushes to some clients of a server with this fault.
fn pushed(fault: Fault, pushes: &fanout::Pushes) -> (Row, u64) {
    let fake = Fake::start(fault);
    let row = block_on_local(async {
        let bench = bench(&fake);
        fanout::rooms(&bench, pushes, 1).await.unwrap()
    });
    (row.unwrap(), fake.faults())
}

fn bench(fake: &Fake) -> Bench {
    let server = Server::at(fake.doors, Some(fake.grpc), Processes::this());
    Bench {
        fleet: Fleet::start(server.doors, 2).unwrap(),
        server,
        timing: Timing {
            warmup: 0.1,
            seconds: 1.0,
        },
    }
}

fn some() -> fanout::Pushes {
    fanout::Pushes {
        connections: 5,
        ..fanout::Pushes::default()
    }
}

#[test]
fn a_good_server_has_no_faults() {
    let joined = fanout::Pushes { join: 10, ..some() };
    let paced = fanout::Pushes {
        rate: Some(500.0),
        body: 1024,
        ..some()
    };
    for pushes in [some(), joined, paced] {
        let (row, _) = pushed(Fault::None, &pushes);
        assert!(row.received > 35, "{row:?}");
        assert_eq!(row.received, row.offered);
        let faults = row.lost + row.duplicated + row.reordered + row.strays + row.gone;
        assert_eq!(faults + row.refused + row.stalls, 0, "{row:?}");
        assert!(row.p50.unwrap() <= row.p99.unwrap());
    }
}

#[test]
fn what_is_dropped_is_lost() {
    let (row, faults) = pushed(Fault::Drop, &some());
    assert!(faults > 0);
    assert_eq!((row.lost, row.duplicated, row.reordered), (faults, 0, 0));
    assert_eq!(row.received + row.lost, row.offered);
}

#[test]
fn what_comes_twice_is_duplicated() {
    let (row, faults) = pushed(Fault::Repeat, &some());
    assert!(faults > 0);
    assert_eq!((row.lost, row.duplicated, row.reordered), (0, faults, 0));
}

#[test]
fn what_is_overtaken_is_reordered() {
    let (row, faults) = pushed(Fault::Swap, &some());
    assert!(faults > 0);
    // The last of all may still be held back.
    assert!(row.lost <= 5, "{row:?}");
    assert_eq!((row.duplicated, row.reordered), (0, faults));
}

#[test]
fn refused_pushes_are_not_lost() {
    let (row, faults) = pushed(Fault::Refuse, &some());
    assert!(faults > 0);
    assert_eq!((row.lost, row.refused), (0, faults * 5));
}

#[test]
fn logins_and_heartbeats_are_counted() {
    let fake = Fake::start(Fault::None);
    block_on_local(async {
        let bench = bench(&fake);
        let row = logins::run(&bench, Door::Tcp, 50, 8, 2).await.unwrap();
        assert_eq!((row.received, row.lost), (100, 0));
        let row = heartbeats::run(&bench, Door::Tcp, 20).await.unwrap();
        assert!(row.received > 20);
        assert_eq!(row.gone, 0);
    })
    .unwrap();
}
