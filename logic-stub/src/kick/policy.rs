//! Which connections of a user must go.

use std::{cmp::Reverse, collections::HashMap};

use crate::{config::PerMid, sessions::Session};

/// The sessions beyond the `max` newest: of the user, or of each of its platforms. None where the rule closes nothing.
///
/// Whoever looks comes to the same result, whichever login it looks for: of two logins at once, each at a logic-stub of its
/// own, the one that looks last sees both. Until then there may be one connection too many; never are two closed where one
/// had to go, except when a newer one goes by itself meanwhile.
///
/// Newer is what logged in later, by the clock of its comet; where clocks agree to a microsecond, names decide. Sessions
/// without a connection id, those of goim's comets, are not counted: they have no place in this order and cannot be closed.
pub fn excess(rule: PerMid, max: usize, sessions: &[Session]) -> Vec<&Session> {
    if !closes(rule) {
        return Vec::new();
    }
    let mut newest_first: Vec<_> = sessions
        .iter()
        .filter_map(|session| Some((session.holder.connection?.login(), session)))
        .collect();
    newest_first.sort_by_key(|(login, session)| {
        let server = session.holder.server.as_ref();
        Reverse((*login, server, session.key.as_str()))
    });
    let mut kept: HashMap<&str, usize> = HashMap::new();
    let mut excess = Vec::new();
    for (_, session) in newest_first {
        let group = match rule {
            PerMid::Platform => session.client.platform.as_str(),
            PerMid::Newest | PerMid::Unlimited | PerMid::Refuse => "",
        };
        let kept = kept.entry(group).or_default();
        if *kept < max {
            *kept += 1;
        } else {
            excess.push(session);
        }
    }
    excess
}

/// Whether a rule ever closes a connection.
pub fn closes(rule: PerMid) -> bool {
    matches!(rule, PerMid::Newest | PerMid::Platform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::{Client, contract::session};

    fn keys(rule: PerMid, max: usize, sessions: &[Session]) -> Vec<&str> {
        let excess = excess(rule, max, sessions);
        excess.iter().map(|session| session.key.as_str()).collect()
    }

    fn on(platform: &str, key: &str, server: &str, connection: Option<(u64, u64)>) -> Session {
        Session {
            client: Client {
                platform: platform.to_owned(),
                ..Client::default()
            },
            ..session(7, key, server, connection)
        }
    }

    #[test]
    fn the_oldest_logins_go_over_all_comets() {
        // b started later, and its only login is older than a's last one.
        let sessions = [
            on("ios", "first", "a", Some((100, 1))),
            on("web", "third", "a", Some((100, 900))),
            on("web", "second", "b", Some((500, 100))),
            on("web", "goims", "c", None),
        ];
        assert_eq!(keys(PerMid::Newest, 1, &sessions), ["second", "first"]);
        assert_eq!(keys(PerMid::Newest, 2, &sessions), ["first"]);
        assert_eq!(keys(PerMid::Platform, 1, &sessions), ["second"]);
        let all = keys(PerMid::Newest, 3, &sessions).len()
            + keys(PerMid::Unlimited, 1, &sessions).len()
            + keys(PerMid::Refuse, 1, &sessions).len();
        assert_eq!(all, 0);
    }

    #[test]
    fn whoever_looks_sees_the_same() {
        let mut sessions = [
            on("", "a", "x", Some((1, 5))),
            on("", "b", "x", Some((1, 5))),
            on("", "c", "y", Some((2, 4))),
        ];
        let seen = keys(PerMid::Newest, 1, &sessions).join(" ");
        sessions.reverse();
        assert_eq!(keys(PerMid::Newest, 1, &sessions).join(" "), seen);
        assert_eq!(seen, "b a");
    }
}
