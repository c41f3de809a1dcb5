//! One loader for the configuration of all programs: a TOML file, then the environment, then `--set`.
//!
//! A configuration is a struct whose types all carry
//! `#[serde(default, deny_unknown_fields, rename_all = "camelCase")]`. The keys that exist are those of its default
//! value written as TOML, so a key must not be an `Option`: absence is an empty string, an empty list or a zero. A
//! table that is empty by default has free keys. Keys match whatever their case, as in goim's files.
//!
//! Everything that is wrong is reported at once, each line naming the key, its value, where the value came from and
//! what is allowed.

mod checks;
mod human;
mod keys;
mod layers;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{Table, Value};

pub use checks::{Checks, Validate};
pub use human::Human;
use layers::Layers;

/// What a program's configuration is called, and which foreign keys it tolerates.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The program, `comet`.
    pub program: &'static str,
    /// What its variables begin with, `COMET`: the key `tcp.sndbuf` is `COMET__TCP__SNDBUF`.
    pub env_prefix: &'static str,
    /// goim's keys that have no effect here, `tcp.reader` or a whole table `discovery`, each with the reason. One
    /// that is present is warned about and left out.
    pub ignored: &'static [(&'static str, &'static str)],
    /// The variables that goim reads and their keys here, `("REGION", "env.region")`. A prefixed variable wins over
    /// them, and an empty one counts as not set.
    pub plain_env: &'static [(&'static str, &'static str)],
}

/// Where the values come from; what comes later wins.
#[derive(Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment, names and values.
    pub env: Vec<(String, String)>,
    /// The `--set` flags, `tcp.sndbuf=8192`.
    pub set: Vec<String>,
}

impl Sources {
    /// The file and flags given, with the environment of this process.
    pub fn from_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let env = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        Self { file, env, set }
    }
}

impl fmt::Debug for Sources {
    /// Leaves the environment out: it may hold secrets of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// A configuration that holds, and what its author should know about it.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The configuration; all its checks have passed.
    pub config: T,
    /// One line for each key that has no effect.
    pub warnings: Vec<String>,
}

/// Why there is no configuration. The operator is at fault, except for [`ConfigError::Defaults`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        message: String,
    },
    /// Keys or values are wrong: a line for each.
    #[error("{}", join_problems(program, problems))]
    Rejected {
        /// The program whose configuration it is.
        program: &'static str,
        /// Every problem found.
        problems: Vec<String>,
    },
    /// The program's own defaults cannot be written as TOML: a mistake in the program.
    #[error("the default configuration cannot be written as TOML: {0}")]
    Defaults(String),
}

/// Loads a configuration: the defaults, then the file, then the environment, then the flags; then checks it.
pub fn load<T>(spec: &Spec, sources: &Sources) -> Result<Loaded<T>, ConfigError>
where
    T: Default + Serialize + DeserializeOwned + Validate,
{
    let mut layers = Layers::new(spec, defaults::<T>()?);
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.clone(),
            error,
        })?;
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| ConfigError::Syntax {
                path: path.clone(),
                message: e.to_string(),
            })?;
        layers.file(path, &table);
    }
    layers.environment(&sources.env);
    for flag in &sources.set {
        layers.flag(flag);
    }
    match decode::<T>(&mut layers) {
        Some(config) if layers.problems.is_empty() => Ok(Loaded {
            config,
            warnings: layers.warnings,
        }),
        _ => Err(ConfigError::Rejected {
            program: spec.program,
            problems: layers.problems,
        }),
    }
}

/// The dotted paths of all keys, in alphabetical order within a table: what the documentation must name.
///
/// # Panics
///
/// When the defaults cannot be written as TOML.
pub fn keys<T: Default + Serialize>() -> Vec<String> {
    match defaults::<T>() {
        Ok(table) => keys::leaves(&table),
        Err(mistake) => panic!("{mistake}"),
    }
}

fn defaults<T: Default + Serialize>() -> Result<Table, ConfigError> {
    Table::try_from(T::default()).map_err(|e| ConfigError::Defaults(e.to_string()))
}

/// Reads the merged table. A value of a wrong type is reported and replaced by its default, so that all are found.
fn decode<T: DeserializeOwned + Validate>(layers: &mut Layers<'_>) -> Option<T> {
    loop {
        match serde_path_to_error::deserialize::<_, T>(Value::Table(layers.merged.clone())) {
            Ok(config) => {
                check(&config, layers);
                return Some(config);
            }
            Err(error) => {
                if !reject(layers, &error) {
                    return None;
                }
            }
        }
    }
}

