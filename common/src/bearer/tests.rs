use std::{path::PathBuf, time::Duration};

use super::*;

const ONE: &str = "one.token-of_sixteen~or+more/characters==";
const TWO: &str = "two.token-of_sixteen~or+more/characters==";

/// A file that goes with the test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, content: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("bearer-{name}-{}", std::process::id())));
        file.write(content);
        file
    }

    fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(
            AUTHORIZATION,
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap();
}

#[test]
fn a_list_has_one_token_a_line() {
    let list = format!("# first\n\n  {ONE}  \r\n{TWO}\n#{ONE}x\n");
    let tokens = parse(list.as_bytes()).unwrap();
    let texts: Vec<_> = tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, [ONE, TWO]);
    assert!(!format!("{tokens:?}").contains("token-of"));
    let many = format!("{ONE}\n").repeat(MAX_TOKENS + 1);
    let long = "x".repeat(MAX_LENGTH + 1);
    for (list, part) in [
        ("", "no token"),
        ("# nothing\n\n", "no token"),
        ("a.short.token.x", "line 1"),
        ("# \n0123456789 0123456789", "line 2"),
        ("0123456789\u{e9}0123456789", "line 1"),
        (long.as_str(), "line 1"),
        (many.as_str(), "more than 64"),
    ] {
        let why = parse(list.as_bytes()).unwrap_err();
        assert!(why.contains(part), "{part} is not in: {why}");
        assert!(!why.contains("0123456789"), "{why}");
    }
    assert!(parse(b"\xff").unwrap_err().contains("UTF-8"));
}

#[tokio::test]
async fn each_token_of_the_list_is_taken_and_nothing_else() {
    let file = TokenFile::new("taken", &format!("{ONE}\n{TWO}\n"));
    let tokens = Tokens::configured(file.path()).unwrap().unwrap();
    let check = |values: &[&str]| tokens.check(&headers(values));
    for good in [
        format!("Bearer {ONE}"),
        format!("bearer {TWO}"),
        format!("BEARER   {TWO} "),
    ] {
        assert_eq!(check(&[&good]), Ok(()), "{good}");
    }
    assert_eq!(check(&[]), Err(Refused::Missing));
    let basic = format!("Basic {ONE}");
    assert_eq!(check(&[&basic]), Err(Refused::Missing));
    assert_eq!(check(&[ONE]), Err(Refused::Missing));
    let good = format!("Bearer {ONE}");
    for wrong in [
        "Bearer ".to_owned(),
        format!("Bearer {}", &ONE[1..]),
        format!("Bearer {ONE}x"),
        format!("Bearer {ONE} {ONE}"),
        format!("Bearer {}", ONE.to_uppercase()),
        "Bearer \u{e9}".to_owned(),
    ] {
        assert_eq!(check(&[&wrong]), Err(Refused::Wrong), "{wrong}");
    }
    // Which of two is meant?
    assert_eq!(check(&[&good, &good]), Err(Refused::Wrong));
    assert!(Tokens::configured("").unwrap().is_none());
    assert!(Tokens::configured("/nowhere/tokens").is_err());
}

#[tokio::test]
async fn a_new_list_counts() {
    let file = TokenFile::new("rotation", &format!("{ONE}\n"));
    let tokens = Tokens::configured(file.path()).unwrap().unwrap();
    let credential = Credential::configured(file.path()).unwrap();
    let takes = |token: &str| {
        tokens
            .check(&headers(&[&format!("Bearer {token}")]))
            .is_ok()
    };
    let shows = || {
        let request = credential.request(());
        let shown = request.metadata().get("authorization").unwrap();
        shown.to_str().unwrap().to_owned()
    };
    assert_eq!(shows(), format!("Bearer {ONE}"));
    file.write(&format!("{TWO}\n{ONE}\n"));
    until(|| takes(TWO)).await;
    assert!(takes(ONE));
    until(|| shows() == format!("Bearer {TWO}")).await;
    file.write(&format!("{TWO}\n"));
    until(|| !takes(ONE)).await;
    file.write(&format!("{ONE}\n"));
    until(|| takes(ONE)).await;
    assert!(!takes(TWO));
}

#[tokio::test]
async fn whoever_has_nothing_shows_nothing() {
    let request = Credential::default().request(());
    assert!(request.metadata().is_empty());
    assert!(Credential::configured("").unwrap().0.is_none());
}

#[test]
fn only_the_guards_own_refusal_is_one() {
    assert!(is_refused(&Status::from(Refused::Missing)));
    assert!(is_refused(&Status::from(Refused::Wrong)));
    assert!(is_refused(&Status::from(Refused::NoCertificate)));
    assert!(!is_refused(&Status::unauthenticated("who are you?")));
    assert!(!is_refused(&Status::permission_denied("no")));
}
