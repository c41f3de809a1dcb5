//! The documents are true: every key is listed with its default, every link leads somewhere, and the crates and modules know
//! each other as ARCHITECTURE.md says.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;
use serde_json::Value;

/// Which other members each member may depend on, for its tests too.
const MAY_KNOW: [(&str, &[&str]); 6] = [
    ("protocol", &[]),
    ("common", &[]),
    ("comet", &["common", "protocol"]),
    ("logic-stub", &["common", "protocol"]),
    ("standalone", &["comet", "common", "logic-stub", "protocol"]),
    ("bench", &["protocol"]),
];

/// Words that must not occur in files of comet, with the reason.
const MUST_NOT_SAY: [(&str, &[&str], &str); 6] = [
    (
        "comet/src/transport",
        &["bucket::", "room::"],
        "a door does not know who is where",
    ),
    (
        "comet/src/session.rs",
        SOCKETS,
        "what a connection may do next needs no I/O",
    ),
    (
        "comet/src/room.rs",
        SOCKETS,
        "rooms know connections by their channels",
    ),
    (
        "comet/src/bucket",
        SOCKETS,
        "buckets know connections by their channels",
    ),
    (
        "comet/src/channel",
        &["axum", "tonic"],
        "a channel knows a socket and nobody's protocol",
    ),
    (
        "protocol/src",
        &["tokio::", "std::net", "Instant"],
        "the protocol has no I/O and no clock",
    ),
];

const SOCKETS: &[&str] = &["std::net", "tokio::net", "axum", "tonic"];

#[test]
fn every_key_is_listed_with_its_default() {
    let document = read("docs/configuration.md");
    check_keys::<comet::Config>(&section(&document, "## comet"), true);
    check_keys::<logic_stub::Config>(&section(&document, "## logic-stub"), true);
    let standalone = section(&document, "## comet-standalone");
    check_keys::<standalone::Config>(&standalone, false);
    let listed = listed_keys(&standalone);
    for key in common::config::keys::<standalone::Config>() {
        let of_a_service = key.starts_with("comet.") || key.starts_with("logic.");
        assert!(
            of_a_service || listed.contains_key(&key),
            "{key} is not listed"
        );
    }
}

#[test]
fn keys_without_effect_are_listed_with_their_reason() {
    let document = read("docs/configuration.md");
    for (heading, spec) in [
        ("## comet", comet::config::SPEC),
        ("## logic-stub", logic_stub::config::SPEC),
    ] {
        let section = section(&document, heading);
        for (key, _) in spec.ignored {
            assert!(
                section.contains(&format!("`{key}`")),
                "{heading}: {key} is not listed"
            );
        }
        for (variable, key) in spec.plain_env {
            let row = section
                .lines()
                .find(|line| line.starts_with(&format!("| `{variable}` |")));
            let row = row.unwrap_or_else(|| panic!("{heading}: {variable} is not listed"));
            assert!(
                row.contains(&format!("`{key}`")),
                "{heading}: {variable} sets {key}"
            );
        }
    }
}

#[test]
fn the_example_files_are_good() {
    let document = read("docs/configuration.md");
    let load = |text: &str, name: &str| {
        let file = std::env::temp_dir().join(format!("documents-{}-{name}", std::process::id()));
        fs::write(&file, text).unwrap();
        let sources = common::config::Sources {
            file: Some(file.clone()),
            ..Default::default()
        };
        let warnings = match name {
            "comet.toml" => common::config::load::<comet::Config>(&comet::config::SPEC, &sources)
                .map(|loaded| loaded.warnings),
            "logic.toml" => {
                common::config::load::<logic_stub::Config>(&logic_stub::config::SPEC, &sources)
                    .map(|loaded| loaded.warnings)
            }
            other => panic!("{other}: of which program?"),
        };
        fs::remove_file(file).unwrap();
        assert_eq!(warnings.unwrap(), [""; 0], "{name}");
    };
    let examples = toml_examples(&document);
    assert_eq!(
        examples.keys().map(String::as_str).collect::<Vec<_>>(),
        ["comet.toml", "logic.toml"]
    );
    for (name, text) in examples {
        load(&text, &name);
    }
}

#[test]
fn every_close_reason_is_described() {
    let described = section(&read("docs/protocol.md"), "## How a connection ends");
    let mut found = 0;
    for file in [
        "comet/src/close.rs",
        "comet/src/transport/websocket/error.rs",
    ] {
        let source = read(file);
        let label = |line: &str| {
            let label = line.split_once("=> \"")?.1.strip_suffix("\",")?;
            let is_label = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            is_label.then(|| label.to_owned())
        };
        for label in source.lines().filter_map(label) {
            found += 1;
            let named = format!("`{label}`");
            assert!(described.contains(&named), "{named} of {file} is missing");
        }
    }
    assert!(
        found > 25,
        "only {found} reasons: are they still recognized?"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let text = without_code(&fs::read_to_string(&document).unwrap());
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(path)
            };
            let place = format!("{}: {target}", document.display());
            assert!(file.exists(), "{place} leads nowhere");
            if !anchor.is_empty() {
                let headings = anchors(&fs::read_to_string(&file).unwrap());
                assert!(
                    headings.contains(anchor),
                    "{place}: no such heading; there are {headings:?}"
                );
            }
        }
    }
    assert!(
        checked > 10,
        "only {checked} links: are they still recognized?"
    );
}

