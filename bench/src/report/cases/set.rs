//! The published set: what is measured, beside which limit, and what is aimed at.

use super::{Case, Target, Work};
use crate::{
    doors::Door,
    limit::LimitArgs,
    million::MillionArgs,
    pusher::Via,
    report::growth::MOST_GROWTH,
    scenario::{fanout::Pushes, mix, soak::SoakArgs},
};

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
    over_http(&mut cases);
    hardships(&mut cases);
    by_hand(&mut cases);
    cases
}

fn case(id: impl Into<String>, work: Work, goim: &'static str, targets: &[Target]) -> Case {
    Case {
        id: id.into(),
        limit: limit_of(&work),
        work,
        targets: targets.to_vec(),
        set_at: None,
        goim,
        at_most: usize::MAX,
        by_hand: false,
    }
}

/// A case whose target in CPU seconds was set where the limit took `limit`.
fn case_at(
    limit: f64,
    id: impl Into<String>,
    work: Work,
    goim: &'static str,
    targets: &[Target],
) -> Case {
    Case {
        set_at: Some(limit),
        ..case(id, work, goim, targets)
    }
}

/// The bare loop that writes as the work does: to as many connections, with as large bodies, as often.
fn limit_of(work: &Work) -> Option<LimitArgs> {
    let (pushes, connections) = match work {
        Work::Rooms(pushes, _) | Work::Broadcast(pushes) | Work::Overload(pushes) => {
            (pushes, pushes.connections)
        }
        // Nothing is written to those that are idle.
        Work::Mix(pushes, _) => (pushes, mix::busy(pushes.connections)),
        // The loop writes to all in turn and then rests; a paced push to one key is a write by itself.
        Work::Keys(pushes, _) if pushes.rate.is_none() => (pushes, pushes.connections),
        Work::Logins(_) | Work::Heartbeats(_) => return Some(LimitArgs::default()),
        // They are paced by themselves, do more than write, or do not write at all.
        Work::Keys(..)
        | Work::Search(_)
        | Work::Idle(_)
        | Work::Slow(..)
        | Work::Resume(..)
        | Work::Churn(..)
        | Work::Million(_)
        | Work::Soak(_) => return None,
    };
    Some(LimitArgs {
        connections,
        body: pushes.body,
        rate: pushes.rate,
        ..LimitArgs::default()
    })
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
        (Door::TcpTls | Door::Wss | Door::Sse | Door::Poll, _) => [""; 3],
    };
    let (eight, many) = if small { (2.0, 0.5) } else { (3.0, 0.8) };
    let one = [Target::OfLimit(1.25)];
    let eight = [Target::OfLimit(eight / limit)];
    let many = [Target::OfLimit(many / limit), Target::PerSecond(1.5e6)];
    let windows = [
        (1, &one[..], None),
        (8, &eight[..], Some(limit)),
        (64, &many[..], Some(limit)),
    ];
    for ((window, targets, set_at), goim) in windows.into_iter().zip(goim) {
        let id = format!("room-{window}-{}-{connections}", door.name().to_lowercase());
        let work = Work::Rooms(pushes(connections, door, window), 1);
        cases.push(Case {
            set_at,
            ..case(id, work, goim, targets)
        });
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
    let targets = [Target::OfLimit(eight / limit)];
    cases.push(case_at(limit, id, work, goim, &targets));
    let large = Pushes {
        body: 1024,
        ..pushes(connections, Door::Tcp, 8)
    };
    let goim = if connections == 1000 { "7.9" } else { "12.6" };
    let id = format!("room-8-1k-{connections}");
    let work = Work::Rooms(large, 1);
    cases.push(case_at(limit, id, work, goim, &targets));
}

