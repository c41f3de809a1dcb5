//! Until when the certificates are valid that a service shows, as a metric: looked up where they are in use,
//! whenever it is asked.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// A certificate that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The file that it is from, or `development`.
    pub file: String,
    /// Whom it is for, as `CN=push.example.com`; empty if it says so by its alternative names alone.
    pub subject: String,
    /// Until when it is valid, in seconds since 1970.
    pub ends: i64,
}

/// A gauge with the end of each certificate, by its file and its subject. Clones are the same.
#[derive(Clone, Default)]
pub struct Ends(Arc<Mutex<Vec<Source>>>);

type Source = Box<dyn Fn() -> Vec<Shown> + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Labels {
    file: String,
    subject: String,
}

impl Shown {
    /// That of a file. An error says what is wrong with it.
    pub(crate) fn read(file: String, certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        Ok(Self {
            file,
            subject: certificate.subject().to_string(),
            ends: certificate.validity().not_after.timestamp(),
        })
    }
}

impl Ends {
    /// Adds what `source` says, each time that someone asks.
    pub fn add<I>(&self, source: impl Fn() -> I + Send + Sync + 'static)
    where
        I: IntoIterator<Item = Shown>,
    {
        let source = move || source().into_iter().collect();
        self.0.lock().push(Box::new(source));
    }

    /// The end of the certificate of a file for a subject, if there is one.
    pub fn of(&self, file: &str, subject: &str) -> Option<i64> {
        let (file, subject) = (file.to_owned(), subject.to_owned());
        self.now().remove(&Labels { file, subject })
    }

    /// One that is in use in two places is there once. Where one of them has yet to see its successor, it is the older one.
    fn now(&self) -> BTreeMap<Labels, i64> {
        let mut ends = BTreeMap::new();
        for shown in self.0.lock().iter().flat_map(|source| source()) {
            let (file, subject) = (shown.file, shown.subject);
            match ends.entry(Labels { file, subject }) {
                Entry::Vacant(entry) => drop(entry.insert(shown.ends)),
                Entry::Occupied(mut entry) => {
                    entry.insert(shown.ends.min(*entry.get()));
                }
            }
        }
        ends
    }
}

impl EncodeMetric for Ends {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (labels, end) in self.now() {
            ConstGauge::new(end).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn a_certificate_in_use_twice_is_shown_once_by_its_earlier_end() {
        let ends = Ends::default();
        let of = |file: &str, ends| Shown {
            file: file.to_owned(),
            subject: "CN=a".to_owned(),
            ends,
        };
        let mut registry = Registry::default();
        registry.register("end", "help", ends.clone());
        let shown = || {
            let mut text = String::new();
            text::encode(&mut text, &registry).unwrap();
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown(), [""; 0]);
        ends.add(move || [of("a.pem", 70), of("b.pem", 80)]);
        ends.add(move || Some(of("b.pem", 60)));
        ends.add(move || Some(of("b.pem", 90)));
        let line = |file: &str, end| format!("end{{file=\"{file}\",subject=\"CN=a\"}} {end}");
        assert_eq!(shown(), [line("a.pem", 70), line("b.pem", 60)]);
        assert_eq!(ends.of("b.pem", "CN=a"), Some(60));
        assert_eq!(ends.of("b.pem", "CN=b"), None);
    }
}
