//! Logins with signed tokens, as a comet calls for them.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use logic_stub::{Config, config::AuthMode};
use protocol::grpc::goim::logic::ConnectReply;
use serde_json::{Value, json};
use support::{
    Running, TempFile, config,
    jwt::{Signer, b64, set, time},
    start, within,
};
use tonic::{Code, Status};

const SECRET: &str = "a secret of no less than 32 bytes";

fn jwt(file: &TempFile) -> Config {
    let mut config = config();
    config.auth.mode = AuthMode::Jwt;
    config.auth.jwks_file = file.path();
    config
}

/// The claims of user 7, for the next hour.
fn claims() -> Value {
    json!({
        "mid": 7, "key": "k", "room_id": "live://1", "platform": "web", "accepts": [1000],
        "exp": time(3600),
    })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

async fn log_in(logic: &Running, token: &str) -> Result<ConnectReply, Status> {
    within(logic.connect("a", token)).await
}

/// A token is refused with words for the client, and counted.
async fn is_refused(logic: &Running, token: &str, reason: &'static str, words: &str) {
    let counter = logic.metrics().refused_logins(reason);
    let before = counter.get();
    let refused = log_in(logic, token).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::PermissionDenied, words),
        "{token}"
    );
    assert_eq!(counter.get(), before + 1, "{reason}");
}

const ALGORITHM: &str = "the token is signed by an algorithm that is not taken";
const UNKNOWN: &str = "the token is signed by an unknown key";
const SIGNATURE: &str = "the token's signature is wrong";
const EXPIRED: &str = "the token has expired";

#[tokio::test]
async fn who_shows_a_good_token_is_whom_it_names() {
    let signers = [
        Signer::hs256("h", SECRET),
        Signer::rs256("r"),
        Signer::es256("e"),
        Signer::eddsa("d"),
    ];
    let file = TempFile::new("good", &set(&signers.each_ref()));
    let logic = start(jwt(&file));
    for signer in &signers {
        let named = signer.sign(&claims());
        // Without an id, and with an id alone.
        let bare = signer.sign_as(&json!({"alg": signer.algorithm}), &claims());
        for token in [named, bare] {
            let reply = log_in(&logic, &token).await.unwrap();
            assert_eq!(
                (reply.mid, reply.key.as_str(), reply.room_id.as_str()),
                (7, "k", "live://1"),
                "{}",
                signer.algorithm
            );
            assert_eq!(reply.accepts, [1000]);
        }
    }
    // The least that a token may say.
    let least = json!({"mid": "8", "exp": time(60)});
    let reply = log_in(&logic, &signers[0].sign(&least)).await.unwrap();
    assert_eq!((reply.mid, reply.room_id.as_str()), (8, ""));
    assert!(uuid::Uuid::parse_str(&reply.key).is_ok(), "{}", reply.key);
}

