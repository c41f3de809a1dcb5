//! Results for people and programs.

mod table;

use std::{fs, path::Path};

use anyhow::Context as _;

pub use self::table::print;
use crate::scenario::Row;

/// Writes results as JSON, to the standard output for `-`.
pub fn write_json(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(rows)?;
    if path == Path::new("-") {
        println!("{text}");
        return Ok(());
    }
    fs::write(path, text + "\n").with_context(|| path.display().to_string())
}
