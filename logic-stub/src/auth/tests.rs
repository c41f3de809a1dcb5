use serde_json::json;

use super::*;
use crate::config::Claims;

/// The claims of the examples in RFC 7515: of 2011, so what is right with a token but its age is expired.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// The key and the signature of each example: RFC 7515 A.1 to A.3.
fn examples() -> [(Value, &'static str, &'static str); 3] {
    [
        (
            json!({
                "kty": "oct",
                "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            }),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({
                "kty": "RSA",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql\
                      L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs\
                      LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud\
                      F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
                "e": "AQAB",
            }),
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
             F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383\
             LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy\
             wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            json!({
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ]
}

/// RFC 8037 A.4: a signature of Ed25519, of something that is no JSON.
const ED25519: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED25519_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
     hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

/// A check with the keys of this set alone.
fn check_with(keys: &[Value], token: &str) -> Result<Token, Refused> {
    let name = format!("auth-{}-{}", std::process::id(), uuid::Uuid::new_v4());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    let config = config::Auth {
        jwks_file: path.to_str().unwrap().to_owned(),
        ..config::Auth::default()
    };
    let jwt = Jwt::start(&config).unwrap();
    std::fs::remove_file(path).unwrap();
    jwt.check(token.as_bytes())
}

#[tokio::test]
async fn the_signatures_of_the_standards_are_good() {
    let every: Vec<Value> = examples().map(|(key, ..)| key).into();
    for (key, head, signature) in examples() {
        let token = format!("{head}.{CLAIMS}.{signature}");
        assert_eq!(check_with(&[key], &token), Err(Refused::Expired));
        assert_eq!(check_with(&every, &token), Err(Refused::Expired));
        // Something else in the claims, and in the signature.
        let claims = format!("{head}.f{}.{signature}", &CLAIMS[1..]);
        assert_eq!(check_with(&every, &claims), Err(Refused::Signature));
        let first = if signature.starts_with('d') { 'e' } else { 'd' };
        let other = format!("{head}.{CLAIMS}.{first}{}", &signature[1..]);
        assert_eq!(check_with(&every, &other), Err(Refused::Signature));
    }
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": ED25519});
    // Good, and no claims.
    let checked = check_with(std::slice::from_ref(&key), ED25519_TOKEN);
    assert_eq!(checked, Err(Refused::Malformed));
    let other = ED25519_TOKEN.replace(".hgyY", ".hgyZ");
    assert_eq!(check_with(&[key], &other), Err(Refused::Signature));
}

#[tokio::test]
async fn a_key_counts_for_its_own_algorithm() {
    let [(secret, hs256, _), (rsa, rs256, signature), _] = examples();
    let wanted = |key: &Value, head: &str| {
        check_with(
            std::slice::from_ref(key),
            &format!("{head}.{CLAIMS}.{signature}"),
        )
    };
    assert_eq!(wanted(&rsa, hs256), Err(Refused::Algorithm));
    assert_eq!(wanted(&secret, rs256), Err(Refused::Algorithm));
    for alg in ["none", "None", "HS512", "RS512", "PS256", "", "hs256"] {
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        for signature in ["", signature] {
            let token = format!("{head}.{CLAIMS}.{signature}");
            let refused = check_with(std::slice::from_ref(&rsa), &token);
            assert_eq!(refused, Err(Refused::Algorithm), "{alg}");
        }
    }
}

#[tokio::test]
async fn what_has_not_the_form_of_a_token_is_refused() {
    let [(key, head, signature), ..] = examples();
    let crit = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","crit":["exp"]}"#);
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","alg":"none"}"#);
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        r#"{"mid":1}"#.to_owned(),
        head.to_owned(),
        format!("{head}.{CLAIMS}"),
        format!("{head}.{CLAIMS}.{signature}.{signature}"),
        format!("{head}=.{CLAIMS}.{signature}"),
        format!("{CLAIMS}.{CLAIMS}.{signature}"),
        format!("{crit}.{CLAIMS}.{signature}"),
        format!("{twice}.{CLAIMS}.{signature}"),
        format!("{head}.{CLAIMS}.{signature}\u{e9}"),
    ] {
        let refused = check_with(std::slice::from_ref(&key), &token);
        assert_eq!(refused, Err(Refused::Malformed), "{token}");
    }
}

#[test]
fn keys_that_are_for_something_else_are_left_out() {
    let [(secret, ..), (rsa, ..), (point, ..)] = examples();
    let with = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key
    };
    let kept = |keys: &[Value]| {
        let set = json!({ "keys": keys }).to_string();
        keys::of_a_set(set.as_bytes()).map(|keys| keys.len())
    };
    assert_eq!(kept(&[secret.clone(), rsa.clone(), point.clone()]), Ok(3));
    assert_eq!(kept(&[with(&rsa, "alg", json!("RS256"))]), Ok(1));
    assert_eq!(kept(&[with(&rsa, "use", json!("sig"))]), Ok(1));
    assert_eq!(kept(&[with(&rsa, "key_ops", json!(["verify"]))]), Ok(1));
    for other in [
        with(&rsa, "alg", json!("RS512")),
        with(&rsa, "alg", json!("HS256")),
        with(&rsa, "use", json!("enc")),
        with(&rsa, "key_ops", json!(["wrapKey"])),
        with(&rsa, "n", json!("AQAB")),
        with(&rsa, "kty", json!("unheard of")),
        with(&secret, "k", json!("c2hvcnQ")),
        with(&point, "crv", json!("P-384")),
        with(&point, "crv", json!("secp256k1")),
        with(&point, "x", json!("AQAB")),
        json!({"kty": "OKP", "crv": "X25519", "x": ED25519}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}),
        json!(7),
    ] {
        assert_eq!(kept(&[other.clone(), secret.clone()]), Ok(1), "{other}");
        assert_eq!(kept(&[other]), Err("it has no key".to_owned()));
    }
    let many = vec![secret; 65];
    assert_eq!(kept(&many), Err("it has more than 64 keys".to_owned()));
    for no_set in ["", "{}", "[]", r#"{"keys":7}"#] {
        let why = keys::of_a_set(no_set.as_bytes()).unwrap_err();
        assert!(why.contains("no JSON Web Key Set"), "{why}");
    }
}

