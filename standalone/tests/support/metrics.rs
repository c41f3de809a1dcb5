//! What a monitor shows, read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::http;

/// All metrics of one monitor at one moment.
#[derive(Debug, Default)]
pub struct Shown {
    /// By name, as queries have it: that of a counter ends in `_total`.
    pub metrics: BTreeMap<String, Metric>,
}

/// One metric.
#[derive(Debug, Default)]
pub struct Metric {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// The names of all labels that it has.
    pub labels: BTreeSet<String>,
    /// The lines of its samples: name and labels, and the value.
    pub samples: Vec<(String, f64)>,
}

impl Shown {
    /// Asks a monitor.
    pub async fn at(addr: SocketAddr) -> Self {
        let answer = http::get(addr, "/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut shown = Self::default();
        let mut name = String::new();
        for line in answer.body.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (bare, kind) = described.split_once(' ').unwrap();
                let end = match kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                name = format!("{bare}{end}");
                let metric = shown.metrics.entry(name.clone()).or_default();
                assert_eq!(metric.kind, "", "{name} is there twice");
                kind.clone_into(&mut metric.kind);
            } else if !line.starts_with('#') {
                shown.metrics.get_mut(&name).unwrap().sample(line);
            }
        }
        shown
    }

    /// The sum of a metric's samples that have all of these labels, given as in `reason="slow"`. Of a histogram it is the count.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let Some(metric) = self.metrics.get(name) else {
            panic!("there is no {name}");
        };
        let count = format!("{name}_count");
        let samples = metric.samples.iter().filter(|(sample, _)| {
            let is_counted = metric.kind != "histogram" || sample.starts_with(&count);
            is_counted && labels.iter().all(|label| sample.contains(label))
        });
        whole(samples.map(|(_, value)| value).sum())
    }

    /// What a histogram has seen, added up.
    pub fn sum_of(&self, histogram: &str) -> u64 {
        let sum = format!("{histogram}_sum");
        let samples = self.metrics[histogram].samples.iter();
        let samples = samples.filter(|(sample, _)| sample.starts_with(&sum));
        whole(samples.map(|(_, value)| value).sum())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number, and a small one"
)]
fn whole(sum: f64) -> u64 {
    assert!(sum.fract().abs() < f64::EPSILON && sum >= 0.0, "{sum}");
    sum as u64
}

impl Metric {
    fn sample(&mut self, line: &str) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
        // No value of a label has a comma in these tests.
        let names = labels.split(',').filter_map(|label| label.split_once('='));
        let names = names.map(|(name, _)| name.to_owned());
        self.labels.extend(names.filter(|name| name != "le"));
        self.samples
            .push((sample.to_owned(), value.parse().unwrap()));
    }
}
