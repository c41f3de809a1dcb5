//! Sessions against rustls' own client, without a socket.

use std::io::{Read as _, Write as _};

use common::tls::{Certificates, MinVersion, provider};
use proptest::prelude::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use super::*;

/// What a record adds at most, here.
const OVERHEAD_LIMIT: usize = 64;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Both ends of a connection.
struct Ends {
    client: ClientConnection,
    server: Session,
    /// What the server has read.
    opened: Vec<u8>,
    /// What the client has read.
    came: Vec<u8>,
}

impl Ends {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let certificates = Certificates::development().unwrap();
        let mut roots = RootCertStore::empty();
        let pairs = certificates.pairs();
        roots.add(pairs[0].certified().cert[0].clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let server = certificates.server_config(MinVersion::Tls12, &[]).unwrap();
        Self {
            client: ClientConnection::new(Arc::new(client), name).unwrap(),
            server: Session::new(Arc::new(server)).unwrap(),
            opened: Vec::new(),
            came: Vec::new(),
        }
    }

    /// With the handshake behind it.
    fn connected(version: &'static SupportedProtocolVersion) -> Self {
        let mut ends = Self::new(version);
        ends.settle(usize::MAX);
        assert!(!ends.server.is_handshaking() && !ends.client.is_handshaking());
        ends
    }

    /// Carries bytes both ways until there are none, to the server in pieces of this size.
    fn settle(&mut self, piece: usize) {
        loop {
            let up = self.client_bytes();
            for piece in up.chunks(piece.min(up.len().max(1))) {
                self.give(piece).unwrap();
            }
            let down = self.server_bytes();
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.give_client(&down);
        }
    }

    fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn server_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let write = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(part.len())
        };
        self.server.flush(write).unwrap();
        bytes
    }

    fn give(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        self.server.receive(&mut bytes.to_vec(), &mut self.opened)
    }

    fn give_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let mut came = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut came).unwrap();
            self.came.append(&mut came);
        }
    }

    /// What the client has read since this was last asked.
    fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.came)
    }
}

#[test]
fn bytes_go_both_ways_in_pieces_of_any_size_and_nothing_is_kept() {
    for version in VERSIONS {
        for piece in [1, 2, 3, 7, 100, 1500, usize::MAX] {
            let mut ends = Ends::new(version);
            ends.settle(piece);
            assert!(!ends.server.is_handshaking(), "{piece}");
            ends.client.writer().write_all(b"up").unwrap();
            ends.client.writer().write_all(&vec![7; 20_000]).unwrap();
            ends.settle(piece);
            assert_eq!(ends.opened, [b"up".to_vec(), vec![7; 20_000]].concat());
            ends.server.seal(b"down").unwrap();
            ends.settle(piece);
            assert_eq!(ends.read(), b"down");
            assert!(!ends.server.has_pending());
            assert_eq!(ends.server.kept(), 0, "bytes that an idle session holds");
        }
    }
}

#[test]
fn what_goes_out_together_is_in_as_few_records_as_can_be() {
    for version in VERSIONS {
        let mut ends = Ends::connected(version);
        let plain = vec![5; RECORD];
        ends.server.seal(&plain).unwrap();
        let records = ends.server_bytes();
        let len = usize::from(u16::from_be_bytes([records[3], records[4]]));
        assert_eq!(records.len(), 5 + len, "one record");
        assert!(records.len() <= RECORD + OVERHEAD_LIMIT);
        ends.give_client(&records);
        assert_eq!(ends.read(), plain);
        ends.server.seal(&vec![6; 3 * RECORD]).unwrap();
        ends.settle(usize::MAX);
        assert_eq!(ends.read(), vec![6; 3 * RECORD]);
    }
}

#[test]
fn a_socket_that_takes_little_gets_the_rest_later() {
    let mut ends = Ends::connected(&TLS13);
    ends.server.seal(&[9; 1000]).unwrap();
    let mut taken = Vec::new();
    while ends.server.has_pending() {
        let mut may = true;
        let flushed = ends.server.flush(|bytes| {
            if !std::mem::take(&mut may) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let part = bytes.len().min(300);
            taken.extend_from_slice(&bytes[..part]);
            Ok(part)
        });
        assert!(flushed.is_ok() || flushed.unwrap_err().kind() == io::ErrorKind::WouldBlock);
    }
    ends.give_client(&taken);
    assert_eq!(ends.read(), [9; 1000]);
}

