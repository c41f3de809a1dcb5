//! Values that come as plain text, from a variable or a flag.

use toml::Value;

/// A value read from text.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) value: Value,
    /// What to take instead when the key does not want `value`: the items of a list as strings.
    pub(super) instead: Option<Value>,
}

/// Reads `text` as a TOML value where it is one and else as a string; the key's default says what is wanted.
///
/// A string key takes the text as it is unless it is quoted; a list key also takes items separated by commas.
pub(super) fn parse(text: &str, default: Option<&Value>) -> Parsed {
    match default {
        Some(Value::String(_)) => only(string(text)),
        Some(Value::Array(items)) => list(text, items.first()),
        _ => only(any(text)),
    }
}

fn only(value: Value) -> Parsed {
    Parsed {
        value,
        instead: None,
    }
}

fn any(text: &str) -> Value {
    text.trim().parse().unwrap_or_else(|_| Value::from(text))
}

fn string(text: &str) -> Value {
    match any(text) {
        quoted @ Value::String(_) => quoted,
        _ => Value::from(text),
    }
}

fn list(text: &str, example: Option<&Value>) -> Parsed {
    if let whole @ Value::Array(_) = any(text) {
        return only(whole);
    }
    let items = || {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
    };
    let strings: Vec<Value> = items().map(string).collect();
    match example {
        Some(Value::String(_)) => only(Value::Array(strings)),
        Some(_) => only(Value::Array(items().map(any).collect())),
        // An empty default does not say what its items are.
        None => Parsed {
            value: Value::Array(items().map(any).collect()),
            instead: Some(Value::Array(strings)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(toml: &str) -> Value {
        toml.parse().unwrap()
    }

    #[test]
    fn scalars_are_toml_where_they_parse() {
        let number = value("1");
        assert_eq!(parse("8192", Some(&number)), only(Value::from(8192)));
        assert_eq!(parse(" true ", Some(&number)), only(Value::from(true)));
        assert_eq!(parse("x", Some(&number)), only(Value::from("x")));
        assert_eq!(
            parse("1\nother = 2", Some(&number)),
            only(Value::from("1\nother = 2"))
        );
        assert_eq!(parse("", Some(&number)), only(Value::from("")));
    }

    #[test]
    fn a_string_key_keeps_its_text() {
        let text = value("''");
        for raw in ["42", "true", "1979-05-27", "[1]", " a ", "", ":3101"] {
            assert_eq!(parse(raw, Some(&text)), only(Value::from(raw)));
        }
        assert_eq!(parse("\"a b\"", Some(&text)), only(Value::from("a b")));
    }

    #[test]
    fn a_list_key_takes_a_list_or_items() {
        let strings = value("[':1']");
        assert_eq!(
            parse(":3101,:3104", Some(&strings)).value,
            value("[':3101', ':3104']")
        );
        assert_eq!(parse("['a,b']", Some(&strings)).value, value("['a,b']"));
        assert_eq!(parse("3101", Some(&strings)).value, value("['3101']"));
        assert_eq!(parse("", Some(&strings)).value, value("[]"));
        assert_eq!(parse("1, 2", Some(&value("[7]"))).value, value("[1, 2]"));
        let unknown = parse("1, a", Some(&value("[]")));
        assert_eq!(unknown.value, value("[1, 'a']"));
        assert_eq!(unknown.instead, Some(value("['1', 'a']")));
    }
}
