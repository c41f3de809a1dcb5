//! What `--version` says.

use std::sync::LazyLock;

/// The version, and the commit where the build was told it by the variable `COMET_COMMIT`.
pub fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| text(option_env!("COMET_COMMIT")));
    &TEXT
}

fn text(commit: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match commit.map(str::trim) {
        None | Some("") => version.to_owned(),
        Some(commit) => format!("{version} (commit {commit})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_not_known_is_left_out() {
        let alone = env!("CARGO_PKG_VERSION");
        assert_eq!(text(None), alone);
        assert_eq!(text(Some("")), alone);
        assert_eq!(text(Some("abc123\n")), format!("{alone} (commit abc123)"));
    }
}
