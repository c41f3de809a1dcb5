//! Instructions of comet's hot paths. A count is of one message, delivery or login; the kernel's share is in none.
//!
//! Each bench has a runtime of one thread, real sockets where comet writes to sockets, and a peer that reads outside of what
//! is counted.

#![allow(clippy::unwrap_used, reason = "all of it is measuring code")]

use std::process::ExitCode;

mod bucket;
mod channel;
mod intake;
mod login;
mod sockets;
#[path = "../../../protocol/benches/support/mod.rs"]
mod support;

fn main() -> ExitCode {
    let benches = [
        intake::BENCHES,
        channel::BENCHES,
        bucket::BENCHES,
        login::BENCHES,
    ];
    support::run(&benches.concat())
}
