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
use self::{
    cases::{Case, Work},
    pairs::Measured,
    svg::Chart,
};
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
    /// Only the cases whose names begin so; no curves. May be given several times. `million` and `soak` are measured only
    /// where they are named here.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Lists the names of the cases and ends.
    #[arg(long)]
    pub list: bool,
    /// Writes the page again from results of an earlier run, and measures nothing. Given several times, cases of later files
    /// are added, or take the place of those before.
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    /// For the case `million`: raises `nf_conntrack_max` where it is too low, for the time of the run.
    #[arg(long)]
    pub raise_conntrack: bool,
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
    if args.list {
        for case in cases::all() {
            let when = if case.by_hand { " (only if named)" } else { "" };
            println!("{}{when}", case.id);
        }
        return Ok(());
    }
    if !args.from.is_empty() {
        return write_page(&Document::read(&args.from)?, &args.docs);
    }
    let cases = asked_for(args);
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
    document.draw_memory();
    write(json, &serde_json::to_string_pretty(&document)?)?;
    write_page(&document, &args.docs)
}

impl Document {
    /// What was measured in several runs on one machine.
    fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut all: Option<Self> = None;
        for path in paths {
            let name = || path.display().to_string();
            let text = fs::read_to_string(path).with_context(name)?;
            let one: Self = serde_json::from_str(&text).with_context(name)?;
            match &mut all {
                None => all = Some(one),
                Some(all) => {
                    ensure!(
                        all.machine == one.machine,
                        "{} was measured on another machine",
                        name()
                    );
                    all.add(one);
                }
            }
        }
        all.context("no results were named")
    }

    /// Adds the cases and pictures of another run; those that are here already are replaced.
    fn add(&mut self, other: Self) {
        for case in other.measured {
            match self.measured.iter_mut().find(|it| it.id == case.id) {
                Some(before) => *before = case,
                None => self.measured.push(case),
            }
        }
        for (file, chart) in other.charts {
            self.put(&file, chart);
        }
        self.draw_memory();
    }

    fn draw_memory(&mut self) {
        if let Some(chart) = curves::memory(&self.measured) {
            self.put("bench-memory.svg", chart);
        }
    }

    fn put(&mut self, file: &str, chart: Chart) {
        match self.charts.iter_mut().find(|(name, _)| name == file) {
            Some((_, before)) => *before = chart,
            None => self.charts.push((file.to_owned(), chart)),
        }
    }
}

/// The cases that are to be measured.
fn asked_for(args: &ReportArgs) -> Vec<Case> {
    let mut cases = cases::all();
    cases.retain(|case| case.is_asked_for(&args.only));
    for case in &mut cases {
        if let Work::Million(million) = &mut case.work {
            million.raise_conntrack = args.raise_conntrack;
        }
    }
    cases
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

#[cfg(test)]
mod tests {
    use super::*;

    fn document(cases: &[(&str, f64)]) -> Document {
        let measured = |(id, of_limit): &(&str, f64)| Measured {
            id: (*id).to_owned(),
            of_limit: Some(*of_limit),
            ..Measured::default()
        };
        Document {
            pairs: 5,
            measured: cases.iter().map(measured).collect(),
            ..Document::default()
        }
    }

    #[test]
    fn results_of_several_runs_make_one_page() {
        let mut all = document(&[("room", 1.0), ("keys", 2.0)]);
        all.add(document(&[("keys", 3.0), ("million", 4.0)]));
        let cases = all
            .measured
            .iter()
            .map(|case| (case.id.as_str(), case.of_limit));
        let expected = [
            ("room", Some(1.0)),
            ("keys", Some(3.0)),
            ("million", Some(4.0)),
        ];
        assert_eq!(cases.collect::<Vec<_>>(), expected);
    }
}
