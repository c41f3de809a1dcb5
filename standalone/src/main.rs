//! `comet-standalone`: everything in one process, for trying out.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use common::{
    config::{self, Loaded, Sources},
    files, health, shutdown, telemetry,
    version::version,
};
use standalone::{Config, Standalone, config::SPEC};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Comet and its logic in one process, with a page to try them.
#[derive(Debug, Parser)]
#[command(name = "comet-standalone", version = version())]
struct Flags {
    /// The configuration file, in TOML, with the tables `comet`, `logic` and `page`.
    #[arg(long, env = "STANDALONE_CONFIG")]
    config: Option<PathBuf>,
    /// Sets a key, over file and environment: `--set comet.websocket.bind=:3102`. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Reads the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    check_config: bool,
    /// Asks the process that runs here with the same configuration whether it is ready, and ends: with 0 when it is.
    #[arg(long, conflicts_with = "check_config")]
    health: bool,
}

fn main() -> ExitCode {
    match run(Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("comet-standalone: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let sources = Sources::from_process(flags.config, flags.set);
    let Loaded { config, warnings } = config::load::<Config>(&SPEC, &sources)?;
    if flags.health {
        // Comet is ready when logic answers, and logic answers when its store does.
        let server = &config.comet.rpc_server;
        health::check(&server.addr, server.callers(), server.tls.is_on())?;
        println!("ready");
        return Ok(());
    }
    telemetry::init(telemetry::DEFAULT_FILTER)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if flags.check_config {
        println!("the configuration is valid");
        return Ok(());
    }
    if let Err(error) = files::raise_bound() {
        tracing::warn!(%error, "the bound on open files stays as it is");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .context("the runtime does not start")?
        .block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let standalone = Standalone::start(config, shutdown::on_signals()).await?;
    println!("{}", standalone.welcome());
    standalone.join().await;
    tracing::info!("comet-standalone has stopped");
    Ok(())
}
