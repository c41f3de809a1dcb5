//! Lays the file, the environment and the flags over the default configuration, remembering where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::keys::{self, Node, join};
use super::{Spec, value};
use crate::nearest::nearest;

/// Where a value came from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// A value that replaces a default.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) origin: Origin,
    /// What to take when the key does not want the value that was read first.
    pub(super) instead: Option<Value>,
}

/// The configuration while it is put together.
pub(super) struct Layers<'a> {
    spec: &'a Spec,
    pub(super) defaults: Table,
    /// The defaults with everything laid over them so far.
    pub(super) merged: Table,
    /// The leaves that are not defaults.
    pub(super) set: BTreeMap<String, Set>,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(spec: &'a Spec, defaults: Table) -> Self {
        let merged = defaults.clone();
        Self {
            spec,
            defaults,
            merged,
            set: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Lays the tables of a file over what is there.
    pub(super) fn file(&mut self, path: &Path, table: &Table) {
        let defaults = self.defaults.clone();
        self.overlay(table, Some(&defaults), "", &Origin::File(path.into()));
    }

    /// Lays the environment over what is there: first the variables that goim reads, then those with the prefix.
    pub(super) fn environment(&mut self, variables: &[(String, String)]) {
        for (name, key) in self.spec.plain_env {
            // To goim an empty variable is one that is not set.
            if let Some((_, text)) = variables
                .iter()
                .find(|(n, text)| n == name && !text.is_empty())
            {
                self.leaf_text(key, text, Origin::Variable((*name).into()));
            }
        }
        let prefix = format!("{}__", self.spec.env_prefix);
        let known: Vec<String> = keys::leaves(&self.defaults);
        for (name, text) in variables
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
        {
            let origin = Origin::Variable(name.clone());
            match known
                .iter()
                .find(|key| keys::variable(self.spec.env_prefix, key) == *name)
            {
                Some(key) => self.leaf_text(key, text, origin),
                None => self.unknown_variable(name, &known, &origin),
            }
        }
    }

    /// Lays one `key=value` of the command line over what is there.
    pub(super) fn flag(&mut self, text: &str) {
        let Some((path, text)) = text.split_once('=') else {
            self.problems.push(format!(
                "--set {text}: expected key=value, as in --set tcp.sndbuf=8192"
            ));
            return;
        };
        let path = path.trim();
        let origin = Origin::Flag(path.into());
        let defaults = self.defaults.clone();
        if let Some(key) = find_leaf(&defaults, path) {
            self.leaf_text(&key, text, origin);
        } else {
            let mut table = Table::new();
            keys::put(&mut table, path, value::parse(text, None).value);
            self.overlay(&table, Some(&defaults), "", &origin);
        }
    }

    /// Takes the text of a variable or a flag for a leaf.
    fn leaf_text(&mut self, key: &str, text: &str, origin: Origin) {
        let parsed = value::parse(text, keys::get(&self.defaults, key));
        self.take(
            key,
            parsed.value,
            Set {
                origin,
                instead: parsed.instead,
            },
        );
    }

    fn take(&mut self, key: &str, value: Value, set: Set) {
        keys::put(&mut self.merged, key, value);
        self.set.insert(key.into(), set);
    }

    /// `defaults` is the table of known keys at `path`; none means that only ignored keys are expected there.
    fn overlay(&mut self, table: &Table, defaults: Option<&Table>, path: &str, origin: &Origin) {
        for (name, value) in table {
            let written = join(path, name);
            if let Some((_, why)) = self
                .spec
                .ignored
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(&written))
            {
                self.warnings
                    .push(format!("{written} ({origin}) has no effect here: {why}"));
                continue;
            }
            match (defaults.and_then(|table| keys::child(table, name)), value) {
                (Some((known, Node::Table(below))), Value::Table(value)) => {
                    self.overlay(value, Some(below), &join(path, known), origin);
                }
                (Some((known, Node::Table(below))), value) => {
                    let value = super::render(&join(path, known), value);
                    self.problems.push(format!(
                        "{written} = {value} ({origin}): expected a table of {}",
                        list(below)
                    ));
                }
                (Some((known, Node::Leaf)), value) => {
                    self.leaf(&join(path, known), &written, value, origin);
                }
                (None, Value::Table(value)) if self.has_ignored_below(&written) => {
                    self.overlay(value, None, &written, origin);
                }
                (None, value) => self.unknown_key(&written, value, path, origin),
            }
        }
    }

    fn leaf(&mut self, key: &str, written: &str, value: &Value, origin: &Origin) {
        let twice = self
            .set
            .get(key)
            .is_some_and(|set| matches!(set.origin, Origin::File(_)));
        if twice && matches!(origin, Origin::File(_)) {
            self.problems.push(format!(
                "{written} ({origin}): given twice, in different case"
            ));
            return;
        }
        let mut value = value.clone();
        // A table whose keys are free grows with each layer.
        if let (Value::Table(new), Some(Value::Table(old))) =
            (&mut value, keys::get(&self.merged, key))
        {
            let added = std::mem::replace(new, old.clone());
            new.extend(added);
        }
        self.take(
            key,
            value,
            Set {
                origin: origin.clone(),
                instead: None,
            },
        );
    }

    fn has_ignored_below(&self, path: &str) -> bool {
        self.spec.ignored.iter().any(|(key, _)| {
            key.len() > path.len()
                && key.as_bytes()[path.len()] == b'.'
                && key[..path.len()].eq_ignore_ascii_case(path)
        })
    }

    fn unknown_key(&mut self, written: &str, value: &Value, path: &str, origin: &Origin) {
        let (kind, known) = match value {
            Value::Table(_) => ("table", keys::tables(&self.defaults)),
            _ => ("key", keys::leaves(&self.defaults)),
        };
        let near = nearest(written, known.iter().map(String::as_str));
        let help = if near.is_empty() {
            match keys::get(&self.defaults, path).and_then(Value::as_table) {
                Some(table) => format!("{path} has {}", list(table)),
                None => format!("there are {}", list(&self.defaults)),
            }
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        self.problems
            .push(format!("{written} ({origin}): no such {kind}; {help}"));
    }

    fn unknown_variable(&mut self, name: &str, known: &[String], origin: &Origin) {
        let prefix = self.spec.env_prefix;
        let ignored = self.spec.ignored.iter().find(|(key, _)| {
            let variable = keys::variable(prefix, key);
            name == variable
                || name
                    .strip_prefix(&variable)
                    .is_some_and(|rest| rest.starts_with("__"))
        });
        if let Some((key, why)) = ignored {
            self.warnings
                .push(format!("{key} ({origin}) has no effect here: {why}"));
            return;
        }
        let variables: Vec<String> = known
            .iter()
            .map(|key| keys::variable(prefix, key))
            .collect();
        let near = nearest(name, variables.iter().map(String::as_str));
        let table = name.rsplit_once("__").map_or("", |(table, _)| table);
        let siblings: Vec<&str> = variables
            .iter()
            .map(String::as_str)
            .filter(|v| is_in(v, table))
            .collect();
        let help = match (near.is_empty(), table == prefix || siblings.is_empty()) {
            (false, _) => format!("did you mean {}?", near.join(" or ")),
            (true, false) => format!("there are {}", siblings.join(", ")),
            (true, true) => format!("there are {}", self.root_variables().join(", ")),
        };
        self.problems
            .push(format!("{name} (environment): no such key; {help}"));
    }

    fn root_variables(&self) -> Vec<String> {
        let variable = |key| keys::variable(self.spec.env_prefix, key);
        let root = self.defaults.iter().map(|(key, value)| match value {
            Value::Table(table) if !table.is_empty() => format!("{}__*", variable(key)),
            _ => variable(key),
        });
        root.collect()
    }
}

/// Whether a variable is that of a key of this table itself.
fn is_in(variable: &str, table: &str) -> bool {
    variable
        .rsplit_once("__")
        .is_some_and(|(of, _)| of == table)
}

/// The path of a leaf as it is written in the defaults.
fn find_leaf(defaults: &Table, path: &str) -> Option<String> {
    let mut table = defaults;
    let mut found = String::new();
    for segment in path.split('.') {
        let (known, node) = keys::child(table, segment)?;
        found = join(&found, known);
        match node {
            Node::Table(below) => table = below,
            Node::Leaf => return found.eq_ignore_ascii_case(path).then_some(found),
        }
    }
    None
}

fn list(table: &Table) -> String {
    table
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}
