//! Which comet a client should connect to: goim's weights.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;

use crate::comets::Comet;

/// goim's longest list of nodes for one client.
const MAX_NODES: usize = 5;

/// goim's bounds of a weight.
const WEIGHTS: std::ops::RangeInclusive<i64> = 1..=1 << 20;

/// Comets by what they should get of the clients to come. A comet that was just offered first counts as having one
/// connection more, until its own next count.
#[derive(Debug, Default)]
pub struct Balancer {
    /// How many clients each comet was offered to since it counted itself.
    offered: Mutex<HashMap<Arc<str>, (Instant, i64)>>,
}

/// One comet in the balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    fixed_weight: i64,
    connections: i64,
    in_region: bool,
}

impl Balancer {
    /// The comets for a client of `region`, the best first and at most five. Those that are offline are not among them, and those
    /// that may be dead only if all others are.
    pub fn choose<'a>(
        &self,
        comets: impl Iterator<Item = &'a Arc<Comet>>,
        region: Option<&str>,
        region_weight: f64,
    ) -> Vec<&'a Arc<Comet>> {
        let online = comets.filter(|comet| !comet.info.offline);
        let (suspect, alive): (Vec<_>, Vec<_>) = online.partition(|comet| comet.is_suspect());
        let comets = if alive.is_empty() { suspect } else { alive };
        let mut offered = self.offered.lock();
        offered.retain(|name, (at, _)| {
            comets
                .iter()
                .any(|comet| comet.name == *name && comet.renewed == *at)
        });
        let candidates: Vec<_> = comets
            .iter()
            .map(|comet| Candidate {
                fixed_weight: i64::from(comet.info.weight).clamp(*WEIGHTS.start(), *WEIGHTS.end()),
                connections: i64::from(comet.info.connections)
                    + offered.get(&comet.name).map_or(0, |(_, offered)| *offered),
                in_region: region.is_some_and(|region| comet.info.region == region),
            })
            .collect();
        let mut weighed: Vec<_> = comets
            .iter()
            .zip(weights(&candidates, region_weight))
            .collect();
        weighed.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.name.cmp(&b.name)));
        let chosen: Vec<_> = weighed
            .into_iter()
            .map(|(comet, _)| *comet)
            .take(MAX_NODES)
            .collect();
        if let Some(first) = chosen.first() {
            let count = offered
                .entry(Arc::clone(&first.name))
                .or_insert((first.renewed, 0));
            count.1 = count.1.saturating_add(1);
        }
        chosen
    }
}

/// goim's weight of each candidate: what it should have of all connections by its weight, less half of what it has, and its
/// weight once more. With no connection anywhere goim calls all equal; here the weights alone decide then.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "goim's own conversions; weights and counts are far below 2^53"
)]
fn weights(candidates: &[Candidate], region_weight: f64) -> Vec<i64> {
    let total_weight: i64 = candidates
        .iter()
        .map(|candidate| candidate.fixed_weight)
        .sum();
    let total: i64 = candidates
        .iter()
        .map(|candidate| candidate.connections)
        .sum();
    let weight = |candidate: &Candidate| {
        let gain = if candidate.in_region {
            region_weight
        } else {
            1.0
        };
        let fixed = candidate.fixed_weight as f64 * gain;
        if total <= 0 {
            return fixed as i64;
        }
        let all_weights = (total_weight + fixed as i64 - candidate.fixed_weight).max(1);
        let due = fixed / all_weights as f64;
        let held = candidate.connections as f64 / total as f64 * 0.5;
        let share = (due - held) * total as f64;
        // Half way goes down, as in goim.
        let down = share - share.floor() <= 0.5;
        let rounded = if down { share.floor() } else { share.ceil() };
        let weight = (fixed + rounded) as i64;
        if due < held {
            weight.max(*WEIGHTS.start())
        } else {
            weight.min(*WEIGHTS.end())
        }
    };
    candidates.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use protocol::grpc::goim::logic::CometInfo;

    use super::*;

    fn candidate(fixed_weight: i64, connections: i64, in_region: bool) -> Candidate {
        Candidate {
            fixed_weight,
            connections,
            in_region,
        }
    }

    #[test]
    fn weights_are_goims() {
        // Computed by hand. 909,440 connections, weights 10 + 10 + 10; the second's region weighs 1.6.
        // First: 10/30 x 909,440 - 240,590/2 = 182,851.67, up to 182,852; + 10.
        // Second: 16/36 x 909,440 - 375,420/2 = 216,485.56, up to 216,486; + 16.
        // Third: 10/30 x 909,440 - 293,430/2 = 156,431.67, up to 156,432; + 10.
        let three = [
            candidate(10, 240_590, false),
            candidate(10, 375_420, true),
            candidate(10, 293_430, false),
        ];
        assert_eq!(weights(&three, 1.6), [182_862, 216_502, 156_442]);

        // 4 connections. First: 1/4 x 4 - 3/2 = -0.5, down to -1; + 1 is 0, and negative shares weigh 1 at least.
        // Second: 3/4 x 4 - 1/2 = 2.5, down to 2; + 3.
        assert_eq!(
            weights(&[candidate(1, 3, false), candidate(3, 1, false)], 1.6),
            [1, 5]
        );

        // 10 million connections, one comet has none: 1/2 of them is over the greatest weight.
        let lopsided = [candidate(1, 10_000_000, false), candidate(1, 0, false)];
        // First: 5,000,000 - 5,000,000 = 0, + 1.
        assert_eq!(weights(&lopsided, 1.6), [1, 1 << 20]);
    }

    #[test]
    fn without_connections_the_weights_decide() {
        assert_eq!(
            weights(&[candidate(10, 0, false), candidate(10, 0, true)], 1.6),
            [10, 16]
        );
        assert_eq!(weights(&[], 1.6), [0_i64; 0]);
    }

    fn comet(name: &str, info: CometInfo) -> Arc<Comet> {
        Arc::new(Comet::for_test(name, info))
    }

    #[tokio::test]
    async fn the_first_counts_as_chosen_until_it_counts_itself() {
        let of = |name: &str, connections| {
            let info = CometInfo {
                weight: 10,
                connections,
                ..CometInfo::default()
            };
            comet(name, info)
        };
        let (a, b) = (of("a", 100), of("b", 96));
        let balancer = Balancer::default();
        let first = |comets: [&Arc<Comet>; 2]| {
            let chosen = balancer.choose(comets.into_iter(), None, 1.6);
            chosen[0].name.as_ref().to_owned()
        };
        // b has 96, 97, 98: a's 98 - 50 = 48 against 98 - 48 = 50, and so on until they are equal.
        for _ in 0..3 {
            assert_eq!(first([&a, &b]), "b");
        }
        // b counts itself anew, and what it was offered is in there: 101 - 50 against 101 - 51.
        let b = of("b", 102);
        assert_eq!(first([&a, &b]), "a");
    }

    #[tokio::test]
    async fn offline_comets_are_not_offered_and_five_are_enough() {
        let info = CometInfo {
            weight: 10,
            ..CometInfo::default()
        };
        let comets: Vec<_> = (0..7)
            .map(|n| comet(&format!("c{n}"), info.clone()))
            .collect();
        let balancer = Balancer::default();
        assert_eq!(balancer.choose(comets.iter(), None, 1.6).len(), 5);
        let gone = comet(
            "gone",
            CometInfo {
                offline: true,
                ..info
            },
        );
        assert!(balancer.choose([&gone].into_iter(), None, 1.6).is_empty());
    }
}
