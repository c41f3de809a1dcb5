//! The mask of a client's frames (RFC 6455 section 5.3).

/// Applies or removes `mask`, eight bytes at a time.
pub(super) fn apply(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_definition_at_every_length() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..70_u8 {
            let plain: Vec<u8> = (0..len).collect();
            let mut masked = plain.clone();
            apply(&mut masked, mask);
            for (i, (masked, plain)) in masked.iter().zip(&plain).enumerate() {
                assert_eq!(*masked, plain ^ mask[i % 4], "byte {i} of {len}");
            }
        }
    }

    #[test]
    fn unmasks_the_example_of_the_rfc() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(&payload, b"Hello");
    }
}
