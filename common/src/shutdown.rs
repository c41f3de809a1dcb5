//! The signals that end a process, and the one that does not.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a process that was told twice to end leaves with.
const EXIT_CODE: i32 = 130;

/// A token that SIGINT or SIGTERM cancels. A second signal ends the process at once, with code 130.
///
/// SIGHUP ends nothing, whether or not there are files that it has read again; but a process that was started from a terminal
/// ends with that terminal, of which SIGHUP tells it.
///
/// The signals are caught from the moment this returns. Must be called within a tokio runtime. Should the system refuse
/// to hand signals over, that is logged, the token is never cancelled, and a signal ends the process the system's way.
pub fn on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    match Signals::catch() {
        Ok(signals) => {
            tokio::spawn(watch(signals, token.clone()));
        }
        Err(error) => {
            tracing::error!(%error, "cannot catch signals: they will end this process without a drain");
        }
    }
    token
}

async fn watch(mut signals: Signals, token: CancellationToken) {
    let name = signals.next().await;
    // Whatever becomes of the log.
    token.cancel();
    tracing::info!(
        signal = name,
        "shutting down; a second signal ends the process at once"
    );
    let name = signals.next().await;
    tracing::warn!(signal = name, "ending at once");
    std::process::exit(EXIT_CODE);
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    has_terminal: bool,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            has_terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv(), if self.has_terminal => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Lines};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    /// Set where the process below is really wanted.
    const WANTED: &str = "COMMON_SHUTDOWN_PROCESS";

    /// What the test below runs in a process of its own.
    #[tokio::test]
    #[ignore = "not a test: a process for the other one"]
    async fn process() {
        if std::env::var_os(WANTED).is_none() {
            return;
        }
        let token = on_signals();
        println!("\ncaught");
        token.cancelled().await;
        println!("cancelled");
        std::future::pending::<()>().await;
    }

    /// A process that does not outlive its test.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
        }
    }

    fn start() -> (Process, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "shutdown::tests::process",
                "--ignored",
                "--nocapture",
            ])
            .env(WANTED, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Process(child), lines)
    }

    fn send(signal: &str, child: &Child) {
        let kill = format!("kill -{signal} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    #[test]
    fn the_first_signal_cancels_and_the_second_exits() {
        for (first, second) in [("TERM", "INT"), ("INT", "TERM"), ("INT", "INT")] {
            let (mut process, mut lines) = start();
            assert!(lines.any(|line| line.unwrap() == "caught"));
            send(first, &process.0);
            assert!(lines.any(|line| line.unwrap() == "cancelled"));
            send(second, &process.0);
            assert_eq!(process.0.wait().unwrap().code(), Some(130));
        }
    }
}
