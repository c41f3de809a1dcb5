//! The names of the keys in Redis, and which of them share a slot.
//!
//! goim's names are `mid_<mid>`, `key_<key>` and `ol_<server>`. What this project keeps beside one of them is named after it
//! such that a cluster puts both into the same slot.

use std::{collections::HashMap, sync::LazyLock};

use redis::cluster_routing::Slot;

/// The index of all comets: a sorted set of names by the time at which each was last heard of.
pub(super) const COMETS: &str = "comet_names";

/// The number of slots of a cluster.
const SLOTS: u16 = 16_384;

/// So many numbers have all slots among their hashes.
const NUMBERS: u32 = 200_000;

/// goim's index of a user: a hash from keys to servers.
pub(super) fn of_mid(mid: i64) -> String {
    format!("mid_{mid}")
}

/// A session: goim's string with the server's name.
pub(super) fn of_key(key: &str) -> String {
    format!("key_{key}")
}

/// What else is known of a session.
pub(super) fn beside_key(key: &str) -> String {
    beside(&of_key(key), "session")
}

/// goim's report of a comet's rooms: a hash of up to 64 fields.
pub(super) fn rooms(server: &str) -> String {
    format!("ol_{server}")
}

/// The epoch of the comet that reported the rooms; absent for goim's comets.
pub(super) fn rooms_epoch(server: &str) -> String {
    beside(&rooms(server), "epoch")
}

/// What a comet said of itself. Outlives the lease by the life of a session.
pub(super) fn lease(server: &str) -> String {
    beside(&rooms(server), "lease")
}

/// The epoch of a comet while its lease lives.
pub(super) fn alive(server: &str) -> String {
    beside(&rooms(server), "alive")
}

/// The part `part` of `parts` of the store's generation. The parts are spread over all slots, so that each master of a
/// cluster has some.
pub(super) fn generation(part: u16, parts: u16) -> String {
    let slot = u32::from(part) * u32::from(SLOTS) / u32::from(parts.max(1));
    let slot = Slot::new(u16::try_from(slot).unwrap_or_default());
    match slot {
        Some(slot) => format!("{{{}}}store_generation", tag(slot)),
        None => "store_generation".to_owned(),
    }
}

/// A name in the slot of `name`. As a rule that is `{name}what`; a name with braces of its own may need another tag.
fn beside(name: &str, what: &str) -> String {
    let slot = Slot::for_key(name);
    let plain = format!("{{{name}}}{what}");
    if Slot::for_key(&plain) == slot {
        return plain;
    }
    format!("{{{}}}{name}{what}", tag(slot))
}

/// A number that hashes to `slot`.
fn tag(slot: Slot) -> u32 {
    static TAGS: LazyLock<HashMap<Slot, u32>> = LazyLock::new(|| {
        let tags = (0..NUMBERS).map(|number| (Slot::for_key(number.to_string()), number));
        tags.collect()
    });
    TAGS.get(&slot).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_has_one_slot() {
        for name in [
            "k", "a}b", "{}x", "{a}b", "}{", "a{b", "{", "}", "{{a}}", "é{}", "a{b}c{d}",
        ] {
            let slot = Slot::for_key(of_key(name));
            assert_eq!(Slot::for_key(beside_key(name)), slot, "{name}");
            let slot = Slot::for_key(rooms(name));
            for beside in [lease(name), alive(name), rooms_epoch(name)] {
                assert_eq!(Slot::for_key(&beside), slot, "{beside}");
            }
        }
        assert_eq!(beside_key("k"), "{key_k}session");
        assert_eq!(alive("a"), "{ol_a}alive");
    }

    #[test]
    fn names_with_braces_stay_apart() {
        let names = ["a", "a}", "a}b", "{a}", "{a", "{}a", "{}", ""];
        let beside: std::collections::HashSet<_> =
            names.iter().map(|name| beside_key(name)).collect();
        assert_eq!(beside.len(), names.len());
    }

    #[test]
    fn every_slot_has_a_number() {
        for slot in (0..SLOTS).filter_map(Slot::new) {
            assert_eq!(Slot::for_key(tag(slot).to_string()), slot);
        }
    }

    #[test]
    fn the_parts_of_the_generation_are_spread() {
        let slots: Vec<_> = (0..16)
            .map(|part| Slot::for_key(generation(part, 16)))
            .collect();
        let wanted: Vec<_> = (0..16).filter_map(|part| Slot::new(part * 1_024)).collect();
        assert_eq!(slots, wanted);
    }
}
