//! How many files this process may have open, of which each connection is one.

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the bound on the files of this process, and of those that it starts, as far as it may. Returns it.
pub fn raise() -> anyhow::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("RLIMIT_NOFILE")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
