//! Under which conditions results were measured, beside the machine's own.

use std::{path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::{million, server::ServerArgs};

/// What a run was made of. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// What the server says of itself to `--version`, if it was started for this.
    pub server: Option<String>,
    /// The commit of this tool, where the build was told it by the variable `COMET_COMMIT`.
    pub commit: Option<String>,
    /// Keys of the server's configuration that were set.
    pub set: Vec<String>,
    /// Whether the firewall tracks connections of loopback.
    pub tracked: Option<bool>,
}

impl Conditions {
    /// Those of here and now.
    pub(super) fn now(server: &ServerArgs) -> Self {
        Self {
            server: server.comet.as_deref().and_then(version),
            commit: option_env!("COMET_COMMIT").and_then(known),
            set: server.set.clone(),
            tracked: million::tracked().ok().map(|tracked| tracked.is_some()),
        }
    }

    /// In words, as sentences.
    pub(super) fn told(&self) -> String {
        let unknown = || "not known".to_owned();
        let set = match &self.set[..] {
            [] => "none".to_owned(),
            set => format!("`{}`", set.join("`, `")),
        };
        let tracked = match self.tracked {
            Some(true) => "tracks these connections, which every packet pays for",
            Some(false) => "does not track these connections",
            None => "may or may not track these connections",
        };
        format!(
            "The server: {}; settings that differ from its own: {set}. The tool's commit: {}. nf_conntrack {tracked}.",
            self.server.clone().unwrap_or_else(unknown),
            self.commit.clone().unwrap_or_else(unknown),
        )
    }
}

fn version(server: &Path) -> Option<String> {
    let output = Command::new(server).arg("--version").output().ok()?;
    known(&String::from_utf8_lossy(&output.stdout))
}

fn known(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_in_words() {
        let unknown = Conditions::default().told();
        assert!(
            unknown.starts_with("The server: not known; settings that differ from its own: none.")
        );
        let all = Conditions {
            server: known("comet 1.0.0 (commit abc)\n"),
            commit: known(" "),
            set: vec!["a=1".to_owned(), "b=2".to_owned()],
            tracked: Some(false),
        };
        let told = all.told();
        assert!(told.contains("comet 1.0.0 (commit abc); "), "{told}");
        assert!(told.contains("`a=1`, `b=2`"), "{told}");
        assert!(
            told.contains("commit: not known. nf_conntrack does not track"),
            "{told}"
        );
    }
}
