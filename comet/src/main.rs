//! `comet`: the push gateway as a process of its own.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use axum::Router;
use clap::Parser;
use comet::{Comet, Config, config::SPEC};
use common::{
    config::{self, Loaded, Sources},
    files, health, shutdown, telemetry,
    version::version,
};
use prometheus_client::registry::Registry;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A push gateway that speaks goim's protocol.
///
/// goim's own flags work too, also with one dash: -conf, -region, -zone, -deploy.env, -host, -addrs, -weight, -offline, -debug.
#[derive(Debug, Parser)]
#[command(version = version())]
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
    /// Asks the process that runs here with the same configuration whether it is ready, and ends: with 0 when it is.
    #[arg(long, conflicts_with = "check_config")]
    health: bool,
    /// Sets env.region.
    #[arg(long)]
    region: Option<String>,
    /// Sets env.zone.
    #[arg(long)]
    zone: Option<String>,
    /// Sets env.deployEnv.
    #[arg(long, alias = "deploy.env")]
    deploy_env: Option<String>,
    /// Sets env.host: the name under which sessions are stored.
    #[arg(long)]
    host: Option<String>,
    /// Sets env.addrs, separated by commas.
    #[arg(long)]
    addrs: Option<String>,
    /// Sets env.weight.
    #[arg(long)]
    weight: Option<String>,
    /// Sets env.offline.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    offline: Option<String>,
    /// Logs at the level debug where `RUST_LOG` does not say otherwise.
    #[arg(long)]
    debug: bool,
}

impl Flags {
    /// The command line, with goim's single dashes taken for two.
    fn from_command_line() -> Self {
        const GOIMS: [&str; 9] = [
            "conf",
            "region",
            "zone",
            "deploy.env",
            "host",
            "addrs",
            "weight",
            "offline",
            "debug",
        ];
        let arguments = std::env::args().map(|argument| {
            let name = argument
                .strip_prefix('-')
                .and_then(|rest| rest.split('=').next());
            if name.is_some_and(|name| GOIMS.contains(&name)) {
                format!("-{argument}")
            } else {
                argument
            }
        });
        Self::parse_from(arguments)
    }

    /// Where the configuration comes from. Flags win over file and environment.
    fn sources(self) -> Sources {
        let named = [
            ("env.region", self.region),
            ("env.zone", self.zone),
            ("env.deployEnv", self.deploy_env),
            ("env.host", self.host),
            ("env.addrs", self.addrs),
            ("env.weight", self.weight),
            ("env.offline", self.offline),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        let set = named.chain(self.set).collect();
        Sources::from_process(self.config, set)
    }
}

fn main() -> ExitCode {
    match start(Flags::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("comet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> anyhow::Result<()> {
    let (check_config, health, debug) = (flags.check_config, flags.health, flags.debug);
    let Loaded { config, warnings } = config::load::<Config>(&SPEC, &flags.sources())?;
    if health {
        let server = &config.rpc_server;
        health::check(&server.addr, server.callers(), server.tls.is_on())?;
        println!("ready");
        return Ok(());
    }
    telemetry::init(if debug {
        "debug"
    } else {
        telemetry::DEFAULT_FILTER
    })?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if check_config {
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
        .block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signals();
    let comet = Comet::start(&config, Router::new(), Registry::default(), shutdown).await?;
    tracing::info!(
        tcp = ?comet.tcp_addrs(),
        http = ?comet.http_addrs(),
        tcp_tls = ?comet.tcp_tls_addrs(),
        https = ?comet.https_addrs(),
        grpc = %comet.grpc_addr(),
        monitor = ?comet.monitor_addrs(),
        "comet listens"
    );
    comet.join().await;
    tracing::info!("comet has stopped");
    Ok(())
}