#[test]
fn secrets_are_long() {
    let long = "0123456789".repeat(4);
    let file = format!("# one\n{long}\n\n {long}x\r\n");
    assert_eq!(keys::of_secrets(file.as_bytes()).unwrap().len(), 2);
    let short = keys::of_secrets(b"# one\nopen sesame").unwrap_err();
    assert!(short.contains("line 2") && !short.contains("sesame"));
    assert!(keys::of_secrets(b"\n").unwrap_err().contains("no key"));
}

#[test]
fn claims_are_what_their_names_say() {
    let names = Claims {
        mid: "sub".to_owned(),
        room_id: "https://example.com/room".to_owned(),
        platform: String::new(),
        ..Claims::default()
    };
    let read = |claims: Value| {
        let claims: Map<String, Value> = serde_json::from_value(claims).unwrap();
        claims::read(&claims, &names)
    };
    let full = json!({
        "sub": "42", "key": "k", "https://example.com/room": "live://1", "platform": "web", "": "x",
        "accepts": [1000, -1], "exp": 1.5, "nbf": 1,
    });
    assert_eq!(
        read(full),
        Ok(Token {
            mid: 42,
            key: "k".to_owned(),
            room_id: "live://1".to_owned(),
            platform: String::new(),
            accepts: vec![1000, -1],
        })
    );
    let least = json!({"sub": 7, "key": null, "accepts": null});
    assert_eq!(read(least).unwrap().mid, 7);
    for (claims, words) in [
        (json!({}), "the token's sub is missing"),
        (json!({"sub": null}), "the token's sub is missing"),
        (json!({"sub": "seven"}), "the token's sub is no integer"),
        (json!({"sub": 1.5}), "the token's sub is no integer"),
        (json!({"sub": u64::MAX}), "the token's sub is no integer"),
        (json!({"sub": true}), "the token's sub is no integer"),
        (json!({"sub": 1, "key": 7}), "the token's key is no text"),
        (
            json!({"sub": 1, "accepts": ["1"]}),
            "the token's accepts is no list of operations",
        ),
        (
            json!({"sub": 1, "accepts": [1_u64 << 40]}),
            "the token's accepts is no list of operations",
        ),
        (
            json!({"sub": 1, "accepts": 1000}),
            "the token's accepts is no list of operations",
        ),
    ] {
        let refused = read(claims).unwrap_err();
        assert_eq!(refused.to_string(), words);
        assert_eq!(refused.label(), "claim");
    }
}
