//! Clients that show signed tokens, through every door.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use logic_stub::config::AuthMode;
use protocol::op;
use serde_json::{Value, json};
use standalone::Config;

use crate::support::{Client, Door, Doors, ENTRANCES, Server, http, through_both_doors};

through_both_doors!(a_client_is_whom_its_token_names);

const SECRET: &str = "a secret of no less than 32 bytes";

/// A file with the secret, for servers that want tokens which it has signed. It goes when they have read it.
struct Secret(PathBuf);

impl Secret {
    fn new(name: &str) -> Self {
        let name = format!("jwt-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, SECRET).unwrap();
        Self(path)
    }

    fn configure(&self, config: &mut Config) {
        config.logic.auth.mode = AuthMode::Jwt;
        let file = self.0.to_str().unwrap();
        file.clone_into(&mut config.logic.auth.secret_file);
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn claims(mid: i64, seconds: i64) -> Value {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    let now = now.map_or(0, |now: Duration| now.as_secs());
    let exp = i64::try_from(now).unwrap() + seconds;
    json!({"mid": mid, "room_id": "live://1", "accepts": [1000], "exp": exp})
}

fn sign(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

async fn a_client_is_whom_its_token_names(door: Door) {
    let secret = Secret::new(&format!("named-{door:?}"));
    let server = Server::start_with(|config| secret.configure(config)).await;
    let mut clients = Vec::new();
    for mid in [1, 2] {
        let mut client = Client::connect(&server, door).await;
        let token = sign(&claims(mid, 3600), SECRET);
        let reply = client.request(op::AUTH, token.as_bytes()).await;
        assert_eq!(reply.op, op::AUTH_REPLY, "{reply:?}");
        clients.push(client);
    }
    let api = server.push_api();
    http::push(api, "mids", "operation=1000&mids=1", "for one").await;
    http::push(api, "room", "operation=1000&type=live&room=1", "for both").await;
    let [one, two] = &mut clients[..] else {
        unreachable!()
    };
    one.gets("for one").await;
    one.gets("for both").await;
    two.gets("for both").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_good_token_is_told_why_at_every_door() {
    let secret = Secret::new("refused");
    let doors = Doors::open_with(|config| secret.configure(config)).await;
    let good = sign(&claims(1, 3600), SECRET);
    let (head, _) = good.rsplit_once('.').unwrap();
    let (_, body) = head.split_once('.').unwrap();
    let unsigned = "the token is signed by an algorithm that is not taken";
    let tokens = [
        (r#"{"mid":1}"#.to_owned(), "the token is no JWT"),
        // Their heads are {"alg":"none"}, without a signature and with one.
        (format!("eyJhbGciOiJub25lIn0.{body}."), unsigned),
        (format!("eyJhbGciOiJub25lIn0.{body}.AAAA"), unsigned),
        (sign(&claims(1, -3600), SECRET), "the token has expired"),
        (
            sign(&claims(1, 3600), "another secret of 32 bytes or more"),
            "the token's signature is wrong",
        ),
    ];
    for entrance in ENTRANCES {
        for (token, words) in &tokens {
            let told = doors.refused(entrance, token).await;
            assert_eq!(told, *words, "{entrance:?}");
        }
    }
    let refused = (ENTRANCES.len() * tokens.len()) as u64;
    doors.server.closed("auth_refused", refused).await;
    let found = http::get(doors.push_api(), "/comet/sessions?mids=1").await;
    assert_eq!(found.json()["data"]["total"], 0);
    // The doors are not merely closed.
    for entrance in ENTRANCES {
        doors.login(entrance, &good).await.has_nothing().await;
    }
}
