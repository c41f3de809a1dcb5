//! Results for people and programs: tables, JSON, and the published page with its curves.

pub mod cases;
pub mod conditions;
mod curves;
mod growth;
mod markdown;
mod medians;
mod numbers;
pub mod pairs;
mod reasons;
pub mod svg;
mod table;
pub mod verdicts;

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
    conditions::Conditions,
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
    /// Only the cases whose names begin so, or `curves`; no page: the results are printed, and written where `--json` says.
    /// May be given several times. `million` and `soak` are measured only where they are named here.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Lists the names of the cases and ends.
    #[arg(long)]
    pub list: bool,
    /// Writes the page again from results of an earlier run, and measures nothing. Given several times, cases and pictures of
    /// later files are added, or take the place of those of the same name before.
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
    /// Of all cases, where these have none of their own: in results of before they had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Conditions>,
    /// How often each.
    pub pairs: usize,
    /// How long each.
    pub timing: Timing,
    /// The cases.
    pub measured: Vec<Measured>,
    /// The pictures, by the names of their files.
    pub charts: Vec<(String, Chart)>,
}

/// The name by which the curves are asked for.
const CURVES: &str = "curves";

/// Where results of a report go if nothing else is said.
const RESULTS: &str = "target/benchmarks.json";

/// Measures the published set and writes the page; of named cases, prints the results alone. What has been measured is in the
/// JSON file after each case. Ends with an error if a case failed, after all others.
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
        println!("{CURVES}");
        return Ok(());
    }
    if !args.from.is_empty() {
        return write_page(&Document::read(&args.from)?, &args.docs);
    }
    let cases = asked_for(args);
    let is_whole = args.only.is_empty();
    let has_curves = is_whole || args.only.iter().any(|name| name == CURVES);
    ensure!(
        has_curves || !cases.is_empty(),
        "no case has such a name; --list lists them"
    );
    let json = json.or(is_whole.then_some(Path::new(RESULTS)));
    let mut document = Document {
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pairs: args.pairs,
        timing,
        ..Document::default()
    };
    for case in &cases {
        let measured = pairs::measure(case, server, timing, args.pairs).await;
        tell(&measured);
        document.measured.push(measured);
        save(&document, json)?;
    }
    let mut failed = document.failed();
    if has_curves {
        failed.extend(document.draw_curves(server, timing).await);
    }
    document.draw_memory();
    save(&document, json)?;
    if is_whole {
        write_page(&document, &args.docs)?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

impl Document {
    /// What was measured in several runs on one machine.
    fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut all: Option<Self> = None;
        for path in paths {
            let name = || path.display().to_string();
            let text = fs::read_to_string(path).with_context(name)?;
            let mut one: Self = serde_json::from_str(&text).with_context(name)?;
            one.hand_down_conditions();
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
        let mut all = all.context("no results were named")?;
        all.arrange();
        Ok(all)
    }

    /// Gives all cases the conditions of their run, where they have none of their own.
    fn hand_down_conditions(&mut self) {
        let of_run = std::mem::take(&mut self.conditions);
        let [of_run] = &of_run[..] else {
            return;
        };
        let unknown = Conditions::default();
        let without = self
            .measured
            .iter_mut()
            .filter(|it| it.conditions == unknown);
        without.for_each(|case| case.conditions = of_run.clone());
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
    }

    /// Judges all cases by the published set as it is now, and puts them into its order; others come last.
    fn arrange(&mut self) {
        let cases = cases::all();
        let place = |id: &str| cases.iter().position(|case| case.id == id);
        let measured = std::mem::take(&mut self.measured).into_iter();
        self.measured = measured
            .map(|it| match place(&it.id) {
                Some(place) => it.judged_by(&cases[place]),
                None => it,
            })
            .collect();
        self.measured
            .sort_by_key(|it| place(&it.id).unwrap_or(usize::MAX));
        self.draw_memory();
    }

    /// The names of the cases that failed.
    fn failed(&self) -> Vec<String> {
        let failed = self.measured.iter().filter(|case| case.failed.is_some());
        failed.map(|case| case.id.clone()).collect()
    }

    /// Measures the curves; the names of those that failed.
    async fn draw_curves(&mut self, server: &ServerArgs, timing: Timing) -> Vec<String> {
        let cost = curves::cost(server, timing).await;
        let latency = curves::latency(server, timing).await;
        let mut failed = Vec::new();
        for (file, chart) in [("bench-cost.svg", cost), ("bench-latency.svg", latency)] {
            match chart {
                Ok(chart) => self.put(file, chart),
                Err(error) => {
                    progress(&format!("{file} failed: {error:#}"));
                    failed.push(file.to_owned());
                }
            }
        }
        failed
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

/// Prints what a case came to, and how it meets its targets.
fn tell(measured: &Measured) {
    if !measured.medians.is_empty() {
        print(&measured.medians);
    }
    for verdict in &measured.verdicts {
        let met = if verdict.met { "met" } else { "missed" };
        println!("    {}, {}: {met}", verdict.reached(), verdict.aim());
    }
}

/// Writes all results as JSON, if they are to go anywhere.
fn save(document: &Document, json: Option<&Path>) -> anyhow::Result<()> {
    let Some(json) = json else {
        return Ok(());
    };
    write(json, &serde_json::to_string_pretty(document)?)
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

    #[test]
    fn cases_come_in_the_order_of_the_published_set() {
        let mut all = document(&[("soak", 1.0), ("unknown", 2.0), ("room-1-tcp-1000", 3.0)]);
        all.add(document(&[("joined", 4.0)]));
        all.arrange();
        let ids: Vec<_> = all.measured.iter().map(|case| case.id.as_str()).collect();
        assert_eq!(ids, ["room-1-tcp-1000", "joined", "soak", "unknown"]);
        // They are judged by what is aimed at now; one that is not known stays as it is.
        assert!(!all.measured[0].verdicts.is_empty());
        assert_eq!(all.measured[3].of_limit, Some(2.0));
    }

    #[test]
    fn cases_have_the_conditions_of_their_run_or_their_own() {
        let commit = |commit: &str| Conditions {
            commit: Some(commit.to_owned()),
            ..Conditions::default()
        };
        let mut all = document(&[("room", 1.0), ("keys", 2.0)]);
        all.measured[1].conditions = commit("b");
        all.conditions = vec![commit("a")];
        all.hand_down_conditions();
        let of_cases = all.measured.into_iter().map(|case| case.conditions);
        assert_eq!(of_cases.collect::<Vec<_>>(), [commit("a"), commit("b")]);
    }

    #[test]
    fn results_of_before_are_still_read() {
        let text = r#"{
            "machine": {"processor": "x", "processors": 2, "memory_gib": 24, "kernel": "Linux"},
            "version": "0.1.0", "pairs": 5, "timing": {"warmup": 1.0, "seconds": 3.0},
            "measured": [{"id": "overload", "medians": [], "of_limit": null, "goim": "",
                "verdicts": [{"target": {"keeps": 0.9}, "reached": 0.95, "met": true},
                    {"target": "told", "reached": 0.0, "met": true}], "runs": []}],
            "charts": []
        }"#;
        let document: Document = serde_json::from_str(text).unwrap();
        assert!(document.conditions.is_empty() && document.failed().is_empty());
        assert_eq!(document.measured[0].verdicts.len(), 2);
    }

    #[test]
    fn a_case_that_failed_is_named() {
        let mut document = document(&[("room", 1.0), ("keys", 2.0)]);
        document.measured[1].failed = Some("gone".to_owned());
        assert_eq!(document.failed(), ["keys"]);
    }
}
