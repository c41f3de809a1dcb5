//! `comet-bench`: see the crate's own documentation.

use std::process::ExitCode;

use bench::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("comet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
