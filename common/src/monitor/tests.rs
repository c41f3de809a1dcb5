use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::readiness::Latch;

/// A monitor with one counter and one latch.
struct Scene {
    monitoring: Monitoring,
    counter: Counter,
    latch: Latch,
    shutdown: CancellationToken,
}

impl Scene {
    fn start() -> Self {
        Self::with(&config("127.0.0.1:0"))
    }

    fn with(config: &Config<3110>) -> Self {
        let (mut registry, counter) = (Registry::default(), Counter::default());
        registry.register("pushes", "Pushes", counter.clone());
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let latch = readiness.latch("logic");
        let monitor = Monitor::bind(config).unwrap();
        let monitoring = monitor.serve(registry, readiness, "test", shutdown.clone());
        Self {
            monitoring: monitoring.unwrap(),
            counter,
            latch,
            shutdown,
        }
    }

    /// The status and the body of an answer, and its head in lower case.
    async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", path, "localhost").await
    }

    async fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String, String) {
        let asking = async {
            let mut socket = TcpStream::connect(self.monitoring.addrs()[0])
                .await
                .unwrap();
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(Duration::from_secs(20), asking).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned(), head.to_ascii_lowercase())
    }

    async fn says(&self, path: &str, status: u16, body: &str) {
        let (found, text, _) = self.get(path).await;
        assert_eq!((found, text.as_str()), (status, body), "{path}");
    }
}

fn config(addr: &str) -> Config<3110> {
    Config {
        addrs: vec![addr.to_owned()],
        ..Config::default()
    }
}

#[tokio::test]
async fn it_says_whether_it_is_ready_and_why_not() {
    let scene = Scene::start();
    scene.says("/healthz", 200, "ok\n").await;
    scene.says("/readyz", 503, "logic: starting\n").await;
    scene.says("/monitor/ping", 500, "logic: starting\n").await;
    scene.latch.ready();
    scene.says("/readyz", 200, "ready\n").await;
    scene.says("/monitor/ping", 200, "ok").await;
    scene.latch.not_ready("no answer within 3s");
    scene.shutdown.cancel();
    let both = "logic: no answer within 3s\nshutdown: this process ends\n";
    scene.says("/readyz", 503, both).await;
    scene.says("/healthz", 200, "ok\n").await;
}

#[tokio::test]
async fn it_shows_what_is_counted_and_the_process_itself() {
    let scene = Scene::start();
    scene.counter.inc_by(7);
    let (status, text, head) = scene.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let has = |start: &str| text.lines().any(|line| line.starts_with(start));
    for start in [
        "pushes_total 7",
        "process_cpu_seconds_total ",
        "process_start_time_seconds 1",
        "comet_build_info{program=\"test\",version=\"",
    ] {
        assert!(has(start), "{start}: {text}");
    }
    #[cfg(target_os = "linux")]
    for name in [
        "virtual_memory_bytes",
        "resident_memory_bytes",
        "open_fds",
        "max_fds",
        "threads",
    ] {
        assert!(has(&format!("process_{name} ")), "{name}: {text}");
    }
}

#[tokio::test]
async fn it_takes_nothing_else() {
    let scene = Scene::start();
    assert_eq!(scene.get("/").await.0, 404);
    assert_eq!(scene.ask("POST", "/readyz", "localhost").await.0, 405);
    assert_eq!(scene.ask("GET", "/metrics", "evil.example").await.0, 403);
    let public = Config {
        allow_unauthenticated: true,
        ..config("127.0.0.1:0")
    };
    let scene = Scene::with(&public);
    assert_eq!(scene.ask("GET", "/metrics", "evil.example").await.0, 200);
}

#[tokio::test]
async fn it_listens_on_loopback_unless_it_may_more() {
    let scene = Scene::with(&config("0.0.0.0:0"));
    assert!(scene.monitoring.addrs()[0].ip().is_loopback());
    let public = Config {
        allow_unauthenticated: true,
        ..config("0.0.0.0:0")
    };
    let scene = Scene::with(&public);
    assert!(scene.monitoring.addrs()[0].ip().is_unspecified());
    let closed = Config {
        open: false,
        ..config("127.0.0.1:0")
    };
    assert!(Scene::with(&closed).monitoring.addrs().is_empty());
}

#[tokio::test]
async fn its_end_closes_its_port() {
    let scene = Scene::start();
    let addr = scene.monitoring.addrs()[0];
    scene.says("/healthz", 200, "ok\n").await;
    drop(scene);
    let closing = async { while TcpStream::connect(addr).await.is_ok() {} };
    timeout(Duration::from_secs(20), closing).await.unwrap();
}
