//! The published set: what is measured, beside which limit, and what is aimed at.

use serde::{Deserialize, Serialize};

use crate::{
    doors::Door,
    limit::LimitArgs,
    million::MillionArgs,
    pusher::Via,
    scenario::{fanout::Pushes, soak::SoakArgs},
};

/// Something that is measured.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name on the command line.
    pub id: String,
    /// The work.
    pub work: Work,
    /// The bare loop that runs before and after.
    pub limit: LimitArgs,
    /// What is aimed at.
    pub targets: Vec<Target>,
    /// What goim's comet needs, where it was measured: on the same kind of machine, with its own example settings.
    pub goim: &'static str,
    /// It takes long and is measured no more often than this.
    pub at_most: usize,
    /// It is measured only where its whole name is given: it needs much of a machine or of time, and stands beside no limit.
    pub by_hand: bool,
}

impl Case {
    /// Whether it is among those that are asked for by the beginnings of their names; by none, all are but those by hand.
    pub fn is_asked_for(&self, only: &[String]) -> bool {
        if self.by_hand {
            return only.contains(&self.id);
        }
        only.is_empty() || only.iter().any(|name| self.id.starts_with(name))
    }
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Work {
    /// Pushes to so many rooms in turn.
    Rooms(Pushes, u32),
    /// Pushes to everyone.
    Broadcast(Pushes),
    /// Pushes to so many keys a call.
    Keys(Pushes, u32),
    /// The highest rate without loss.
    Search(Pushes),
    /// Logins.
    Logins(Door),
    /// Heartbeats.
    Heartbeats(Door),
    /// Idle connections.
    Idle(Door),
    /// Stopped readers.
    Slow(Pushes, u32),
    /// Coming and going.
    Churn(Pushes, u32),
    /// Idle connections and busy rooms.
    Mix(Pushes, u32),
    /// More than can be delivered.
    Overload(Pushes),
    /// Many comets.
    Million(MillionArgs),
    /// All of it for a long time.
    Soak(SoakArgs),
}

/// What a result is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The server's CPU time is at most so many times the limit's.
    OfLimit(f64),
    /// Milliseconds, at most.
    P99(f64),
    /// Deliveries, at least.
    PerSecond(f64),
    /// Resident bytes of a connection, at most.
    Bytes(f64),
    /// Share of a core while nothing happens, at most.
    IdleCpu(f64),
    /// Nothing is lost, repeated or in another order, and nobody is closed.
    NoFault,
    /// The throughput under more load is at least this share of the best before.
    Keeps(f64),
    /// The server says itself how much it dropped.
    Told,
}

/// The limit with one message a write, when the targets were set: CPU seconds for a million.
const LIMIT_1000: f64 = 7.4;
/// The same with 10,000 connections.
const LIMIT_10000: f64 = 10.8;
/// The same with 1,000 connections and 40 messages a second.
const LIMIT_40: f64 = 10.2;
/// What a write costs goim's comet then.
const GOIM_40: f64 = 13.2;

/// Routines of goim's job for each comet, which call it side by side: so many calls are under way where the window allows.
const JOB_ROUTINES: u64 = 32;

/// All cases.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (connections, limit) in [(1000, LIMIT_1000), (10_000, LIMIT_10000)] {
        for door in [Door::Tcp, Door::Websocket] {
            fanouts(&mut cases, connections, limit, door);
        }
        broadcasts(&mut cases, connections, limit);
    }
    other_ways(&mut cases);
    growth(&mut cases);
    keys(&mut cases);
    sessions(&mut cases);
    hardships(&mut cases);
    by_hand(&mut cases);
    cases
}

fn case(id: impl Into<String>, work: Work, goim: &'static str, targets: &[Target]) -> Case {
    let connections = match &work {
        Work::Rooms(pushes, _) | Work::Broadcast(pushes) | Work::Keys(pushes, _) => {
            pushes.connections
        }
        _ => 1000,
    };
    Case {
        id: id.into(),
        limit: LimitArgs {
            connections,
            ..LimitArgs::default()
        },
        work,
        targets: targets.to_vec(),
        goim,
        at_most: usize::MAX,
        by_hand: false,
    }
}

/// Of `connections` over a door, with a window, as goim's job would push.
fn pushes(connections: u32, door: Door, window: u64) -> Pushes {
    Pushes {
        connections,
        door,
        window,
        calls: u32::try_from(window.min(JOB_ROUTINES)).unwrap_or(1),
        ..Pushes::default()
    }
}