#[tokio::test]
async fn nobody_comes_in_by_a_token_that_the_key_has_not_signed() {
    let (rsa, edwards) = (Signer::rs256("r"), Signer::eddsa("d"));
    let file = TempFile::new("forged", &set(&[&rsa, &edwards]));
    let logic = start(jwt(&file));
    let good = rsa.sign(&claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();

    // Nobody has signed it.
    let none = b64(r#"{"alg":"none","kid":"r"}"#);
    for token in [
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
    ] {
        is_refused(&logic, &token, "algorithm", ALGORITHM).await;
    }
    is_refused(&logic, &format!("{head}.{body}."), "signature", SIGNATURE).await;

    // The public key taken for a secret, in each form in which it is known.
    let jwk = rsa.jwk();
    for secret in [
        jwk.to_string(),
        jwk["n"].to_string(),
        set(&[&rsa, &edwards]),
    ] {
        let forged = Signer::hs256("r", &secret).sign(&claims());
        is_refused(&logic, &forged, "algorithm", ALGORITHM).await;
    }
    // The other key's id and the other way round.
    let head_of_edwards = json!({"alg": "RS256", "kid": "d"});
    let token = rsa.sign_as(&head_of_edwards, &claims());
    is_refused(&logic, &token, "algorithm", ALGORITHM).await;
    let token = edwards.sign_as(&json!({"alg": "RS256", "kid": "r"}), &claims());
    is_refused(&logic, &token, "signature", SIGNATURE).await;

    // Another key, under the same id, under its own, and under none.
    let other = Signer::rs256("r");
    is_refused(&logic, &other.sign(&claims()), "signature", SIGNATURE).await;
    let other = Signer::rs256("x");
    is_refused(&logic, &other.sign(&claims()), "unknown_key", UNKNOWN).await;
    let token = other.sign_as(&json!({"alg": "RS256"}), &claims());
    is_refused(&logic, &token, "signature", SIGNATURE).await;

    // Another user in the claims.
    let stolen = b64(with("mid", 8).to_string());
    let token = format!("{head}.{stolen}.{signature}");
    is_refused(&logic, &token, "signature", SIGNATURE).await;
    // goim's open token.
    let open = r#"{"mid":7,"key":"k"}"#;
    is_refused(&logic, open, "malformed", "the token is no JWT").await;
    log_in(&logic, &good).await.unwrap();
}

#[tokio::test]
async fn a_token_counts_in_its_time() {
    let signer = Signer::es256("e");
    let file = TempFile::new("times", &set(&[&signer]));
    let mut config = jwt(&file);
    config.auth.leeway = common::config::Human::secs(100);
    let logic = start(config.clone());
    let sign = |name, value| signer.sign(&with(name, value));
    log_in(&logic, &sign("exp", time(-50))).await.unwrap();
    is_refused(&logic, &sign("exp", time(-200)), "expired", EXPIRED).await;
    is_refused(&logic, &sign("exp", 0), "expired", EXPIRED).await;
    log_in(&logic, &sign("nbf", time(50))).await.unwrap();
    let early = "the token is not valid yet";
    is_refused(&logic, &sign("nbf", time(200)), "not_yet_valid", early).await;
    let missing = "the token's exp is missing";
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    is_refused(&logic, &signer.sign(&endless), "claim", missing).await;

    config.auth.require_exp = false;
    let logic = start(config);
    log_in(&logic, &signer.sign(&endless)).await.unwrap();
    is_refused(&logic, &sign("exp", time(-200)), "expired", EXPIRED).await;
    for odd in [json!(time(3600).to_string()), json!(null), json!(-1)] {
        let token = signer.sign(&with("exp", odd));
        is_refused(&logic, &token, "claim", "the token's exp is no time").await;
    }
    let token = signer.sign(&with("nbf", json!(1e30)));
    is_refused(&logic, &token, "claim", "the token's nbf is no time").await;
}

#[tokio::test]
async fn a_token_is_for_this_service_from_this_issuer() {
    let signer = Signer::eddsa("d");
    let file = TempFile::new("audience", &set(&[&signer]));
    let both = |audience: Value, issuer: Value| {
        let mut claims = claims();
        claims["aud"] = audience;
        claims["iss"] = issuer;
        signer.sign(&claims)
    };
    let mut config = jwt(&file);
    config.auth.audience = vec!["push".to_owned(), "chat".to_owned()];
    config.auth.issuer = vec!["https://id.example.com".to_owned()];
    let logic = start(config);
    let id = || json!("https://id.example.com");
    log_in(&logic, &both(json!("push"), id())).await.unwrap();
    let several = both(json!(["shop", "chat"]), id());
    log_in(&logic, &several).await.unwrap();
    let other = "the token is for another service";
    is_refused(&logic, &both(json!("shop"), id()), "audience", other).await;
    is_refused(&logic, &both(json!(["shop"]), id()), "audience", other).await;
    let evil = both(json!("push"), json!("https://id.example.com.evil"));
    let words = "the token is from another issuer";
    is_refused(&logic, &evil, "issuer", words).await;
    for lacking in [both(Value::Null, id()), both(json!("push"), Value::Null)] {
        let refused = log_in(&logic, &lacking).await.unwrap_err();
        assert!(refused.message().contains("is missing"), "{refused}");
    }

    // Without an audience, this service is none that a token could name.
    let logic = start(jwt(&file));
    is_refused(&logic, &both(json!("push"), id()), "audience", other).await;
    log_in(&logic, &both(Value::Null, id())).await.unwrap();
}

#[tokio::test]
async fn what_is_too_much_is_refused() {
    let signer = Signer::hs256("h", SECRET);
    let file = TempFile::new("bounds", &set(&[&signer]));
    let mut config = jwt(&file);
    config.limits.token = 16_384;
    let logic = start(config);
    let long = |length: usize| "x".repeat(length);
    let many: Vec<i32> = (0..1_025).collect();
    for (claims, field) in [
        (with("key", long(257)), "key"),
        (with("room_id", long(257)), "room_id"),
        (with("platform", long(65)), "platform"),
        (with("accepts", many), "accepts"),
        (with("anything", long(16_384)), "token"),
    ] {
        let refused = log_in(&logic, &signer.sign(&claims)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{field}: {refused}");
    }
    assert_eq!(logic.metrics().refused_logins("limits").get(), 5);
    // A list in a list, as deep as a token can hold.
    let deep = format!("{}{}", "[".repeat(6_000), "]".repeat(6_000));
    let body = format!(r#"{{"mid":7,"exp":{},"x":{deep}}}"#, time(60));
    let head = b64(r#"{"alg":"HS256"}"#);
    let message = format!("{head}.{}", b64(body));
    let token = signer.seal(&message);
    is_refused(&logic, &token, "malformed", "the token is no JWT").await;
}

#[tokio::test]
async fn every_changed_byte_is_noticed() {
    let signer = Signer::hs256("h", SECRET);
    let file = TempFile::new("bytes", &set(&[&signer]));
    let logic = start(jwt(&file));
    let good = signer.sign(&claims()).into_bytes();
    let last = good.len() - 1;
    for place in 0..last {
        for change in [1, 2, 0x20] {
            let mut token = good.clone();
            token[place] ^= change;
            if let Ok(token) = std::str::from_utf8(&token) {
                let refused = log_in(&logic, token).await.unwrap_err();
                assert_eq!(refused.code(), Code::PermissionDenied, "{token}");
            }
        }
        let cut = std::str::from_utf8(&good[..place]).unwrap();
        assert!(log_in(&logic, cut).await.is_err(), "{cut}");
    }
    log_in(&logic, std::str::from_utf8(&good).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_are_replaced_without_a_restart() {
    let (old, new) = (Signer::es256("old"), Signer::eddsa("new"));
    let file = TempFile::new("rotation", &set(&[&old]));
    let logic = start(jwt(&file));
    let comes_in = async |signer: &Signer| log_in(&logic, &signer.sign(&claims())).await.is_ok();
    let becomes = async |signer, wanted| {
        within(async {
            while comes_in(signer).await != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    assert!(comes_in(&old).await && !comes_in(&new).await);
    file.write(&set(&[&old, &new]));
    becomes(&new, true).await;
    assert!(comes_in(&old).await);
    file.write(&set(&[&new]));
    becomes(&old, false).await;
    assert!(comes_in(&new).await);
}

#[tokio::test]
async fn secrets_of_a_file_sign_under_any_id() {
    let other = "another secret of more than 32 bytes";
    let file = TempFile::new("secrets", &format!("# two\n{SECRET}\n{other}\n"));
    let mut config = config();
    config.auth.mode = AuthMode::Jwt;
    config.auth.secret_file = file.path();
    config.auth.claims.mid = "sub".to_owned();
    let logic = start(config);
    let claims = json!({"sub": "42", "mid": 7, "exp": time(60)});
    for (id, secret) in [("a", SECRET), ("b", other)] {
        let token = Signer::hs256(id, secret).sign(&claims);
        assert_eq!(log_in(&logic, &token).await.unwrap().mid, 42);
    }
    let token = Signer::hs256("a", "a third secret of more than 32 bytes").sign(&claims);
    is_refused(&logic, &token, "signature", SIGNATURE).await;
    let rsa = Signer::rs256("a").sign(&claims);
    is_refused(&logic, &rsa, "algorithm", ALGORITHM).await;
}
