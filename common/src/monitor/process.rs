//! What the system knows of this process, under the names that Prometheus' own clients use. What cannot be read is left out.

use std::{
    fmt, fs,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
    registry::Unit,
};
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::metrics::write_gauge;

/// Looked up at each question.
#[derive(Debug)]
pub(super) struct Process {
    /// Milliseconds late, since it is noted when the monitor starts.
    started: SystemTime,
}

impl Process {
    pub(super) fn new() -> Self {
        Self {
            started: SystemTime::now(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        if let Some(time) = cpu_time() {
            let help = "CPU time of all threads, in user and system mode.";
            let encoder =
                encoder.encode_descriptor("process_cpu", help, seconds, MetricType::Counter)?;
            ConstCounter::new(time.as_secs_f64()).encode(encoder)?;
        }
        let since_1970 = self.started.duration_since(SystemTime::UNIX_EPOCH);
        let start = since_1970.unwrap_or_default().as_secs_f64();
        let name = ("process_start_time", seconds);
        write_gauge(encoder, name, "When it started, since 1970.", start)?;
        if let Some((size, resident)) = memory() {
            let name = ("process_virtual_memory", bytes);
            write_gauge(encoder, name, "Address space.", size)?;
            let name = ("process_resident_memory", bytes);
            write_gauge(encoder, name, "Memory in use.", resident)?;
        }
        if let Some(open) = open_files() {
            let help = "Open files, sockets among them.";
            write_gauge(encoder, ("process_open_fds", None), help, open)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            let help = "The limit of open files.";
            write_gauge(encoder, ("process_max_fds", None), help, most)?;
        }
        if let Some(threads) = threads() {
            write_gauge(encoder, ("process_threads", None), "Threads.", threads)?;
        }
        Ok(())
    }
}

fn cpu_time() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}

/// Bytes of address space, and of memory in use (Linux).
fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let page = page_size() as u64;
    let mut bytes = text
        .split(' ')
        .map(|pages| Some(pages.parse::<u64>().ok()? * page));
    Some((bytes.next()??, bytes.next()??))
}

/// Linux has counted them since 6.2, and says 0 before.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        // Less the one that reads the folder.
        0 => Some(fs::read_dir(FOLDER).ok()?.count().saturating_sub(1) as u64),
        count => Some(count),
    }
}

fn threads() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Threads:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_knows_this_process() {
        let (size, resident) = memory().unwrap();
        assert!((1 << 20..size).contains(&resident), "{resident} of {size}");
        // Standard input, output and error at least.
        assert!(open_files().unwrap() >= 3);
        assert!(threads().unwrap() >= 1);
        let before = cpu_time().unwrap();
        while cpu_time().unwrap() == before {}
    }
}