fn fanouts(cases: &mut Vec<Case>, connections: u32, limit: f64, door: Door) {
    let small = connections == 1000;
    let goim = match (door, small) {
        (Door::Tcp, true) => ["", "7.2 to 8.5", "6.7"],
        (Door::Tcp, false) => ["", "11.6", "10.8"],
        (Door::Websocket, true) => ["", "7.7", ""],
        (Door::Websocket, false) => ["", "14.0", ""],
    };
    let (eight, many) = if small { (2.0, 0.5) } else { (3.0, 0.8) };
    let windows = [
        (1, vec![Target::OfLimit(1.25)]),
        (8, vec![Target::OfLimit(eight / limit)]),
        (
            64,
            vec![Target::OfLimit(many / limit), Target::PerSecond(1.5e6)],
        ),
    ];
    for ((window, targets), goim) in windows.into_iter().zip(goim) {
        let id = format!("room-{window}-{}-{connections}", door.name().to_lowercase());
        let work = Work::Rooms(pushes(connections, door, window), 1);
        cases.push(case(id, work, goim, &targets));
    }
}

fn broadcasts(cases: &mut Vec<Case>, connections: u32, limit: f64) {
    let (eight, goim) = if connections == 1000 {
        (2.0, "8.3")
    } else {
        (3.0, "13.2")
    };
    let work = Work::Broadcast(pushes(connections, Door::Tcp, 8));
    let id = format!("broadcast-{connections}");
    cases.push(case(id, work, goim, &[Target::OfLimit(eight / limit)]));
    let large = Pushes {
        body: 1024,
        ..pushes(connections, Door::Tcp, 8)
    };
    let goim = if connections == 1000 { "7.9" } else { "12.6" };
    let targets = [Target::OfLimit(eight / limit)];
    let mut large = case(
        format!("room-8-1k-{connections}"),
        Work::Rooms(large, 1),
        goim,
        &targets,
    );
    large.limit.body = 1024;
    cases.push(large);
}

fn other_ways(cases: &mut Vec<Case>) {
    let ten = Pushes {
        join: 10,
        ..pushes(1000, Door::Tcp, 8)
    };
    let targets = [Target::OfLimit(0.4 / LIMIT_1000)];
    cases.push(case(
        "joined",
        Work::Rooms(ten, 1),
        "0.81 to 0.88",
        &targets,
    ));
    for (door, goim) in [(Door::Tcp, "13.2, p99 15.4 ms"), (Door::Websocket, "")] {
        let paced = Pushes {
            rate: Some(40.0),
            ..pushes(1000, door, 1)
        };
        let targets = [Target::OfLimit(0.85 * GOIM_40 / LIMIT_40), Target::P99(8.0)];
        let id = format!("room-40-{}", door.name().to_lowercase());
        let mut paced = case(id, Work::Rooms(paced, 1), goim, &targets);
        paced.limit.rate = Some(40.0);
        cases.push(paced);
    }
    for (connections, limit, [eight, many]) in [
        (1000, LIMIT_1000, [2.0, 0.5]),
        (10_000, LIMIT_10000, [3.0, 0.8]),
    ] {
        in_order(cases, connections, (8, eight / limit), None);
        let throughput = Some(Target::PerSecond(1.5e6));
        in_order(cases, connections, (64, many / limit), throughput);
        let one_by_one = Pushes {
            calls: 1,
            ..pushes(connections, Door::Tcp, 8)
        };
        let id = format!("room-8-call-{connections}");
        let target = Target::OfLimit(eight / limit);
        cases.push(case(id, Work::Rooms(one_by_one, 1), "", &[target]));
    }
}

/// Through comet.v1's stream, as Comet's own logic pushes: in order.
fn in_order(
    cases: &mut Vec<Case>,
    connections: u32,
    (window, of_limit): (u64, f64),
    throughput: Option<Target>,
) {
    let streamed = Pushes {
        via: Via::Stream,
        ..pushes(connections, Door::Tcp, window)
    };
    let mut targets = vec![Target::OfLimit(of_limit), Target::NoFault];
    targets.extend(throughput);
    let id = format!("room-{window}-stream-{connections}");
    cases.push(case(id, Work::Rooms(streamed, 1), "", &targets));
}

fn growth(cases: &mut Vec<Case>) {
    for window in [1, 8] {
        let targets = if window == 1 {
            vec![Target::OfLimit(1.25)]
        } else {
            Vec::new()
        };
        let work = Work::Rooms(pushes(19_000, Door::Tcp, window), 1);
        cases.push(case(format!("room-{window}-tcp-19000"), work, "", &targets));
    }
    for rooms in [10, 100, 1000, 10_000] {
        let streamed = Pushes {
            via: Via::Stream,
            ..pushes(10_000, Door::Tcp, u64::from(rooms))
        };
        cases.push(case(
            format!("rooms-{rooms}"),
            Work::Rooms(streamed, rooms),
            "",
            &[Target::OfLimit(1.15 * 1.25)],
        ));
    }
}

