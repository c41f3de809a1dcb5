//! `comet`: the push gateway as a process of its own.

use std::path::PathBuf;

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use comet::{Comet, Config, config::SPEC};
use common::{
    config::{self, Sources},
    shutdown, telemetry,
};
use prometheus_client::registry::Registry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A push gateway that speaks goim's protocol.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// The configuration file, in TOML; goim's comet file will do.
    #[arg(long, alias = "conf", env = "COMET_CONFIG")]
    config: Option<PathBuf>,
    /// Sets a key, over file and environment: `--set tcp.bind=:3101`. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Reads the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    check_config: bool,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    telemetry::init(None)?;
    let sources = Sources::from_process(flags.config, flags.set);
    let loaded = match config::load::<Config>(&SPEC, &sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(64);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if flags.check_config {
        println!("the configuration is good");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .context("the runtime does not start")?
        .block_on(run(loaded.config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals();
    let mut registry = Registry::default();
    let comet = Comet::start(&config, Router::new(), &mut registry, shutdown).await?;
    tracing::info!(tcp = ?comet.tcp_addrs(), http = ?comet.http_addrs(), grpc = %comet.grpc_addr(), "comet listens");
    comet.join().await;
    tracing::info!("comet ends");
    Ok(())
}
