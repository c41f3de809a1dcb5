//! Users whose every step is noted: from the start, by the control API, and nobody else's.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use common::config::Human;
use logic_stub::config::FixedComet;
use protocol::{
    grpc::comet::v1::{WhitelistRequest, whitelist_request::Change},
    op,
};
use serde_json::{Value, json};

use crate::support::{
    Client, Door, SecondComet, Server,
    grpc::{comet_v1, kick, kick_keys},
    http,
    subscription::{Poller, reason},
    through_both_doors, token,
};

through_both_doors!(
    each_step_of_a_listed_user_is_noted,
    the_list_changes_while_users_are_connected,
    each_message_to_a_slow_user_has_one_end,
);

/// A server with a log of its own, which goes with the test.
struct Scene {
    server: Server,
    path: PathBuf,
}

impl Scene {
    async fn start(change: impl FnOnce(&mut standalone::Config)) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let scene = SCENES.fetch_add(1, Ordering::Relaxed);
        let name = format!("whitelist-{}-{scene}.log", std::process::id());
        let path = std::env::temp_dir().join(name);
        let server = Server::start_with(|config| {
            path.to_str()
                .unwrap()
                .clone_into(&mut config.comet.whitelist.white_log);
            change(config);
        })
        .await;
        Self { server, path }
    }

    /// What is noted so far.
    async fn lines(&self) -> Vec<Value> {
        self.server.standalone.comet.whitelist().flush().await;
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The steps so far, each with what it is about.
    async fn steps(&self) -> Vec<String> {
        self.lines().await.iter().map(step).collect()
    }

    /// Asks the control API.
    async fn control(&self, change: &str) -> Value {
        let path = format!("/comet/whitelist/{change}");
        http::post(self.server.push_api(), &path, b"").await.json()
    }

    /// Pushes and returns the message's id.
    async fn push(&self, query: &str, body: &str) -> String {
        let path = format!("/goim/push/{query}&report=1");
        let answer = http::post(self.server.push_api(), &path, body.as_bytes()).await;
        answer.json()["data"]["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_session_of_long_poll_is_noted() {
    let scene = Scene::start(|config| config.comet.whitelist.whitelist = vec![7]).await;
    let mut listed = Poller::login(&scene.server, &token(7, "listed", "live://1")).await;
    let by_key = scene
        .push("keys?operation=1000&keys=listed", "by key")
        .await;
    listed.gets("by key").await;
    listed.send(op::CHANGE_ROOM, 1, b"live://2").await;
    assert_eq!(listed.poll().await.len(), 1);
    assert_eq!(kick(&scene.server, kick_keys(&["listed"]), "").await, 1);
    assert_eq!(reason(&listed.poll().await[0]), "kicked");
    listed.has_it().await;
    scene.server.closed("kicked", 1).await;

    let lines = scene.lines().await;
    assert_eq!(lines[0]["door"], "poll");
    let expected = [
        "accept".to_owned(),
        "auth live://1".to_owned(),
        "write 1 answers".to_owned(),
        format!("write {by_key}"),
        "read change_room".to_owned(),
        "process change_room".to_owned(),
        "write 1 answers".to_owned(),
        "close kicked".to_owned(),
        "end kicked".to_owned(),
    ];
    // All that is pushed waits for a poll.
    let steps = lines.iter().map(step);
    let steps = steps.filter(|step| !step.starts_with("queue"));
    assert_eq!(steps.collect::<Vec<_>>(), expected);
}

async fn each_step_of_a_listed_user_is_noted(door: Door) {
    let scene = Scene::start(|config| config.comet.whitelist.whitelist = vec![7]).await;
    let mut other = Client::login(&scene.server, door, &token(8, "other", "live://1")).await;
    let mut listed = Client::login(&scene.server, door, &token(7, "listed", "live://1")).await;
    listed.online().await;
    let by_key = scene
        .push("keys?operation=1000&keys=listed", "by key")
        .await;
    listed.gets("by key").await;
    let unwanted = scene.push("keys?operation=99&keys=listed", "no").await;
    let to_room = scene
        .push("room?operation=1000&type=live&room=1", "room")
        .await;
    listed.gets("room").await;
    other.gets("room").await;
    listed.request(op::CHANGE_ROOM, b"live://2").await;
    listed.request(1234, b"for the application").await;
    assert_eq!(
        kick(&scene.server, kick_keys(&["listed", "other"]), "").await,
        2
    );
    listed.ended().await.is("kicked", 4002, door);
    let address = listed.socket.local_addr().unwrap();
    drop((listed, other));
    scene.server.closed("kicked", 2).await;

    let lines = scene.lines().await;
    for line in &lines {
        assert_eq!((&line["mid"], &line["key"]), (&json!(7), &json!("listed")));
        assert_eq!(line["connection"], lines[0]["connection"]);
    }
    assert_eq!(lines[0]["door"], door.label().label());
    assert_eq!(lines[0]["client"], address.to_string());
    let expected = [
        "accept".to_owned(),
        "auth live://1".to_owned(),
        "write 1 answers".to_owned(),
        "read heartbeat".to_owned(),
        "process heartbeat".to_owned(),
        "write 1 answers".to_owned(),
        format!("write {by_key}"),
        format!("drop filtered {unwanted}"),
        format!("write {to_room}"),
        "read change_room".to_owned(),
        "process change_room".to_owned(),
        "write 1 answers".to_owned(),
        "read application".to_owned(),
        "process receive".to_owned(),
        "write 1 answers".to_owned(),
        "close kicked".to_owned(),
        "end kicked".to_owned(),
    ];
    assert_eq!(lines.iter().map(step).collect::<Vec<_>>(), expected);
    assert_eq!(scene.server.standalone.comet.whitelist().connections(), 0);
}

async fn the_list_changes_while_users_are_connected(door: Door) {
    let scene = Scene::start(|_| {}).await;
    let second = SecondComet::start(&scene.server).await;
    let mut by_mid = Client::login(&scene.server, door, &token(1, "a", "")).await;
    let mut by_key = Client::login(&scene.server, door, &token(2, "b", "")).await;
    let there = second.login(door, &token(1, "c", "")).await;
    scene.push("keys?operation=1000&keys=a", "before").await;
    by_mid.gets("before").await;
    assert!(scene.lines().await.is_empty());

    let list = |mids: &[i64], keys: &[&str], connections: u32| json!({ "mids": mids, "keys": keys, "connections": connections });
    let listed = |here, there| {
        let comets = json!({ "second": there, "standalone": here });
        json!({ "code": 0, "message": "", "data": { "comets": comets, "unreached": {} } })
    };
    let answer = scene.control("add?mids=1&keys=b").await;
    let both = listed(list(&[1], &["b"], 2), list(&[1], &["b"], 1));
    assert_eq!(answer, both);
    assert_eq!(second.comet.whitelist().connections(), 1);
    let a = scene.push("keys?operation=1000&keys=a", "noted").await;
    by_mid.gets("noted").await;
    let b = scene.push("keys?operation=1000&keys=b", "noted").await;
    by_key.gets("noted").await;
    // Which of the two buckets was asked first is nobody's business.
    let mut steps = scene.steps().await;
    steps.sort_unstable();
    let mut expected = ["noted".to_owned(), "noted".to_owned()].to_vec();
    expected.extend([format!("write {a}"), format!("write {b}")]);
    expected[2..].sort_unstable();
    assert_eq!(steps, expected);

    let answer = scene.control("remove?mids=1").await;
    let one = listed(list(&[], &["b"], 1), list(&[], &["b"], 0));
    assert_eq!(answer, one);
    scene.push("keys?operation=1000&keys=a", "after").await;
    by_mid.gets("after").await;
    let shown = http::get(scene.server.push_api(), "/comet/whitelist").await;
    assert_eq!(shown.json(), one);
    let none = listed(list(&[], &[], 0), list(&[], &[], 0));
    assert_eq!(scene.control("clear").await, none);
    drop((by_mid, by_key, there));
    assert_eq!(scene.lines().await.len(), 4);
}

async fn each_message_to_a_slow_user_has_one_end(door: Door) {
    let scene = Scene::start(|config| config.comet.whitelist.keys = vec!["slow".to_owned()]).await;
    let mut slow = Client::connect_narrow(&scene.server, door).await;
    slow.auth(&token(1, "slow", "")).await;
    let body = "x".repeat(16 << 10);
    let mut pushed = Vec::new();
    for _ in 0..48 {
        pushed.push(scene.push("keys?operation=1000&keys=slow", &body).await);
    }
    kick(&scene.server, kick_keys(&["slow"]), "").await;
    slow.rest().await;
    drop(slow);
    scene.server.closed("kicked", 1).await;
    let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in scene.lines().await {
        let kind = line["step"].as_str().unwrap().to_owned();
        if kind != "queue" {
            for id in messages(&line) {
                ends.entry(id).or_default().push(kind.clone());
            }
        }
    }
    for id in &pushed {
        assert_eq!(ends[id].len(), 1, "{id}: {:?}", ends[id]);
    }
    assert_eq!(ends.len(), pushed.len());
    for kind in ["write", "drop", "lost"] {
        let of_kind = ends.values().filter(|ends| ends[0] == kind);
        assert!(of_kind.count() > 0, "{kind}: {ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said() {
    let scene = Scene::start(|config| {
        config.comet.whitelist.max = 2;
        config.logic.kick.timeout = Human::secs(60);
        config.logic.comets.fixed = vec![FixedComet {
            server: "away".to_owned(),
            grpc_address: "127.0.0.1:9".to_owned(),
            ..FixedComet::default()
        }];
    })
    .await;
    let answer = scene.control("add").await;
    let missing = "parameters mids and keys are missing";
    assert_eq!(answer, json!({ "code": -400, "message": missing }));
    let answer = scene.control("add?mids=x").await;
    assert_eq!(answer["code"], json!(-400));
    let answer = scene.control("add?mids=1&mids=2&keys=a").await;
    let refused = answer["data"]["unreached"]["standalone"].as_str().unwrap();
    assert!(refused.contains("more than 2 users and keys"), "{refused}");
    // The other comet has it, and the answer says whose list is not known.
    let answer = scene.control("add?mids=1").await;
    assert_eq!(answer["code"], json!(-500));
    assert_eq!(answer["data"]["comets"]["standalone"]["mids"], json!([1]));
    let away = answer["data"]["unreached"]["away"].as_str().unwrap();
    assert!(away.starts_with("away: "), "{away}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_changes_it_too() {
    let scene = Scene::start(|_| {}).await;
    let mut comet = comet_v1(&scene.server).await;
    let mut change = async |change, mids: &[i64]| {
        let request = WhitelistRequest {
            change,
            mids: mids.to_vec(),
            keys: Vec::new(),
        };
        comet
            .whitelist(request)
            .await
            .map(|reply| reply.into_inner().mids)
    };
    let added = change(Change::Add.into(), &[2, 1, 2]).await;
    assert_eq!(added.unwrap(), [1, 2]);
    let replaced = change(Change::Replace.into(), &[3]).await;
    assert_eq!(replaced.unwrap(), [3]);
    let asked = change(Change::None.into(), &[4]).await;
    assert_eq!(asked.unwrap(), [3]);
    let unknown = change(9, &[]).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::InvalidArgument);
}

/// A line in words.
fn step(line: &Value) -> String {
    let mut words = vec![line["step"].as_str().unwrap().to_owned()];
    for name in ["room", "operation", "what", "reason"] {
        words.extend(line[name].as_str().map(ToOwned::to_owned));
    }
    words.extend(
        line["answers"]
            .as_u64()
            .map(|count| format!("{count} answers")),
    );
    words.extend(messages(line));
    words.join(" ")
}

/// The ids of the messages that a line is about.
fn messages(line: &Value) -> Vec<String> {
    let messages = line["messages"].as_array().into_iter().flatten();
    let id = |message: &Value| {
        message["id"]
            .as_str()
            .or(message.as_str())
            .unwrap()
            .to_owned()
    };
    messages.map(id).collect()
}
