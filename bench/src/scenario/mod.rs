//! What is measured. Each scenario logs its clients in, warms up, measures, waits until nothing comes any more, and counts what
//! every connection has.

pub mod churn;
pub mod fanout;
pub mod heartbeats;
pub mod idle;
pub mod logins;
pub mod mix;
pub mod overload;
mod series;
pub mod slow;
pub mod soak;

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::{Deserialize, Serialize};

pub use self::series::{Outcome, Series};
use crate::{
    clients::{Cohort, Fleet, Opened, Task},
    doors::Door,
    measure::real,
    server::{Server, ServerArgs},
};

/// Logins under way at once where logins are not what is measured.
const AT_ONCE: u32 = 128;

/// How long things are measured.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds before the measurement, under the same load.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warmup: 2.0,
            seconds: 5.0,
        }
    }
}

/// A server, clients for it, and how long to measure.
#[derive(Debug)]
pub struct Bench {
    /// The server.
    pub server: Server,
    /// Its clients.
    pub fleet: Fleet,
    /// How long.
    pub timing: Timing,
}

impl Bench {
    /// Finds or starts the server and starts the threads of clients.
    pub fn start(server: &ServerArgs, threads: u32, timing: Timing) -> anyhow::Result<Self> {
        let server = Server::find(server)?;
        let fleet = Fleet::start(server.doors, threads)?;
        Ok(Self {
            server,
            fleet,
            timing,
        })
    }

    /// Logs `count` connections in, from number `first` on; an error if one fails.
    pub async fn open(
        &self,
        first: u32,
        count: u32,
        door: Door,
        rooms: u32,
    ) -> anyhow::Result<Opened> {
        let cohort = Cohort {
            first,
            count,
            door,
            rooms,
            shift: 0,
        };
        let opened = self.fleet.open(cohort, AT_ONCE).await?;
        ensure!(
            opened.failed == 0,
            "{} of {count} logins failed; the last: {}",
            opened.failed,
            opened.last_error.as_deref().unwrap_or("no answer in time")
        );
        Ok(opened)
    }

    /// Closes connections and gives the server time to notice.
    pub async fn close(&self, first: u32, count: u32) -> anyhow::Result<()> {
        self.fleet.tell(Task::Close { first, count }).await?;
        self.rest().await;
        Ok(())
    }

    /// Waits until the server has nothing to do, as far as its CPU time tells, at most some seconds.
    pub async fn rest(&self) {
        let mut before = None;
        for _ in 0..40 {
            let cpu = self.server.processes.cpu().ok();
            if before == Some(cpu) {
                return;
            }
            before = Some(cpu);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// A result. What a scenario does not measure is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// What was done.
    pub scenario: String,
    /// By which door.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<Door>,
    /// Connections that were logged in.
    pub connections: u32,
    /// Bytes of a message's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<usize>,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Messages that should have come, over the whole series with its warm-up.
    pub offered: u64,
    /// Of which came, without repetitions.
    pub received: u64,
    /// Of which did not, and the server did not refuse them.
    pub lost: u64,
    /// Messages whose push the server refused.
    pub refused: u64,
    /// Messages that the server itself says it dropped: of the receipts of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<u64>,
    /// Pushes that were due and that the pusher could not make.
    pub unsent: u64,
    /// Messages that came twice.
    pub duplicated: u64,
    /// Messages that came behind later ones.
    pub reordered: u64,
    /// Messages that came to the wrong connection, or that nobody sent.
    pub strays: u64,
    /// Connections that the server closed meanwhile.
    pub gone: u64,
    /// How often nothing moved for seconds.
    pub stalls: u64,
    /// What the server still holds after all connections were closed: open files, and MiB of memory beyond what is tolerated.
    pub kept: u64,
    /// Messages (logins, heartbeats) a second, all connections together.
    pub per_second: f64,
    /// Pushes a second that were asked for or made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushes_per_second: Option<f64>,
    /// CPU seconds of the server for a million of them; for 10,000 logins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu: Option<f64>,
    /// CPU seconds of clients and pusher for as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cpu: Option<f64>,
    /// The bare loop's CPU seconds for as many, run beside this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Milliseconds that half of them took at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// Of 99 in 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Of 999 in 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999: Option<f64>,
    /// Messages that a client found in one read: about what the server writes at once, or more when clients are slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_read: Option<f64>,
    /// Resident memory of the server after it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
    /// Resident bytes of a connection, by the slope over several counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_connection: Option<f64>,
    /// Share of a core that the server takes while nothing happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_cpu: Option<f64>,
    /// The last error of clients or pusher.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Row {
    /// All that should not be.
    pub fn faults(&self) -> u64 {
        self.lost
            + self.refused
            + self.duplicated
            + self.reordered
            + self.strays
            + self.gone
            + self.stalls
            + self.kept
    }
}

/// A histogram's quantile in milliseconds.
pub fn millis(histogram: &hdrhistogram::Histogram<u64>, quantile: f64) -> Option<f64> {
    let found = !histogram.is_empty();
    found.then(|| real(histogram.value_at_quantile(quantile)) / 1e6)
}

/// Says on the standard error what is going on.
pub fn progress(text: &str) {
    eprintln!("  {text}");
}
