//! Results for people and programs: tables, JSON, and the published page with its curves.

pub mod cases;
mod curves;
mod markdown;
pub mod pairs;
pub mod svg;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

pub use self::table::print;
use self::{pairs::Measured, svg::Chart};
use crate::{
    measure::Machine,
    scenario::{Row, Timing, progress},
    server::ServerArgs,
};

/// What is published, and where.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Pairs of limit and server for each case.
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    /// Only the cases whose names begin so; no curves. May be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Lists the names of the cases and ends.
    #[arg(long)]
    pub list: bool,
    /// Writes the page again from results of an earlier run, and measures nothing.
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// The folder of the page; its pictures go to `images` in it.
    #[arg(long, default_value = "docs")]
    pub docs: PathBuf,
}

/// All that was measured for a page.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Document {
    /// Where.
    pub machine: Machine,
    /// By which version of this tool.
    pub version: String,
    /// How often each.
    pub pairs: usize,
    /// How long each.
    pub timing: Timing,
    /// The cases.
    pub measured: Vec<Measured>,
    /// The pictures, by the names of their files.
    pub charts: Vec<(String, Chart)>,
}

/// Where results of a report go if nothing else is said.
const RESULTS: &str = "target/benchmarks.json";

/// Measures the published set and writes the page. What has been measured is in the JSON file after each case.
pub async fn publish(
    args: &ReportArgs,
    server: &ServerArgs,
    timing: Timing,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    let cases: Vec<_> = cases::all()
        .into_iter()
        .filter(|case| {
            args.only.is_empty() || args.only.iter().any(|name| case.id.starts_with(name))
        })
        .collect();
    if args.list {
        for case in &cases {
            println!("{}", case.id);
        }
        return Ok(());
    }
    if let Some(from) = &args.from {
        let text = fs::read_to_string(from).with_context(|| from.display().to_string())?;
        return write_page(&serde_json::from_str(&text)?, &args.docs);
    }
    ensure!(
        !cases.is_empty(),
        "no case has such a name; --list lists them"
    );
    let mut document = Document {
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pairs: args.pairs,
        timing,
        ..Document::default()
    };
    let json = json.unwrap_or(Path::new(RESULTS));
    for case in &cases {
        match pairs::measure(case, server, timing, args.pairs).await {
            Ok(measured) => {
                print(&measured.medians);
                document.measured.push(measured);
            }
            // One case that a server cannot do is no reason to lose the others.
            Err(error) => progress(&format!("{} failed: {error:#}", case.id)),
        }
        write(json, &serde_json::to_string_pretty(&document)?)?;
    }
    if args.only.is_empty() {
        document.charts = vec![
            (
                "bench-cost.svg".to_owned(),
                curves::cost(server, timing).await?,
            ),
            (
                "bench-latency.svg".to_owned(),
                curves::latency(server, timing).await?,
            ),
        ];
    }
    let memory = curves::memory(&document.measured);
    document
        .charts
        .extend(memory.map(|chart| ("bench-memory.svg".to_owned(), chart)));
    write(json, &serde_json::to_string_pretty(&document)?)?;
    write_page(&document, &args.docs)
}

/// Writes results as JSON, to the standard output for `-`.
pub fn write_json(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    if path == Path::new("-") {
        println!("{text}");
        return Ok(());
    }
    write(path, &text)
}

fn write_page(document: &Document, docs: &Path) -> anyhow::Result<()> {
    let mut pictures = Vec::new();
    for (file, chart) in &document.charts {
        write(&docs.join("images").join(file), &chart.svg())?;
        pictures.push((file.clone(), chart.title.clone()));
    }
    let page = docs.join("benchmarks.md");
    write(&page, &markdown::page(document, &pictures))?;
    progress(&format!("{} is written", page.display()));
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, text.trim_end().to_owned() + "\n").with_context(|| path.display().to_string())
}
