//! How outcomes add up.

use serde_json::json;

use super::*;

const SOON: Duration = Duration::from_millis(1);

fn keys(keys: &[&str]) -> Target {
    Target::Keys(keys.iter().map(|&key| key.to_owned()).collect())
}

#[tokio::test]
async fn outcomes_add_up_and_names_are_bounded() {
    let tally = Tally::new(MessageId([0xab; 16]), 2);
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    for comet in [&a, &a, &b] {
        tally.expect(comet);
    }
    tally.absent(&["x".to_owned()]);
    let counts = Counts {
        taken: 2,
        absent: 2,
        filtered: 1,
        dropped: 1,
    };
    let absent = vec!["y".to_owned(), "z".to_owned()];
    let outcome = Outcome::Counted {
        counts,
        absent_keys: absent,
        repeated: 0,
    };
    tally.settle(&a, &keys(&["k"]), outcome);
    let lost = keys(&["l", "m", "n"]);
    tally.settle(&a, &lost, Outcome::Lost(Loss::CometAway));
    tally.lose(Loss::NotKnown, &keys(&["o"]));
    let report = tally.wait(SOON).await;
    let expected = json!({
        "id": "ab".repeat(16), "taken": 2, "absent": 3, "filtered": 1, "dropped": 1, "uncounted": 0,
        "lost": {"comet_away": 3, "not_known": 1}, "absent_keys": ["x", "y"], "lost_keys": ["l", "m"],
        "pending": ["b"],
    });
    assert_eq!(serde_json::to_value(report).unwrap(), expected);
    tally.settle(&b, &keys(&["p", "q"]), Outcome::Uncounted);
    let report = tally.wait(Duration::from_mins(1)).await;
    assert_eq!((report.uncounted, report.pending), (2, vec![]));
}

#[tokio::test]
async fn a_sealed_tally_tells_its_end_once_and_whether_to_send_again() {
    let lost = |why| Outcome::Lost(why);
    for (outcome, again) in [
        (Outcome::Uncounted, false),
        (lost(Loss::CometRestarted), false),
        (lost(Loss::Superseded), true),
        (lost(Loss::LaneClosed), true),
    ] {
        let tally = Tally::new(MessageId::default(), 2);
        let comet: Arc<str> = "a".into();
        let (told, ends) = std::sync::mpsc::channel();
        tally.expect(&comet);
        tally.expect(&comet);
        tally.settle(&comet, &keys(&["k"]), outcome);
        tally.seal(End::new(move |ended| told.send(ended.again).unwrap()));
        assert!(ends.try_recv().is_err());
        tally.settle(&comet, &keys(&["l"]), Outcome::Uncounted);
        assert_eq!(ends.iter().collect::<Vec<_>>(), [again]);
    }
    let (told, ends) = std::sync::mpsc::channel();
    let nobody = Tally::new(MessageId::default(), 2);
    nobody.seal(End::new(move |ended| told.send(ended.again).unwrap()));
    assert_eq!(ends.recv(), Ok(false));
}

#[test]
fn reports_of_parts_add_up() {
    let part = |taken: u32, keys: [&str; 2]| {
        let part = json!({
            "id": "ab", "taken": taken, "absent": 1, "filtered": 0, "dropped": 0, "uncounted": 1, "lost": {"busy": 2},
            "absent_keys": keys, "lost_keys": [], "pending": [],
        });
        serde_json::from_value::<Report>(part).unwrap()
    };
    let mut sum = part(1, ["a", "b"]);
    sum.join(part(2, ["c", "d"]), 3);
    let expected = json!({
        "id": "ab", "taken": 3, "absent": 2, "filtered": 0, "dropped": 0, "uncounted": 2, "lost": {"busy": 4},
        "absent_keys": ["a", "b", "c"], "lost_keys": [], "pending": [],
    });
    assert_eq!(serde_json::to_value(sum).unwrap(), expected);
}

#[test]
fn what_goes_astray_is_told_and_not_reported() {
    let slowly = Target::Everyone { speed: 1 };
    let at_once = Target::Everyone { speed: 0 };
    let some = keys(&["k"]);
    for (why, target, is_astray) in [
        (Loss::CometAway, &some, true),
        (Loss::CometRestarted, &some, true),
        (Loss::LeaseEnded, &some, true),
        (Loss::Busy, &some, true),
        (Loss::Refused, &some, false),
        (Loss::Superseded, &some, false),
        (Loss::Unconfirmed, &some, false),
        (Loss::Busy, &slowly, true),
        (Loss::Busy, &at_once, false),
        (Loss::CometAway, &slowly, false),
    ] {
        for is_stored in [true, false] {
            let tally = if is_stored {
                Tally::stored(MessageId::default(), 2)
            } else {
                Tally::new(MessageId::default(), 2)
            };
            let comet: Arc<str> = "a".into();
            let (told, ends) = std::sync::mpsc::channel();
            tally.expect(&comet);
            tally.settle(&comet, target, Outcome::Lost(why));
            tally.seal(End::new(move |ended| told.send(ended).unwrap()));
            let ended = ends.recv().unwrap();
            let is_astray = is_astray && is_stored;
            assert_eq!(ended.astray.len(), usize::from(is_astray), "{why:?}");
            assert_eq!(ended.report.lost.is_empty(), is_astray, "{why:?}");
        }
    }
}
