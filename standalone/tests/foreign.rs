//! Clients that share no line with this project's: Python over TCP and WebSocket, the page and its client in Node.js and in
//! a real browser. `make test` installs what they need.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use crate::support::{
    Door, PATIENCE, Server,
    process::Process,
    script::{self, TESTS, passes, run},
};

/// A browser may be slow to start, and the page waits for counts that travel.
const BROWSER_PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_over_tcp() {
    let server = Server::start().await;
    python("tcp_client.py", &server, Door::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_over_websocket() {
    let has_websockets = run(script::python().args(["-c", "import websockets"]), PATIENCE).await;
    assert!(
        has_websockets.status.success(),
        "the Python package `websockets` is missing: `make test` installs it and says where by COMET_TEST_PYTHON"
    );
    let server = Server::start().await;
    python("websocket_client.py", &server, Door::WebSocket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_client_in_node() {
    let mut node = Command::new("node");
    node.args(["--test", "browser/goim.test.mjs"])
        .current_dir(TESTS);
    passes("goim.test.mjs", run(&mut node, PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_in_a_browser_survives_a_restart() {
    let mut node = Command::new("node");
    node.args(["-e", "require('playwright-core')"])
        .current_dir(Path::new(TESTS).join("browser"));
    assert!(
        run(&mut node, PATIENCE).await.status.success(),
        "the package `playwright-core` of the page's test is missing: `make test` installs it"
    );
    let control = Control::new();
    let mut process = Process::start(&["comet.logic.renew=200ms"]).await;
    let mut page = Command::new("node");
    page.arg(Path::new(TESTS).join("browser/page.mjs"))
        .arg(format!("http://{}", process.http))
        .arg(&control.0)
        .kill_on_drop(true);
    let mut testing = Box::pin(run(&mut page, BROWSER_PATIENCE));
    let output = loop {
        tokio::select! {
            output = &mut testing => break output,
            () = control.wants_restart() => {
                process = process.restart(&["comet.logic.renew=200ms"]).await;
                control.restarted();
            }
        }
    };
    passes("page.mjs", output);
    assert!(process.end().await);
}

/// The directory by which the page's test asks for a restart.
struct Control(PathBuf);

impl Control {
    fn new() -> Self {
        let name = format!("comet-page-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    async fn wants_restart(&self) {
        while fs::remove_file(self.0.join("restart")).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn restarted(&self) {
        fs::write(self.0.join("restarted"), "").unwrap();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // A directory that stays behind in the system's temporary one harms nobody.
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn python(script: &str, server: &Server, door: Door) {
    let addr = server.door(door);
    let push_api = format!("http://{}", server.push_api());
    let mut client = script::client(script);
    client.args([addr.ip().to_string(), addr.port().to_string(), push_api]);
    passes(script, run(&mut client, PATIENCE).await);
    server.closed("peer_closed", 1).await;
}
