//! How many files a process may have open, of which each connection is one.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft bound on the open files of this process to the hard one. Shells and systemd start programs with a soft bound
/// of 1,024 for the sake of those that use `select`. An error if the system refuses.
pub fn raise_bound() -> io::Result<()> {
    let bound = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: bound.maximum,
        ..bound
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}