#[test]
fn crates_know_only_whom_they_may() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let may_know = BTreeMap::from(MAY_KNOW);
    assert_eq!(names, may_know.keys().copied().collect());
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(
                !names.contains(on) || may_know[name].contains(&on),
                "{name} depends on {on}, of which it must not know"
            );
        }
    }
}

#[test]
fn modules_know_only_whom_they_may() {
    for (place, words, reason) in MUST_NOT_SAY {
        let files = sources(&root().join(place));
        assert!(!files.is_empty(), "{place} is gone");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for (index, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let said = words.iter().find(|word| code.contains(**word));
                assert!(
                    said.is_none(),
                    "{}:{}: {said:?}: {reason}",
                    file.display(),
                    index + 1
                );
            }
        }
    }
}

/// The keys that a section lists exist and have the defaults that it says; with `all`, no key is missing.
fn check_keys<T: Default + Serialize>(section: &str, all: bool) {
    let listed = listed_keys(section);
    let keys = common::config::keys::<T>();
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| all && !listed.contains_key(*key))
        .collect();
    assert!(missing.is_empty(), "not listed: {missing:#?}");
    // By text: a 32-bit float keeps its short form.
    let defaults = serde_json::to_string(&T::default()).unwrap();
    let defaults: Value = serde_json::from_str(&defaults).unwrap();
    for (key, default) in listed {
        assert!(
            keys.contains(&key),
            "{key} is listed and there is no such key"
        );
        let value = key.split('.').fold(&defaults, |value, name| &value[name]);
        assert_eq!(default, value.to_string(), "the default of {key}");
    }
}

/// The rows `| `key` | `default` | ...` of a section's tables.
fn listed_keys(section: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.strip_suffix('`')?;
        let default = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((key.to_owned(), default.to_owned()))
    };
    let mut listed = BTreeMap::new();
    for (key, default) in keys_tables(section).filter_map(row) {
        let before = listed.insert(key.clone(), default);
        assert!(before.is_none(), "{key} is listed twice");
    }
    listed
}

/// The lines of the tables whose head is `| Key | Default |...`.
fn keys_tables(section: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    section.lines().filter(move |line| {
        inside = line.starts_with("| Key | Default |") || (inside && line.starts_with('|'));
        inside
    })
}

/// From a heading to the next of its level.
fn section(document: &str, heading: &str) -> String {
    let lines = document.lines().skip_while(|line| *line != heading);
    let level = heading.split(' ').next().unwrap_or_default();
    let next = format!("{level} ");
    let section: Vec<&str> = lines
        .enumerate()
        .take_while(|(index, line)| *index == 0 || !line.starts_with(&next))
        .map(|(_, line)| line)
        .collect();
    assert!(!section.is_empty(), "there is no section {heading:?}");
    section.join("\n")
}

/// The fenced examples that begin with a comment naming their file: `# comet.toml`.
fn toml_examples(document: &str) -> BTreeMap<String, String> {
    let fences = document.split("```toml\n").skip(1);
    let example = |fence: &str| {
        let text = fence.split("```").next()?;
        let name = text.lines().next()?.strip_prefix("# ")?;
        name.strip_suffix(".toml")?;
        Some((name.to_owned(), text.to_owned()))
    };
    fences.filter_map(example).collect()
}

fn documents() -> Vec<PathBuf> {
    let in_folder = |folder: PathBuf| {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let all = in_folder(root()).chain(in_folder(root().join("docs")));
    let documents: Vec<_> = all
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    assert!(documents.len() >= 7, "{documents:?}");
    documents
}

/// The text without fenced blocks and code spans, in which brackets are no links.
fn without_code(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    let plain = |line: &str| line.split('`').step_by(2).collect::<Vec<_>>().join("");
    lines.map(plain).collect::<Vec<_>>().join("\n")
}

/// Where Markdown links and HTML images lead.
fn links(text: &str) -> Vec<String> {
    let markdown = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let html = ["src=\"", "srcset=\"", "href=\""]
        .into_iter()
        .flat_map(|attribute| text.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next());
    markdown.chain(html).map(ToOwned::to_owned).collect()
}

/// The anchors that a forge makes of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// The Rust files at a path.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(folder) = fs::read_dir(path) else {
        return Vec::new();
    };
    let files = folder.flat_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path)
        } else {
            vec![path]
        }
    });
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}