#[test]
fn either_side_may_close_first() {
    for version in VERSIONS {
        let mut ends = Ends::connected(version);
        ends.client.writer().write_all(b"last").unwrap();
        ends.client.send_close_notify();
        let bytes = ends.client_bytes();
        ends.give(&[&bytes[..], b"nonsense"].concat()).unwrap();
        assert_eq!(ends.opened, b"last");
        assert!(ends.server.is_over());
        ends.give(b"more nonsense").unwrap();
        ends.server.seal(b"bye").unwrap();
        ends.server.close().unwrap();
        let bytes = ends.server_bytes();
        ends.give_client(&bytes);
        assert_eq!(ends.read(), b"bye");
        assert!(ends.server.seal(b"x").is_err());

        let mut ends = Ends::connected(version);
        ends.server.close().unwrap();
        ends.server.close().unwrap();
        let bytes = ends.server_bytes();
        ends.client.read_tls(&mut &bytes[..]).unwrap();
        let state = ends.client.process_new_packets().unwrap();
        assert!(state.peer_has_closed());
    }
}

#[test]
fn keys_may_change_on_the_way() {
    let mut ends = Ends::connected(&TLS13);
    for round in 0..10 {
        ends.client.refresh_traffic_keys().unwrap();
        ends.client.writer().write_all(&[round]).unwrap();
        ends.settle(11);
        ends.server.seal(&[round]).unwrap();
        ends.settle(11);
        assert_eq!(ends.read(), [round]);
    }
    assert_eq!(ends.opened, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_message_of_the_protocol_alone_is_done_with_when_it_came() {
    let mut ends = Ends::connected(&TLS13);
    for round in 0..10 {
        ends.client.refresh_traffic_keys().unwrap();
        ends.settle(usize::MAX);
        assert_eq!(ends.server.kept(), 0);
        ends.client.writer().write_all(&[round]).unwrap();
        ends.settle(usize::MAX);
    }
    assert_eq!(ends.opened, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn who_speaks_no_tls_is_told() {
    for hello in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64]] {
        let mut ends = Ends::new(&TLS13);
        let error = ends.give(hello).unwrap_err();
        assert!(matches!(error, TlsError::NotTls), "{error}");
        assert_eq!(error.label(), "not_tls");
        let alert = ends.server_bytes();
        assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    }
}

#[test]
fn what_is_broken_on_the_way_ends_the_session_with_an_alert() {
    for version in VERSIONS {
        let mut ends = Ends::connected(version);
        ends.client.writer().write_all(b"whole").unwrap();
        let mut bytes = ends.client_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        let error = ends.give(&bytes).unwrap_err();
        assert_eq!(error.label(), "violation");
        let bytes = ends.server_bytes();
        ends.client.read_tls(&mut &bytes[..]).unwrap();
        let error = ends.client.process_new_packets().unwrap_err();
        assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
        assert!(ends.server.seal(b"x").is_err());
        assert!(ends.give(&bytes).is_err());
    }
}

#[test]
fn a_hello_without_end_is_not_collected() {
    let mut ends = Ends::new(&TLS13);
    // Handshake records of a hello that says it has 60,000 bytes.
    let mut first = vec![1, 0, 0xea, 0x60];
    first.resize(RECORD, 0);
    let mut given = 0;
    let error = loop {
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.append(&mut first);
        record.resize(5 + RECORD, 0);
        given += record.len();
        if let Err(error) = ends.give(&record) {
            break error;
        }
        assert!(given < 100_000, "it collects all of it");
    };
    assert_eq!(error.label(), "violation", "{error}");
}

#[test]
fn a_client_that_does_not_trust_us_is_told_apart() {
    let mut ends = Ends::new(&TLS13);
    let other = Ends::new(&TLS13);
    ends.client = other.client;
    let hello = ends.client_bytes();
    ends.give(&hello).unwrap();
    let bytes = ends.server_bytes();
    ends.client.read_tls(&mut &bytes[..]).unwrap();
    ends.client.process_new_packets().unwrap_err();
    let alert = ends.client_bytes();
    let error = ends.give(&alert).unwrap_err();
    assert_eq!(error.label(), "refused", "{error}");
}

proptest! {
    #[test]
    fn mangled_bytes_never_panic(
        is_new in any::<bool>(),
        at_connected in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        piece in 1_usize..2000,
    ) {
        let version = if is_new { &TLS13 } else { &TLS12 };
        let mut ends = if at_connected { Ends::connected(version) } else { Ends::new(version) };
        if at_connected {
            ends.client.refresh_traffic_keys().unwrap_or_default();
            ends.client.writer().write_all(b"some bytes").unwrap();
        }
        let mut bytes = ends.client_bytes();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for piece in bytes.chunks(piece) {
            drop(ends.give(piece));
            drop(ends.server_bytes());
        }
        drop(ends.server.seal(b"an answer"));
        drop(ends.server.close());
        drop(ends.server_bytes());
    }
}
