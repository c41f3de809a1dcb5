//! Signed client tokens: what the key has not signed lets nobody in, and what it has signed is read or refused, whatever it is.
#![no_main]

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use libfuzzer_sys::fuzz_target;
use logic_stub::{auth::Jwt, config::Auth};
use tokio::runtime::Runtime;

const SECRET: &str = "a secret of no less than 32 bytes";

/// The check, and the runtime in which it looks at its file.
static CHECK: OnceLock<(Jwt, Runtime)> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let (jwt, _) = CHECK.get_or_init(start);
    assert!(jwt.check(input).is_err());

    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let message = format!("{head}.{}", URL_SAFE_NO_PAD.encode(input));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    if let Ok(token) = jwt.check(format!("{message}.{signature}").as_bytes()) {
        let claims: serde_json::Value = serde_json::from_slice(input).expect("claims");
        let mid = claims["mid"].as_i64();
        let text = claims["mid"].as_str().and_then(|text| text.parse().ok());
        assert_eq!(Some(token.mid), mid.or(text));
    }
});

fn start() -> (Jwt, Runtime) {
    let runtime = Runtime::new().expect("a runtime");
    let path = std::env::temp_dir().join(format!("fuzz-jwt-{}", std::process::id()));
    std::fs::write(&path, SECRET).expect("a file");
    let config = Auth {
        secret_file: path.to_str().expect("a path").to_owned(),
        require_exp: false,
        ..Auth::default()
    };
    let jwt = {
        let _in_it = runtime.enter();
        Jwt::start(&config).expect("a check")
    };
    std::fs::remove_file(path).expect("a file");
    (jwt, runtime)
}
