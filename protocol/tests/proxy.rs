//! The PROXY protocol's headers, as bytes.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::net::SocketAddr;

use proptest::prelude::*;
use protocol::proxy::{ProxyError, Step, step};

const MAX: usize = 1024;

/// Version 2: its signature, PROXY, TCP over IPv4, 12 bytes; 203.0.113.7:4711 to 10.0.0.1:3101.
const V2_TCP4: [u8; 28] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0x00, 0x0c,
    203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 0x0c, 0x1d,
];

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Version 2 with another command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&V2_TCP4[..12], &[command, family], &len, rest].concat()
}

/// What a reader comes to that reads as it is told, and how many bytes it has read; it must not read beyond `bytes`.
fn read(bytes: &[u8], max: usize) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
    let mut at = 0;
    loop {
        match step(&bytes[..at], max) {
            Ok(Step::More(count)) => {
                assert!(count > 0);
                at += count;
                assert!(at <= bytes.len(), "it reads beyond the header");
            }
            Ok(Step::Done(source)) => return (Ok(source), at),
            Err(error) => return (Err(error), at),
        }
    }
}

#[test]
fn headers_say_who_the_client_is() {
    let v6: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
    let SocketAddr::V6(address) = v6 else {
        panic!()
    };
    let mut tcp6 = address.ip().octets().to_vec();
    tcp6.extend([0; 16]);
    tcp6.extend(4711_u16.to_be_bytes());
    tcp6.extend([0x0c, 0x1d]);
    let mut with_extension = V2_TCP4[16..].to_vec();
    with_extension.extend([0x04, 0x00, 0x02, 0xff, 0xff]);
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 3101\r\n".to_vec();
    let cases = [
        (V2_TCP4.to_vec(), Some(source("203.0.113.7:4711"))),
        (
            v2(0x21, 0x11, &with_extension),
            Some(source("203.0.113.7:4711")),
        ),
        (v2(0x21, 0x21, &tcp6), Some(v6)),
        // LOCAL, whatever its addresses; no family; Unix.
        (v2(0x20, 0x11, &V2_TCP4[16..]), None),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x31, &[0; 216]), None),
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 3101\r\n".to_vec(),
            Some(source("203.0.113.7:4711")),
        ),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4711 3101\r\n".to_vec(),
            Some(v6),
        ),
        (mapped, Some(source("203.0.113.7:4711"))),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
    ];
    for (header, expected) in cases {
        assert_eq!(
            read(&header, MAX),
            (Ok(expected), header.len()),
            "{header:?}"
        );
        // What comes behind it is not looked at.
        let more = [&header[..], b"\r\nGET /sub"].concat();
        assert_eq!(read(&more, MAX), (Ok(expected), header.len()));
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let cases: [(Vec<u8>, ProxyError); 13] = [
        (b"GET /sub HTTP/1.1\r\n".to_vec(), ProxyError::None),
        (vec![0, 0, 0, 25, 0, 16, 0, 1, 0, 0, 0, 7], ProxyError::None),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), ProxyError::None),
        (long, ProxyError::TooLong(107)),
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n".to_vec(),
            ProxyError::Line,
        ),
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 3101 1\r\n".to_vec(),
            ProxyError::Line,
        ),
        (
            b"PROXY TCP4 203.0.113.7  10.0.0.1 4711 3101\r\n".to_vec(),
            ProxyError::Line,
        ),
        (
            b"PROXY TCP4 ::1 ::1 4711 3101\r\n".to_vec(),
            ProxyError::Line,
        ),
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 +471 3101\r\n".to_vec(),
            ProxyError::Line,
        ),
        (
            b"PROXY UDP4 203.0.113.7 10.0.0.1 4711 3101\r\n".to_vec(),
            ProxyError::Line,
        ),
        (v2(0x31, 0x11, &[0; 12]), ProxyError::Command(0x31)),
        (v2(0x22, 0x11, &[0; 12]), ProxyError::Command(0x22)),
        (v2(0x21, 0x11, &[0; 11]), ProxyError::Addresses(11)),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(&bytes, MAX).0, Err(error), "{bytes:?}");
    }
    // The bound of version 2 holds for what its head announces.
    assert_eq!(read(&V2_TCP4, 28).0, Ok(Some(source("203.0.113.7:4711"))));
    assert_eq!(read(&V2_TCP4, 27), (Err(ProxyError::TooLong(27)), 16));
}

proptest! {
    #[test]
    fn nothing_panics_and_more_bytes_never_change_a_verdict(
        start in prop_oneof![Just(&b""[..]), Just(&b"PROXY TCP4 "[..]), Just(&V2_TCP4[..12]), Just(&V2_TCP4[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0..300_usize,
    ) {
        let bytes = [start, &rest].concat();
        let part = &bytes[..cut.min(bytes.len())];
        match step(part, MAX) {
            Ok(Step::More(_)) => {}
            verdict => prop_assert_eq!(step(&bytes, MAX), verdict),
        }
    }
}
