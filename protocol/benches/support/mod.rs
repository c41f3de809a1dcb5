//! What is counted, and the frame around it: `scripts/bench-counts` runs each bench in a process of its own under callgrind,
//! which counts only within [`counted_section`].

use std::{env, hint::black_box, process::ExitCode};

/// A bench.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    /// Its name, unique over all crates.
    pub(crate) name: &'static str,
    /// How often it does within [`counted_section`] what it is about.
    pub(crate) operations: usize,
    /// Prepares, and does it.
    pub(crate) run: fn(),
}

/// Does what is to be counted. Callgrind finds this function by its name, so it is no generic one, and is never inlined.
#[inline(never)]
pub(crate) fn counted_section(work: &mut dyn FnMut()) {
    work();
    // So that the call is not the last thing here: a jump would end the section before the work begins.
    black_box(());
}

/// Runs the bench that the command line names, or lists all, each with its operations.
pub(crate) fn run(benches: &[Bench]) -> ExitCode {
    let name = env::args().nth(1).unwrap_or_default();
    if name == "--list" {
        for Bench {
            name, operations, ..
        } in benches
        {
            println!("{name} {operations}");
        }
        return ExitCode::SUCCESS;
    }
    if let Some(bench) = benches.iter().find(|bench| bench.name == name) {
        (bench.run)();
        return ExitCode::SUCCESS;
    }
    eprintln!("no bench is named {name:?}: `make bench-check` runs them all");
    ExitCode::FAILURE
}
