//! `CityHash32` of Google's `CityHash` 1.1: by it goim spreads the rooms of a report over the fields of a hash.

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;
const C3: u32 = 0xe654_6b64;

/// The hash of `text`.
pub(super) fn hash32(text: &[u8]) -> u32 {
    match text.len() {
        0..=4 => up_to_4(text),
        5..=12 => up_to_12(text),
        13..=24 => up_to_24(text),
        _ => longer(text),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as the original does")]
fn length(text: &[u8]) -> u32 {
    text.len() as u32
}

/// Four bytes from `at` on, which are there.
fn fetch(text: &[u8], at: usize) -> u32 {
    let bytes = text[at..at + 4].iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn mix(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn scramble(word: u32) -> u32 {
    word.wrapping_mul(C1).rotate_right(17).wrapping_mul(C2)
}

fn turn(hash: u32, by: u32) -> u32 {
    hash.rotate_right(by).wrapping_mul(5).wrapping_add(C3)
}

fn mur(word: u32, hash: u32) -> u32 {
    turn(hash ^ scramble(word), 19)
}

fn up_to_4(text: &[u8]) -> u32 {
    let (mut b, mut c) = (0_u32, 9_u32);
    for byte in text {
        // The original adds a signed char.
        let signed = i32::from(byte.cast_signed()).cast_unsigned();
        b = b.wrapping_mul(C1).wrapping_add(signed);
        c ^= b;
    }
    mix(mur(b, mur(length(text), c)))
}

fn up_to_12(text: &[u8]) -> u32 {
    let len = length(text);
    let a = len.wrapping_add(fetch(text, 0));
    let b = (len * 5).wrapping_add(fetch(text, text.len() - 4));
    let c = fetch(text, (text.len() >> 1) & 4).wrapping_add(9);
    mix(mur(c, mur(b, mur(a, len * 5))))
}

fn up_to_24(text: &[u8]) -> u32 {
    let (end, middle) = (text.len(), text.len() >> 1);
    let words = [middle - 4, 4, end - 8, middle, 0, end - 4];
    let hash = words
        .into_iter()
        .fold(length(text), |hash, at| mur(fetch(text, at), hash));
    mix(hash)
}

fn longer(text: &[u8]) -> u32 {
    let end = text.len();
    let back = |by| scramble(fetch(text, end - by));
    let mut h = length(text);
    let mut g = C1.wrapping_mul(h);
    let mut f = g;
    h = turn(turn(h ^ back(4), 19) ^ back(16), 19);
    g = turn(turn(g ^ back(8), 19) ^ back(12), 19);
    f = turn(f.wrapping_add(back(20)), 19);
    for block in 0..(end - 1) / 20 {
        let word = |index: usize| fetch(text, block * 20 + index * 4);
        let (a0, a1, a2, a3, a4) = (
            scramble(word(0)),
            word(1),
            scramble(word(2)),
            scramble(word(3)),
            word(4),
        );
        h = turn(h ^ a0, 18);
        f = f.wrapping_add(a1).rotate_right(19).wrapping_mul(C1);
        g = turn(g.wrapping_add(a2), 18);
        h = turn(h ^ a3.wrapping_add(a1), 19);
        g = (g ^ a4).swap_bytes().wrapping_mul(5);
        h = h.wrapping_add(a4.wrapping_mul(5)).swap_bytes();
        f = f.wrapping_add(a0);
        (f, g, h) = (g, h, f);
    }
    let twice = |word: u32| {
        let once = word.rotate_right(11).wrapping_mul(C1);
        once.rotate_right(17).wrapping_mul(C1)
    };
    let (g, f) = (twice(g), twice(f));
    let last = |hash: u32| turn(hash, 19).rotate_right(17).wrapping_mul(C1);
    last(last(h.wrapping_add(g)).wrapping_add(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_originals() {
        for (text, hash) in [
            ("", 3_696_677_242),
            ("a", 1_016_544_589),
            ("é", 1_973_972_843),
            ("test", 1_633_095_781),
            ("live://1", 1_096_265_235),
            ("live://1000", 1_126_145_323),
            ("live://1000/abcd", 1_639_928_163),
            ("zimmer://müller", 3_607_519_952),
            ("chat://0123456789abcdef", 2_321_395_665),
            ("chat://0123456789abcdef0", 1_335_334_117),
            (
                "live://a-room-with-a-rather-long-name-of-sixty-characters-or-more!",
                3_012_393_844,
            ),
        ] {
            assert_eq!(hash32(text.as_bytes()), hash, "{text}");
        }
    }
}
