//! The programs of the workspace, beside this test and as new as their sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The program `comet` or `logic-stub`. A run of all tests has built both; one of this crate's alone has not.
pub fn path(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(up_to_date).join(name)
}

fn up_to_date() -> PathBuf {
    let test = env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).unwrap().to_owned();
    let fresh = ["comet", "logic-stub"]
        .iter()
        .all(|name| is_fresh(&directory.join(name)));
    if !fresh {
        let profile = match directory.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo)
            .args(["build", "-p", "comet", "-p", "logic-stub", "--bins"])
            .args(["--profile", profile])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "comet and logic-stub cannot be built");
    }
    directory
}

/// Whether a program is newer than all sources that cargo wrote down for it.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let (Some(built), Ok(listed)) = (
        changed(program),
        fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    let sources = listed.split_once(": ").map_or("", |(_, sources)| sources);
    let mut sources = sources.split_whitespace().map(Path::new).map(changed);
    sources.all(|changed| changed.is_some_and(|changed| changed <= built))
}
