//! The header by which a balancer says who its client is: read as told, it ends as it does when all is there at once, within
//! its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::proxy::{Step, step};

const MAX: usize = 512;

fuzz_target!(|input: &[u8]| {
    let mut at = 0;
    while let Ok(Step::More(count)) = step(&input[..at], MAX) {
        assert!(count > 0);
        at += count;
        assert!(at <= MAX);
        if at > input.len() {
            return;
        }
    }
    assert_eq!(step(&input[..at], MAX), step(input, MAX));
});
