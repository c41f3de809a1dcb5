//! What a server does wrong is counted: against a server that does it on purpose, and counts what it did.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use bench::{
    clients::Fleet,
    doors::Door,
    measure::Processes,
    pusher::block_on_local,
    scenario::{Bench, Row, Timing, churn, fanout, heartbeats, idle, logins, mix, slow},
    server::Server,
};
use support::{EVERY, Fake, Fault};

/// Pushes to some clients of a server with this fault.
fn pushed(fault: Fault, pushes: &fanout::Pushes) -> (Row, u64) {
    let fake = Fake::start(fault);
    let row = block_on_local(async { fanout::rooms(&bench(&fake), pushes, 1).await });
    (row.unwrap().unwrap(), fake.faults())
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
    let over_websocket = fanout::Pushes {
        door: Door::Websocket,
        body: 200,
        ..some()
    };
    for pushes in [some(), joined, paced, over_websocket] {
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
fn what_comes_right_before_a_close_is_received_and_the_close_is_counted() {
    for door in [Door::Tcp, Door::Websocket] {
        let fake = Fake::start(Fault::Close);
        block_on_local(async {
            let bench = bench(&fake);
            let pushes = fanout::Pushes { door, ..some() };
            let row = fanout::rooms(&bench, &pushes, 1).await.unwrap();
            assert_eq!((row.received, row.gone), (EVERY * 5, 5), "{row:?}");
            assert_eq!(row.received + row.lost, row.offered);
            let stats = bench.fleet.stats().await.unwrap();
            assert_eq!((stats.closed, stats.errors), (5, 0), "{stats:?}");
        })
        .unwrap();
        assert_eq!(fake.faults(), 5);
    }
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

#[test]
fn keys_and_everyone_are_reached() {
    let fake = Fake::start(Fault::None);
    block_on_local(async {
        let bench = bench(&fake);
        let row = fanout::keys(&bench, &some(), 2).await.unwrap();
        // Keys 0, 2 and 4, then 1 and 3.
        assert!(row.received > 35 && row.lost + row.strays == 0, "{row:?}");
        let row = mix::run(&bench, &some(), 1).await.unwrap();
        assert!(row.received > 35 && row.connections == 5, "{row:?}");
    })
    .unwrap();
    let fake = Fake::start(Fault::None);
    let row = block_on_local(async { fanout::broadcast(&bench(&fake), &some()).await });
    let row = row.unwrap().unwrap();
    assert!(row.received > 35 && row.lost + row.strays == 0, "{row:?}");
}

#[test]
fn what_comes_to_the_wrong_client_is_a_stray() {
    let fake = Fake::start(Fault::Stray);
    let row = block_on_local(async { fanout::keys(&bench(&fake), &some(), 1).await });
    let row = row.unwrap().unwrap();
    assert!(fake.faults() > 0);
    assert_eq!((row.strays, row.lost), (fake.faults(), 0));
}

#[test]
fn those_who_stay_and_read_notice_nothing_of_the_others() {
    let fake = Fake::start(Fault::None);
    block_on_local(async {
        let bench = bench(&fake);
        let pushes = fanout::Pushes {
            connections: 20,
            ..fanout::Pushes::default()
        };
        for row in [
            slow::run(&bench, &pushes, 4).await.unwrap(),
            churn::run(&bench, &pushes, 4).await.unwrap(),
        ] {
            assert!(row.received > 0, "{row:?}");
            assert_eq!(row.received, row.offered);
            assert_eq!(row.gone + row.strays + row.duplicated, 0, "{row:?}");
        }
        let (row, curve) = idle::run(&bench, Door::Tcp, &[5, 20], 0.1).await.unwrap();
        assert_eq!((row.received, curve.0.len()), (20, 2));
    })
    .unwrap();
}