/// Reports a value of a wrong type and puts another in its place; false when there is no other.
fn reject(layers: &mut Layers<'_>, error: &serde_path_to_error::Error<toml::de::Error>) -> bool {
    let path = dotted(error.path().iter());
    let expected = explain(error.inner().message());
    let Some(key) = set_key(layers, &path) else {
        let path = if path.is_empty() {
            "the configuration"
        } else {
            &path
        };
        layers.problems.push(format!("{path}: {expected}"));
        return false;
    };
    let Some(set) = layers.set.get_mut(&key) else {
        return false;
    };
    if let Some(instead) = set.instead.take() {
        keys::put(&mut layers.merged, &key, instead);
        return true;
    }
    let origin = set.origin.clone();
    let (path, value) = faulty(&layers.merged, &key, error.path().iter(), path);
    layers.problems.push(format!(
        "{path} = {} ({origin}): {expected}",
        render(&key, value)
    ));
    layers.set.remove(&key);
    match keys::get(&layers.defaults, &key).cloned() {
        Some(default) => keys::put(&mut layers.merged, &key, default),
        None => return false,
    }
    true
}

fn check<T: Validate>(config: &T, layers: &mut Layers<'_>) {
    let mut checks = Checks::default();
    config.validate(&mut checks);
    for failure in checks.failures {
        let origin = set_key(layers, &failure.key)
            .and_then(|key| layers.set.get(&key))
            .map_or_else(|| "default".into(), |set| set.origin.to_string());
        let (key, value, allowed) = (failure.key, failure.value, failure.allowed);
        layers
            .problems
            .push(format!("{key} = {value} ({origin}): expected {allowed}"));
    }
}

/// The key that was set and holds what `path` leads to: `tcp.bind` for `tcp.bind[1]`.
fn set_key(layers: &Layers<'_>, path: &str) -> Option<String> {
    let mut key = path;
    while !layers.set.contains_key(key) {
        key = &key[..key.rfind(['.', '['])?];
    }
    Some(key.into())
}

/// The value that `path` leads to and its path; the whole key where the path cannot be followed.
fn faulty<'a, 'p>(
    merged: &'a Table,
    key: &str,
    path: impl Iterator<Item = &'p Segment>,
    dotted: String,
) -> (String, &'a Value) {
    static NOTHING: Value = Value::Boolean(false);
    let root = path
        .skip(1)
        .try_fold(merged.get(first(key)), |value, segment| {
            let value = value?;
            Some(match segment {
                Segment::Map { key } => value.get(key),
                Segment::Seq { index } => value.get(*index),
                Segment::Enum { .. } | Segment::Unknown => Some(value),
            })
        });
    match root.flatten() {
        Some(value) => (dotted, value),
        None => (key.into(), keys::get(merged, key).unwrap_or(&NOTHING)),
    }
}

fn first(key: &str) -> &str {
    key.split('.').next().unwrap_or(key)
}

fn dotted<'a>(path: impl Iterator<Item = &'a Segment>) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Map { key } => text = keys::join(&text, key),
            Segment::Seq { index } => text.extend(["[", &index.to_string(), "]"]),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// What serde expected, in words: `invalid type: string "x", expected u16` is `expected an integer from 0 to 65535`.
fn explain(message: &str) -> String {
    let Some((_, expected)) = message.rsplit_once(", expected ") else {
        return message.into();
    };
    let integer = |least: i64, most: i64| format!("an integer from {least} to {most}");
    let words = match expected {
        "i8" => integer(i8::MIN.into(), i8::MAX.into()),
        "i16" => integer(i16::MIN.into(), i16::MAX.into()),
        "i32" => integer(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => integer(i64::MIN, i64::MAX),
        "u8" => integer(0, u8::MAX.into()),
        "u16" => integer(0, u16::MAX.into()),
        "u32" => integer(0, u32::MAX.into()),
        // TOML has no integers above i64's.
        "u64" | "usize" => integer(0, i64::MAX),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        text if text.starts_with("struct ") => "a table".into(),
        text => text.into(),
    };
    format!("expected {words}")
}

/// A value as TOML has it, cut to a length that a line of a log can bear; secrets are hidden.
fn render(key: &str, value: &Value) -> String {
    const MOST: usize = 80;
    if is_secret(key) {
        return "(hidden)".into();
    }
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Whether a key's name says that its value must not appear in a log.
fn is_secret(key: &str) -> bool {
    let name = key.split('[').next().unwrap_or(key).to_lowercase();
    let name = name.trim_end_matches('s');
    ["secret", "password", "token"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn join_problems(program: &str, problems: &[String]) -> String {
    match problems {
        [one] => format!("the configuration of {program} is wrong: {one}"),
        all => format!(
            "the configuration of {program} is wrong in {} places:\n  {}",
            all.len(),
            all.join("\n  ")
        ),
    }
}
