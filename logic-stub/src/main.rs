//! The logic-stub process: flags, configuration, start, end.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use common::{
    config::{self, Loaded, Sources},
    health, shutdown, telemetry,
    version::version,
};
use logic_stub::{Config, LogicStub};

/// goim's logic for Comet: who a client is, where its sessions are, and the push API.
#[derive(Debug, Parser)]
#[command(version = version())]
struct Flags {
    /// A TOML file; what it does not say has its default.
    #[arg(long, short, env = "LOGIC_CONFIG")]
    config: Option<PathBuf>,
    /// Keeps sessions in this Redis: `redis://host:port`, `redis+cluster://host:port,host:port` or
    /// `redis+sentinel://host:port,host:port/master`, with `rediss` for TLS. The same as `--set redis.url=URL`.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// One key, over file and environment: `--set node.heartbeat=30s`.
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
            eprintln!("logic-stub: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut flags: Flags) -> anyhow::Result<()> {
    let redis = flags.redis.map(|url| format!("redis.url={url}"));
    flags.set.extend(redis);
    let sources = Sources::from_process(flags.config, flags.set);
    let Loaded { config, warnings } = config::load::<Config>(&logic_stub::config::SPEC, &sources)?;
    if flags.check_config {
        for warning in &warnings {
            eprintln!("{warning}");
        }
        println!("the configuration is valid");
        return Ok(());
    }
    if flags.health {
        let server = &config.rpc_server;
        health::check(&server.addr, server.callers(), server.tls.is_on())?;
        println!("ready");
        return Ok(());
    }
    telemetry::init(telemetry::DEFAULT_FILTER)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals();
    let logic = LogicStub::start(config, shutdown)?;
    tracing::info!(
        grpc = %logic.grpc_addr(),
        http = %logic.http_addr(),
        monitor = ?logic.monitor_addrs(),
        "logic-stub is up"
    );
    logic.join().await;
    tracing::info!("logic-stub has stopped");
    Ok(())
}