fn other_ways(cases: &mut Vec<Case>) {
    let ten = Pushes {
        join: 10,
        ..pushes(1000, Door::Tcp, 8)
    };
    let targets = [Target::OfLimit(0.4 / LIMIT_1000)];
    let work = Work::Rooms(ten, 1);
    cases.push(case_at(
        LIMIT_1000,
        "joined",
        work,
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
        let work = Work::Rooms(paced, 1);
        cases.push(case_at(LIMIT_40, id, work, goim, &targets));
    }
    for (connections, limit, [eight, many]) in [
        (1000, LIMIT_1000, [2.0, 0.5]),
        (10_000, LIMIT_10000, [3.0, 0.8]),
    ] {
        in_order(cases, connections, (8, eight, limit), None);
        let throughput = Some(Target::PerSecond(1.5e6));
        in_order(cases, connections, (64, many, limit), throughput);
        let one_by_one = Pushes {
            calls: 1,
            ..pushes(connections, Door::Tcp, 8)
        };
        let id = format!("room-8-call-{connections}");
        let target = Target::OfLimit(eight / limit);
        let work = Work::Rooms(one_by_one, 1);
        cases.push(case_at(limit, id, work, "", &[target]));
    }
}

/// Through comet.v1's stream, as Comet's own logic pushes: in order. With a window, for so many CPU seconds where the limit
/// takes so many.
fn in_order(
    cases: &mut Vec<Case>,
    connections: u32,
    (window, cpu, limit): (u64, f64, f64),
    throughput: Option<Target>,
) {
    let streamed = Pushes {
        via: Via::Stream,
        ..pushes(connections, Door::Tcp, window)
    };
    let mut targets = vec![Target::OfLimit(cpu / limit), Target::NoFault];
    targets.extend(throughput);
    let id = format!("room-{window}-stream-{connections}");
    let work = Work::Rooms(streamed, 1);
    cases.push(case_at(limit, id, work, "", &targets));
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
    for rooms in [1, 10, 100, 1000, 10_000] {
        let streamed = Pushes {
            via: Via::Stream,
            ..pushes(10_000, Door::Tcp, u64::from(rooms))
        };
        let grown = if rooms == 1 { 1.0 } else { MOST_GROWTH };
        cases.push(case(
            format!("rooms-{rooms}"),
            Work::Rooms(streamed, rooms),
            "",
            &[Target::OfLimit(grown * 1.25)],
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
        let work = Work::Keys(pushes, 1);
        cases.push(case_at(LIMIT_1000, id, work, goim, &[target]));
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
        cases.push(case_at(
            LIMIT_1000,
            format!("logins-{name}"),
            Work::Logins(door),
            logins,
            &[of(cpu)],
        ));
        cases.push(case_at(
            LIMIT_1000,
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
    secured(cases);
}

/// Behind TLS, which neither the limit nor goim's figures have.
fn secured(cases: &mut Vec<Case>) {
    let logins = Work::Logins(Door::Wss);
    cases.push(case("logins-wss", logins, "", &[]));
    let targets = [
        Target::Bytes(8192.0),
        Target::IdleCpu(0.001),
        Target::NoFault,
    ];
    let idle = Work::Idle(Door::Wss);
    cases.push(case("idle-wss", idle, "", &targets));
    let room = Work::Rooms(pushes(1000, Door::Wss, 8), 1);
    cases.push(case("room-8-wss-1000", room, "", &[]));
}

/// The doors of those who have nothing but HTTP. goim's comet has neither.
fn over_http(cases: &mut Vec<Case>) {
    for door in [Door::Sse, Door::Poll] {
        let name = door.name().to_lowercase();
        let room = Work::Rooms(pushes(1000, door, 8), 1);
        cases.push(case(format!("room-8-{name}-1000"), room, "", &[]));
        cases.push(case(format!("logins-{name}"), Work::Logins(door), "", &[]));
        let idle = Work::Idle(door);
        cases.push(case(format!("idle-{name}"), idle, "", &[Target::NoFault]));
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
    // The stream's receipts tell what was dropped for those that stopped.
    let streamed = Pushes {
        via: Via::Stream,
        ..thousand.clone()
    };
    cases.push(case("slow", Work::Slow(streamed.clone(), 50), slow, none));
    let resume = Work::Resume(streamed.clone(), 50);
    cases.push(case("slow-resume", resume, "", &[Target::Told]));
    cases.push(case("churn", Work::Churn(thousand, 200), "", none));
    let mix = Pushes {
        calls: 1,
        ..pushes(10_000, Door::Tcp, 64)
    };
    cases.push(case("mix", Work::Mix(mix, 10), "", none));
    let targets = [Target::Keeps(0.9), Target::Told, Target::Recovers];
    cases.push(case("overload", Work::Overload(streamed), "", &targets));
    for (door, goim) in [
        (Door::Tcp, "167,000 a second"),
        (Door::Websocket, "151,000 a second"),
    ] {
        let id = format!("search-{}", door.name().to_lowercase());
        let as_many = Pushes {
            calls: u32::try_from(JOB_ROUTINES).unwrap_or(1),
            ..pushes(1000, door, 1)
        };
        let search = case(id, Work::Search(as_many), goim, &[]);
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
    fn the_limit_writes_as_the_case_does() {
        let limit = |id: &str| all().into_iter().find(|case| case.id == id).unwrap().limit;
        let of = |id| limit(id).map(|limit| (limit.connections, limit.body, limit.rate));
        assert_eq!(of("room-8-1k-10000"), Some((10_000, 1024, None)));
        assert_eq!(of("room-40-tcp"), Some((1000, 32, Some(40.0))));
        assert_eq!(of("mix"), Some((1000, 32, None)));
        assert_eq!(of("logins-tcp"), Some((1000, 32, None)));
        assert_eq!(of("key-unary"), Some((1000, 32, None)));
        for id in ["key-unary-5000", "slow", "churn", "idle-tcp", "soak"] {
            assert!(limit(id).is_none(), "{id}");
        }
    }

    #[test]
    fn a_target_in_cpu_seconds_says_where_it_was_set() {
        let all = all();
        let set_at = |id: &str| all.iter().find(|case| case.id == id).unwrap().set_at;
        assert_eq!(set_at("room-8-tcp-10000"), Some(LIMIT_10000));
        assert_eq!(set_at("room-1-tcp-1000"), None);
    }
}
