use std::{fs, path::PathBuf};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, pki_types::CertificateDer,
};

use super::{reload::Follower, *};

/// A directory of its own that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("common-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn files(&self, name: &str) -> PairFiles {
        PairFiles {
            certificate: self.0.join(format!("{name}.pem")),
            key: self.0.join(format!("{name}.key")),
        }
    }

    /// Writes a pair for these hosts.
    fn write(
        &self,
        name: &str,
        hosts: &[&str],
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> PairFiles {
        let files = self.files(name);
        let (certificate, key) = made(hosts, algorithm, 4000);
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// Certificate and key in PEM, valid until the start of the year `ends`.
fn made(
    hosts: &[&str],
    algorithm: &'static rcgen::SignatureAlgorithm,
    ends: i32,
) -> (String, String) {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(hosts).unwrap();
    params.not_after = rcgen::date_time_ymd(ends, 1, 1);
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

const ECDSA: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
const ED25519: &rcgen::SignatureAlgorithm = &rcgen::PKCS_ED25519;

/// The certificate that a client is shown which asks for this name.
fn shown(certificates: &Arc<Certificates>, name: &'static str) -> CertificateDer<'static> {
    let config = certificates.server_config(MinVersion::Tls12, &[]).unwrap();
    let mut roots = RootCertStore::empty();
    for pair in certificates.pairs().iter() {
        roots.add(pair.certified().cert[0].clone()).unwrap();
    }
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    while client.peer_certificates().is_none() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut &bytes[..]).unwrap();
        // It may not be for the name, which is not what is asked here.
        let outcome = client.process_new_packets();
        if let Err(error) = outcome {
            assert!(
                matches!(error, rustls::Error::InvalidCertificate(_)),
                "{error}"
            );
            break;
        }
    }
    client.peer_certificates().map_or_else(
        || panic!("no certificate was shown"),
        |chain| chain[0].clone().into_owned(),
    )
}

#[test]
fn the_name_that_is_asked_for_chooses_and_the_first_is_the_default() {
    let dir = Dir::new("names");
    let files = vec![
        dir.write("first", &["one.test"], ECDSA),
        dir.write("second", &["two.test", "*.two.test"], ECDSA),
    ];
    let certificates = Certificates::load(files).unwrap();
    let any = |_: &Pair| true;
    let chosen = |name: Option<&str>| {
        let pair = certificates.choose(name, any).unwrap();
        let name = PathBuf::from(pair.name());
        name.file_stem().unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(chosen(Some("one.test")), "first");
    assert_eq!(chosen(Some("two.test")), "second");
    assert_eq!(chosen(Some("TWO.test")), "second");
    assert_eq!(chosen(Some("a.two.test")), "second");
    assert_eq!(chosen(Some("a.b.two.test")), "first");
    assert_eq!(chosen(Some("three.test")), "first");
    assert_eq!(chosen(Some("not a name")), "first");
    assert_eq!(chosen(None), "first");
    let second = certificates.pairs()[1].certified().cert[0].clone();
    assert_eq!(shown(&certificates, "a.two.test"), second);
}

#[test]
fn of_two_keys_for_a_name_the_client_gets_one_that_it_knows() {
    let dir = Dir::new("kinds");
    let files = vec![
        dir.write("new", &["one.test"], ED25519),
        dir.write("old", &["one.test"], ECDSA),
    ];
    let certificates = Certificates::load(files).unwrap();
    let pairs = certificates.pairs();
    let chosen = |known: &'static [rustls::SignatureScheme]| {
        let can_sign = |pair: &Pair| pair.certified().key.choose_scheme(known).is_some();
        certificates.choose(Some("one.test"), can_sign).unwrap()
    };
    let ecdsa = &[rustls::SignatureScheme::ECDSA_NISTP256_SHA256];
    assert_eq!(chosen(ecdsa).name(), pairs[1].name());
    let both = &[
        rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
        rustls::SignatureScheme::ED25519,
    ];
    assert_eq!(chosen(both).name(), pairs[0].name());
    assert_eq!(chosen(&[]).name(), pairs[0].name());
}

#[test]
fn a_new_pair_counts_when_it_was_seen_twice_and_a_bad_one_never() {
    let dir = Dir::new("reload");
    let files = dir.write("a", &["one.test"], ECDSA);
    let certificates = Certificates::load(vec![files.clone()]).unwrap();
    let mut follower = Follower::new(Arc::clone(&certificates));
    let fingerprint = || certificates.pairs()[0].fingerprint;
    let first = fingerprint();
    assert!(follower.look(false).is_empty());

    dir.write("a", &["two.test"], ECDSA);
    assert!(follower.look(false).is_empty());
    assert!(follower.is_unsettled());
    assert_eq!(fingerprint(), first);
    assert!(matches!(follower.look(false)[..], [Reload::Taken(_)]));
    assert_ne!(fingerprint(), first);
    assert!(!follower.is_unsettled());
    assert!(follower.look(false).is_empty());

    // The certificate of one with the key of another, and half a file.
    let second = fingerprint();
    let other = dir.write("b", &["three.test"], ECDSA);
    fs::copy(&other.key, &files.key).unwrap();
    assert!(follower.look(false).is_empty());
    let refused = follower.look(false);
    assert!(
        matches!(refused[..], [Reload::Refused(PairError::Mismatch { .. })]),
        "{refused:?}"
    );
    assert!(follower.look(false).is_empty(), "it is said once");
    assert!(matches!(follower.look(true)[..], [Reload::Refused(_)]));
    fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    let refused = follower.look(true);
    assert!(
        matches!(refused[..], [Reload::Refused(PairError::Content { .. })]),
        "{refused:?}"
    );
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(
        follower.look(true)[..],
        [Reload::Refused(PairError::Read { .. })]
    ));
    let (certificate, key) = made(&["old.test"], ECDSA, 2000);
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    assert!(matches!(
        follower.look(true)[..],
        [Reload::Refused(PairError::Ended { .. })]
    ));
    assert_eq!(fingerprint(), second);

    dir.write("a", &["four.test"], ECDSA);
    assert!(matches!(follower.look(true)[..], [Reload::Taken(_)]));
    assert_ne!(fingerprint(), second);
}

#[test]
fn one_bad_pair_does_not_keep_another_from_being_renewed() {
    let dir = Dir::new("several");
    let files = [
        dir.write("a", &["one.test"], ECDSA),
        dir.write("b", &["two.test"], ECDSA),
    ];
    let certificates = Certificates::load(files.to_vec()).unwrap();
    let mut follower = Follower::new(Arc::clone(&certificates));
    let before = certificates.pairs();
    fs::write(&files[0].key, "nothing").unwrap();
    dir.write("b", &["two.test"], ECDSA);
    let reloads = follower.look(true);
    assert!(
        matches!(reloads[..], [Reload::Refused(_), Reload::Taken(_)]),
        "{reloads:?}"
    );
    let after = certificates.pairs();
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert!(!Arc::ptr_eq(&before[1], &after[1]));
}

#[test]
fn what_cannot_be_used_at_the_start_is_named() {
    let dir = Dir::new("start");
    let missing = Certificates::load(vec![dir.files("missing")]).unwrap_err();
    assert!(missing.to_string().contains("missing.pem"), "{missing}");
    let files = dir.write("a", &["one.test"], ECDSA);
    fs::write(&files.key, "nothing").unwrap();
    let no_key = Certificates::load(vec![files.clone()]).unwrap_err();
    assert!(no_key.to_string().contains("a.key"), "{no_key}");
    fs::write(&files.certificate, "nothing").unwrap();
    let empty = Certificates::load(vec![files]).unwrap_err();
    assert!(
        empty.to_string().contains("a.pem: no certificate"),
        "{empty}"
    );
    assert!(matches!(
        Certificates::load(Vec::new()),
        Err(PairError::None)
    ));
}

#[test]
fn goims_lists_are_pairs() {
    let files = PairFiles::from_lists("a.pem, b.pem", "a.key,b.key,").unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|files| {
            (
                files.certificate.to_str().unwrap(),
                files.key.to_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("a.pem", "a.key"), ("b.pem", "b.key")]);
    assert!(PairFiles::from_lists("", " ").unwrap().is_empty());
    let error = PairFiles::from_lists("a.pem", "").unwrap_err();
    assert!(
        error.to_string().starts_with("1 certificate files, but 0"),
        "{error}"
    );
}

#[test]
fn a_development_certificate_is_for_this_machine_alone() {
    let certificates = Certificates::development().unwrap();
    let pairs = certificates.pairs();
    let is_for = |name: &'static str| pairs[0].is_for(&ServerName::try_from(name).unwrap());
    assert!(is_for("localhost") && is_for("127.0.0.1") && is_for("::1"));
    assert!(!is_for("example.com"));
    assert!(!pairs[0].has_ended());
    assert_eq!(pairs[0].name(), "development");
    assert_eq!(
        shown(&certificates, "localhost"),
        pairs[0].certified().cert[0]
    );
}
