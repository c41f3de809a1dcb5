//! What metrics are made of beside counters and gauges: times, sizes, and how often a clock is looked at.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{
        MetricType, TypedMetric,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Metric, Registry, Unit},
};

/// Upper ends of the steps of [`Seconds`]: from what an idle machine takes to the longest that a peer is waited for.
const TIMES: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Steps of [`Sizes`]: 0, 1, 2, 4 and so on to 1024, and what is beyond.
const STEPS: usize = 13;
const LAST: usize = STEPS - 1;

/// Of so many occasions, one is timed.
const SAMPLED: u32 = 16;

/// A histogram of times. Clones are the same.
#[derive(Debug, Clone)]
pub struct Seconds(Histogram);

/// A histogram of counts, for places where a lock or a division for each is too much. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Sizes(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    steps: [AtomicU64; STEPS],
    sum: AtomicU64,
}

/// One among those that a gauge counts, for as long as this lives.
#[derive(Debug)]
pub struct Present(Gauge);

/// A metric that is named also while it has no sample: a family without a label seen yet.
#[derive(Debug)]
pub struct Named<M>(pub M);

/// Registers clones of metrics, named also while they have no sample.
#[derive(Debug)]
pub struct Adder<'a>(pub &'a mut Registry);

impl Adder<'_> {
    /// Anything but a time. `help` has no full stop: it is added.
    pub fn metric(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) {
        self.0.register(name, help, Named(metric.clone()));
    }

    /// Times: `_seconds` is added to the name.
    pub fn seconds(&mut self, name: &str, help: &str, metric: &(impl Metric + Clone)) {
        let metric = Named(metric.clone());
        self.0.register_with_unit(name, help, Unit::Seconds, metric);
    }
}

/// Writes a gauge whose value is looked up when it is asked for. `help` ends with a full stop, unlike that of registered metrics.
pub fn write_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(encoder)
}

/// The present, once in 16 times on each thread, beginning with the first: for what is too frequent to look at a clock each time.
pub fn sampled() -> Option<Instant> {
    thread_local! {
        static OCCASIONS: Cell<u32> = const { Cell::new(0) };
    }
    let occasion = OCCASIONS.get();
    OCCASIONS.set(occasion.wrapping_add(1));
    occasion.is_multiple_of(SAMPLED).then(Instant::now)
}

impl Present {
    /// Counts one in.
    pub fn enter(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(TIMES))
    }
}

impl Seconds {
    /// Counts one time.
    pub fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

impl Sizes {
    /// Counts the same size so many times.
    pub fn observe_many(&self, size: u64, times: u64) {
        let relaxed = Ordering::Relaxed;
        self.0.steps[step(size)].fetch_add(times, relaxed);
        if size > 0 {
            self.0.sum.fetch_add(size * times, relaxed);
        }
    }

    /// How many sizes were counted.
    pub fn count(&self) -> u64 {
        let counts = self.0.steps.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The sum of them all.
    pub fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::Relaxed)
    }
}

/// The first step that holds a size.
fn step(size: u64) -> usize {
    match size.checked_sub(1) {
        None => 0,
        Some(below) => ((u64::BITS - below.leading_zeros()) as usize + 1).min(LAST),
    }
}

/// The upper end of a step.
fn end(step: usize) -> f64 {
    match step {
        0 => 0.0,
        LAST => f64::INFINITY,
        step => f64::from(1_u32 << (step - 1)),
    }
}

impl EncodeMetric for Seconds {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Seconds {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Sizes {
    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond 2^53 a sum need not be exact"
    )]
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sum = self.sum() as f64;
        let steps = self.0.steps.iter().enumerate();
        let steps: Vec<(f64, u64)> = steps
            .map(|(step, count)| (end(step), count.load(Ordering::Relaxed)))
            .collect();
        // Of what was read: a count that is one ahead of its steps is no histogram.
        let count = steps.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &steps, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Sizes {
    const TYPE: MetricType = MetricType::Histogram;
}

impl<M: EncodeMetric> EncodeMetric for Named<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text,
        metrics::{counter::Counter, family::Family},
    };

    use super::*;

    fn encoded(register: impl FnOnce(&mut Registry)) -> String {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn each_size_is_in_the_first_step_that_holds_it() {
        let steps = [0, 1, 2, 3, 4, 5, 512, 513, 1024, 1025, u64::MAX].map(step);
        assert_eq!(steps, [0, 1, 2, 3, 3, 4, 10, 11, 11, 12, 12]);
        let ends: Vec<String> = (0..STEPS).map(|step| end(step).to_string()).collect();
        assert_eq!(ends[..4], ["0", "1", "2", "4"]);
        assert_eq!(ends[11..], ["1024", "inf"]);
    }

    #[test]
    fn sizes_are_a_histogram() {
        let sizes = Sizes::default();
        sizes.observe_many(0, 2);
        sizes.observe_many(3, 5);
        sizes.observe_many(2000, 1);
        assert_eq!((sizes.count(), sizes.sum()), (8, 2015));
        let text = encoded(|registry| registry.register("writes", "help", sizes.clone()));
        for line in [
            "# TYPE writes histogram",
            "writes_sum 2015.0",
            "writes_count 8",
            "writes_bucket{le=\"0.0\"} 2",
            "writes_bucket{le=\"2.0\"} 2",
            "writes_bucket{le=\"4.0\"} 7",
            "writes_bucket{le=\"1024.0\"} 7",
            "writes_bucket{le=\"+Inf\"} 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn times_are_in_seconds() {
        let times = Seconds::default();
        times.observe(Duration::from_millis(3));
        let register = |registry: &mut Registry| {
            registry.register_with_unit("wait", "help", Unit::Seconds, times.clone());
        };
        let text = encoded(register);
        for line in [
            "wait_seconds_sum 0.003",
            "wait_seconds_bucket{le=\"0.0025\"} 0",
            "wait_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_family_without_labels_is_named() {
        let family = Family::<[(&str, &str); 1], Counter>::default();
        let bare = encoded(|registry| registry.register("closes", "help", family.clone()));
        assert_eq!(bare, "# EOF\n");
        let named = encoded(|registry| registry.register("closes", "help", Named(family)));
        assert!(named.contains("# TYPE closes counter\n"), "{named}");
    }

    #[test]
    fn a_gauge_counts_whoever_is_present() {
        let gauge = Gauge::default();
        let both = (Present::enter(&gauge), Present::enter(&gauge));
        assert_eq!(gauge.get(), 2);
        drop(both);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn the_first_of_sixteen_is_timed() {
        let timed = std::thread::spawn(|| (0..32).filter(|_| sampled().is_some()).count());
        assert_eq!(timed.join().unwrap(), 2);
    }
}
