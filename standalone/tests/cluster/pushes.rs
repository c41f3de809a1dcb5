//! Without faults: every push reaches clients at both comets through either logic-stub, and counts add up.

use crate::{
    harness::{Cluster, Member},
    support::{Door, token},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_reaches_both_comets_through_either_logic_stub() {
    let cluster = Cluster::start().await;
    let mut members = Vec::new();
    for (comet, key, door) in [(0, "a", Door::Tcp), (1, "b", Door::WebSocket)] {
        let mid = 7 + i64::try_from(comet).unwrap();
        let token = token(mid, key, "live://1");
        members.push(Member::of(cluster.login(comet, door, &token).await));
    }
    for logic in 0..2 {
        for (kind, query) in [
            ("keys", "keys=a&keys=b"),
            ("mids", "mids=7&mids=8"),
            ("room", "type=live&room=1"),
            ("all", ""),
        ] {
            let text = format!("{kind} through {logic}");
            let answer = cluster.push(logic, kind, query, &text).await;
            assert!(answer.is_taken(), "{text}: {answer:?}");
            for member in &members {
                member.gets(&text).await;
            }
        }
        let answer = cluster
            .push(logic, "keys", "keys=a&keys=nobody", "half")
            .await;
        assert!(answer.says_absent("nobody"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_moves_to_the_other_comet_is_found_there() {
    let cluster = Cluster::start().await;
    let token = token(7, "a", "");
    let _old = cluster.login(0, Door::Tcp, &token).await;
    let new = Member::of(cluster.login(1, Door::Tcp, &token).await);
    for logic in 0..2 {
        for (kind, query) in [("keys", "keys=a"), ("mids", "mids=7")] {
            let text = format!("{kind} through {logic}");
            assert!(cluster.push(logic, kind, query, &text).await.is_taken());
            new.gets(&text).await;
        }
    }
}
