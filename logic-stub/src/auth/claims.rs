//! What a token whose signature is good says of a client.

use protocol::Token;
use serde_json::{Map, Value};

use super::Refused;
use crate::config;

/// Reads the claims of these names. All but the user may be missing or null.
pub(super) fn read(claims: &Map<String, Value>, names: &config::Claims) -> Result<Token, Refused> {
    let mid = claim(claims, &names.mid).ok_or_else(|| wrong(&names.mid, "is missing"))?;
    Ok(Token {
        mid: number(mid).ok_or_else(|| wrong(&names.mid, "is no integer"))?,
        key: text(claims, &names.key)?,
        room_id: text(claims, &names.room_id)?,
        platform: text(claims, &names.platform)?,
        accepts: operations(claims, &names.accepts)?,
    })
}

/// The claim of a name, if there is one.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let value = claims.get(name).filter(|_| !name.is_empty())?;
    (!value.is_null()).then_some(value)
}

/// An integer, as a number or as text.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<String, Refused> {
    match claim(claims, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(wrong(name, "is no text")),
    }
}

fn operations(claims: &Map<String, Value>, name: &str) -> Result<Vec<i32>, Refused> {
    let Some(value) = claim(claims, name) else {
        return Ok(Vec::new());
    };
    let operation = |value: &Value| i32::try_from(value.as_i64()?).ok();
    let list = value.as_array();
    let operations = list.and_then(|list| list.iter().map(operation).collect());
    operations.ok_or_else(|| wrong(name, "is no list of operations"))
}

fn wrong(name: &str, why: &str) -> Refused {
    Refused::Claim(format!("{name} {why}"))
}
