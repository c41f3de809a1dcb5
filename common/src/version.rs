//! What `--version` says.

use std::sync::LazyLock;

/// The version alone.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// The version, and the commit where it is known.
pub fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| text(commit()));
    &TEXT
}

/// The commit, where the build was told it by the variable `COMET_COMMIT`.
pub fn commit() -> Option<&'static str> {
    known(option_env!("COMET_COMMIT"))
}

fn known(commit: Option<&str>) -> Option<&str> {
    commit.map(str::trim).filter(|commit| !commit.is_empty())
}

fn text(commit: Option<&str>) -> String {
    commit.map_or_else(
        || NUMBER.to_owned(),
        |commit| format!("{NUMBER} (commit {commit})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_not_known_is_left_out() {
        assert_eq!(text(known(None)), NUMBER);
        assert_eq!(text(known(Some(""))), NUMBER);
        let told = text(known(Some("abc123\n")));
        assert_eq!(told, format!("{NUMBER} (commit abc123)"));
    }
}
