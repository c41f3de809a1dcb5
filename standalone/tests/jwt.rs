//! Clients that show signed tokens, through both doors.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use logic_stub::config::AuthMode;
use protocol::op;
use serde_json::{Value, json};

use crate::support::{Client, Door, Server, http, through_both_doors};

through_both_doors!(
    a_client_is_whom_its_token_names,
    a_client_without_a_good_token_is_told_why,
);

const SECRET: &str = "a secret of no less than 32 bytes";

/// A server that wants tokens which this secret has signed.
async fn start(name: &str, door: Door) -> Server {
    let name = format!("jwt-{name}-{door:?}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, SECRET).unwrap();
    let server = Server::start_with(|config| {
        config.logic.auth.mode = AuthMode::Jwt;
        let file = path.to_str().unwrap();
        file.clone_into(&mut config.logic.auth.secret_file);
    })
    .await;
    // It has been read; what is gone changes nothing.
    std::fs::remove_file(path).unwrap();
    server
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
    let server = start("named", door).await;
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

async fn a_client_without_a_good_token_is_told_why(door: Door) {
    let server = start("refused", door).await;
    let good = sign(&claims(1, 3600), SECRET);
    let (head, _) = good.rsplit_once('.').unwrap();
    let (_, body) = head.split_once('.').unwrap();
    for (token, words) in [
        (r#"{"mid":1}"#.to_owned(), "the token is no JWT"),
        // The head is {"alg":"none"}.
        (
            format!("eyJhbGciOiJub25lIn0.{body}."),
            "the token is signed by an algorithm that is not taken",
        ),
        (sign(&claims(1, -3600), SECRET), "the token has expired"),
        (
            sign(&claims(1, 3600), "another secret of 32 bytes or more"),
            "the token's signature is wrong",
        ),
    ] {
        let mut client = Client::connect(&server, door).await;
        client.send(op::AUTH, 1, token.as_bytes()).await;
        let farewell = client.ended().await;
        farewell.is("auth_refused", 1008, door);
        assert_eq!(farewell.message, words);
    }
    server.closed("auth_refused", 4).await;
    let found = http::get(server.push_api(), "/comet/sessions?mids=1").await;
    assert_eq!(found.json()["data"]["total"], 0);
}
