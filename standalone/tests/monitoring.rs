//! deploy/monitoring is true: Prometheus takes its files, the alerts fire when they should, and every metric that is watched
//! exists. `make test` installs promtool.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::process::Command;

use crate::{
    monitor::{Described, described},
    support::script::{passes, run},
};

const PROMTOOL_PATIENCE: Duration = Duration::from_mins(1);

/// Labels that Prometheus adds.
const ADDED_LABELS: [&str; 2] = ["job", "instance"];

/// Metrics of Prometheus's own that are asked for.
const OF_PROMETHEUS: [&str; 2] = ["up", "ALERTS"];

#[tokio::test]
async fn prometheus_takes_its_configuration_and_the_alerts_fire_when_they_should() {
    let monitoring = root().join("deploy/monitoring");
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let mut promtool = promtool();
        promtool.args(arguments).current_dir(&monitoring);
        passes(
            &arguments.join(" "),
            run(&mut promtool, PROMTOOL_PATIENCE).await,
        );
    }
}

#[tokio::test]
async fn prometheus_takes_the_expressions_of_the_dashboard() {
    let rules: Vec<Value> = dashboard_expressions()
        .iter()
        .enumerate()
        .map(|(index, expression)| {
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*");
            assert!(!expression.contains('$'), "{expression}");
            serde_json::json!({"record": format!("panel:{index}"), "expr": expression})
        })
        .collect();
    // JSON is YAML.
    let rules = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    let file = std::env::temp_dir().join(format!("comet-panels-{}.yml", std::process::id()));
    fs::write(&file, rules.to_string()).unwrap();
    let mut promtool = promtool();
    promtool.args(["check", "rules"]).arg(&file);
    let output = run(&mut promtool, PROMTOOL_PATIENCE).await;
    fs::remove_file(file).unwrap();
    passes("the dashboard", output);
}

#[test]
fn every_metric_that_is_watched_exists() {
    let described = described();
    let alerts = read("deploy/monitoring/alerts.yml");
    let watched = [alert_expressions(&alerts), dashboard_expressions()].concat();
    let mut checked = 0;
    for expression in &watched {
        for (name, labels) in metrics(expression) {
            if !OF_PROMETHEUS.contains(&name.as_str()) {
                is_described(&described, &name, &labels, expression);
                checked += 1;
            }
        }
    }
    assert!(
        checked > 60,
        "only {checked} metrics: are they still recognized?"
    );
}

#[test]
fn every_alert_is_tested_and_described() {
    let names = |text: &str, marker: &str| -> BTreeSet<String> {
        let after = text.split(marker).skip(1);
        after.map(|rest| first_word(rest).to_owned()).collect()
    };
    let alerts = names(&read("deploy/monitoring/alerts.yml"), "- alert: ");
    assert!(alerts.len() > 20, "are they still recognized? {alerts:?}");
    let tests = read("deploy/monitoring/alerts.test.yml");
    assert_eq!(names(&tests, "alertname=\""), alerts, "tested");
    let document = read("docs/operations.md");
    let table = document
        .lines()
        .skip_while(|line| !line.starts_with("| Alert |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let described: BTreeSet<String> = rows
        .flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap_or_default();
            cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned)
        })
        .collect();
    assert_eq!(described, alerts, "described in docs/operations.md");
}

fn promtool() -> Command {
    let promtool = std::env::var_os("COMET_TEST_PROMTOOL");
    Command::new(promtool.unwrap_or_else(|| "promtool".into()))
}

/// The name is in docs/operations.md and has these labels.
pub fn is_described(
    described: &BTreeMap<String, Described>,
    name: &str,
    labels: &BTreeSet<String>,
    place: &str,
) {
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| name.strip_suffix(part));
    let histogram = whole.filter(|whole| described.contains_key(*whole));
    let Some((kind, known)) = described.get(histogram.unwrap_or(name)) else {
        panic!("{name} is not in docs/operations.md: {place}");
    };
    assert_eq!(
        histogram.is_some(),
        kind == "histogram",
        "{name} is a {kind}: {place}"
    );
    for label in labels {
        assert!(
            known.contains(label) || ADDED_LABELS.contains(&label.as_str()),
            "{name} has no label {label}: {place}"
        );
    }
}

/// The metrics of an expression and the labels that it selects them by.
fn metrics(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    // What is in quotes are values of labels.
    let bare: String = expression.split('"').step_by(2).collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = bare.as_str();
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..]
            .find(|c| !is_part(c))
            .map_or(rest.len(), |length| start + length);
        let (name, after) = (&rest[start..end], &rest[end..]);
        let ours = ["comet_", "logic_", "process_"];
        let is_metric = ours.iter().any(|prefix| name.starts_with(prefix));
        let mut consumed = 0;
        if is_metric || OF_PROMETHEUS.contains(&name) {
            let braces = after
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'));
            let selectors = braces.map_or("", |(selectors, _)| selectors);
            consumed = braces.map_or(0, |(selectors, _)| selectors.len() + 2);
            let labels = selectors.split(',').filter(|one| !one.trim().is_empty());
            let labels = labels.map(|one| first_word(one.trim()).to_owned());
            found.push((name.to_owned(), labels.collect()));
        }
        rest = &after[consumed..];
    }
    found
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The `expr` of each rule: of its line, or of the block below it.
fn alert_expressions(text: &str) -> Vec<String> {
    let rules = text.split("        expr: ").skip(1);
    rules
        .map(|rule| {
            let deeper = |line: &&str| line.starts_with("          ");
            let mut lines = rule.lines();
            let first = lines.next().unwrap().trim_start_matches('|').to_owned();
            let block: Vec<&str> = lines.take_while(deeper).collect();
            format!("{first} {}", block.join(" "))
        })
        .collect()
}

fn dashboard_expressions() -> Vec<String> {
    let dashboard = read("deploy/monitoring/grafana/dashboards/comet.json");
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