fn keys(cases: &mut Vec<Case>) {
    let unary = Pushes {
        calls: 64,
        ..pushes(1000, Door::Tcp, 1000)
    };
    let stream = Pushes {
        via: Via::Stream,
        ..pushes(1000, Door::Tcp, 256)
    };
    let paced = |pushes: &Pushes| Pushes {
        rate: Some(5000.0),
        ..pushes.clone()
    };
    let more = |cost: f64| Target::OfLimit((LIMIT_1000 + cost) / LIMIT_1000);
    let one = [
        ("key-unary", unary.clone(), "28 to 29", more(8.0)),
        ("key-stream", stream.clone(), "", more(3.0)),
        ("key-unary-5000", paced(&unary), "74.5", Target::P99(1.0)),
        ("key-stream-5000", paced(&stream), "", Target::P99(1.0)),
    ];
    for (id, pushes, goim, target) in one {
        cases.push(case(id, Work::Keys(pushes, 1), goim, &[target]));
    }
    let hundred = Pushes {
        calls: 16,
        ..pushes(1000, Door::Tcp, 16)
    };
    cases.push(case("keys-100", Work::Keys(hundred, 100), "9.8", &[]));
}

fn sessions(cases: &mut Vec<Case>) {
    let of = |cpu: f64| Target::OfLimit(cpu / LIMIT_1000);
    let doors = [
        (Door::Tcp, ["0.67", "44", "27.4 KB"], 0.35),
        (Door::Websocket, ["0.83", "", "29.5 KB"], 0.45),
    ];
    for (door, [logins, beats, idle], cpu) in doors {
        let name = door.name().to_lowercase();
        cases.push(case(
            format!("logins-{name}"),
            Work::Logins(door),
            logins,
            &[of(cpu)],
        ));
        cases.push(case(
            format!("heartbeats-{name}"),
            Work::Heartbeats(door),
            beats,
            &[of(22.0)],
        ));
        let targets = [
            Target::Bytes(1024.0),
            Target::IdleCpu(0.001),
            Target::NoFault,
        ];
        cases.push(case(
            format!("idle-{name}"),
            Work::Idle(door),
            idle,
            &targets,
        ));
    }
}

fn hardships(cases: &mut Vec<Case>) {
    // One call after the other: several may change the order, which would be counted as a fault.
    let thousand = Pushes {
        calls: 1,
        ..pushes(1000, Door::Tcp, 8)
    };
    let none = &[Target::NoFault];
    let slow = "others lose 20 % when a stopped reader logs in again";
    cases.push(case("slow", Work::Slow(thousand.clone(), 50), slow, none));
    cases.push(case("churn", Work::Churn(thousand.clone(), 200), "", none));
    let mix = Pushes {
        calls: 1,
        ..pushes(10_000, Door::Tcp, 64)
    };
    cases.push(case("mix", Work::Mix(mix, 10), "", none));
    let streamed = Pushes {
        via: Via::Stream,
        ..thousand
    };
    let overload = case(
        "overload",
        Work::Overload(streamed),
        "",
        &[Target::Keeps(0.9), Target::Told],
    );
    cases.push(Case {
        at_most: 3,
        ..overload
    });
    for (door, goim) in [
        (Door::Tcp, "167,000 a second"),
        (Door::Websocket, "151,000 a second"),
    ] {
        let id = format!("search-{}", door.name().to_lowercase());
        let search = case(id, Work::Search(pushes(1000, door, 1)), goim, &[]);
        cases.push(Case {
            at_most: 1,
            ..search
        });
    }
}

fn by_hand(cases: &mut Vec<Case>) {
    let small = [Target::Bytes(1024.0), Target::NoFault];
    let works = [
        ("million", Work::Million(MillionArgs::default()), &small[..]),
        ("soak", Work::Soak(SoakArgs::default()), &small[1..]),
    ];
    for (id, work, targets) in works {
        cases.push(Case {
            at_most: 1,
            by_hand: true,
            ..case(id, work, "", targets)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_by_hand_must_be_named_in_full() {
        let asked = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            let cases = all().into_iter().filter(|case| case.is_asked_for(&only));
            cases.map(|case| case.id).collect::<Vec<_>>()
        };
        let has = |ids: &[String], id: &str| ids.iter().any(|it| it == id);
        assert!(has(&asked(&[]), "mix") && !has(&asked(&[]), "million"));
        assert!(!has(&asked(&[]), "soak"));
        assert_eq!(asked(&["mi"]), ["mix"]);
        assert_eq!(asked(&["million", "soak"]), ["million", "soak"]);
    }
}
