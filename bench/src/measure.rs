//! Clocks, and what a process costs: CPU time and resident memory, from `/proc`.

use std::fs;

use anyhow::Context as _;
use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

/// Nanoseconds of the machine's monotonic clock, which all its processes share.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Since the start of the machine: never negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A count as a factor.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of messages and bytes are far below 2^52"
)]
pub fn real(count: u64) -> f64 {
    count as f64
}

/// A process, or several that are one server.
#[derive(Debug, Clone, Default)]
pub struct Processes(Vec<u32>);

/// Memory of processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident, with what is shared.
    pub rss: u64,
    /// Resident and of no file: heap and stacks.
    pub anonymous: u64,
}

impl Processes {
    /// Those of these ids.
    pub fn new(ids: Vec<u32>) -> Self {
        Self(ids)
    }

    /// This one.
    pub fn this() -> Self {
        Self(vec![std::process::id()])
    }

    /// Whether there is none, so that nothing can be measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Seconds of CPU time since their start, user and system, to 10 ms.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        self.0.iter().map(|id| cpu(*id)).sum()
    }

    /// Seconds of CPU time of the threads that live, to the microsecond or better: for processes that hardly run.
    pub fn fine_cpu(&self) -> anyhow::Result<f64> {
        self.0.iter().map(|id| fine_cpu(*id)).sum()
    }

    /// What they hold in memory.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let mut sum = Memory::default();
        for id in &self.0 {
            let path = format!("/proc/{id}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| path.clone())?;
            let bytes =
                |name: &str| kilobytes(&text, name).with_context(|| format!("{path}: {name}"));
            sum.rss += bytes("Rss:")? << 10;
            sum.anonymous += bytes("Anonymous:")? << 10;
        }
        Ok(sum)
    }

    /// Open files.
    pub fn files(&self) -> anyhow::Result<usize> {
        let count = |id: &u32| {
            let path = format!("/proc/{id}/fd");
            Ok(fs::read_dir(&path).with_context(|| path.clone())?.count())
        };
        self.0.iter().map(count).sum()
    }
}

/// What a machine is, for published figures. Nothing that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of its processors.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Gibibytes, rounded.
    pub memory_gib: u64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one; what cannot be read stays empty.
    pub fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let model = |line: &str| {
            Some(
                line.strip_prefix("model name")?
                    .split_once(": ")?
                    .1
                    .to_owned(),
            )
        };
        let release = read("/proc/sys/kernel/osrelease");
        let number = release.trim().split('-').next().unwrap_or_default();
        let kib = kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0);
        Self {
            processor: read("/proc/cpuinfo")
                .lines()
                .find_map(model)
                .unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: format!("Linux {number}"),
        }
    }
}

fn cpu(id: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may hold anything; utime and stime are fields 14 and 15 of all.
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()
        .with_context(|| path.clone())?;
    Ok(real(ticks) / real(clock_ticks_per_second()))
}

fn fine_cpu(id: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{id}/task");
    let mut nanos = 0;
    for task in fs::read_dir(&path).with_context(|| path.clone())? {
        // A thread may have ended since it was listed.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text
            .split(' ')
            .next()
            .and_then(|first| first.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(real(nanos) / 1e9)
}

/// The number behind a name, in lines such as `Rss:    1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_measured() {
        let this = Processes::this();
        let memory = this.memory().unwrap();
        assert!(memory.rss >= memory.anonymous && memory.anonymous > 0);
        assert!(this.files().unwrap() >= 3);
        let before = this.cpu().unwrap();
        while this.cpu().unwrap() <= before {
            std::hint::black_box(now());
        }
        assert!(this.fine_cpu().unwrap() > 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let none = Processes::new(vec![u32::MAX]);
        assert!(none.cpu().is_err());
        assert!(none.memory().is_err());
    }
}
