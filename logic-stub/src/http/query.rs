//! Parameters of a request: in the query, each as often as the caller likes, as goim takes them.

use std::{borrow::Cow, convert::Infallible, str::FromStr};

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};

use protocol::RoomId;

use super::reply::Failure;
use crate::config::Config;

/// The parameters in their order. Unknown ones are ignored.
#[derive(Debug)]
pub(super) struct Query(Uri);

/// What a parameter may be.
pub(super) trait Parameter: FromStr {
    /// For those who sent something else: completes "expected ...".
    fn expected() -> String;
}

impl Parameter for String {
    fn expected() -> String {
        "a text".to_owned()
    }
}

impl Parameter for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Parameter for $integer {
            fn expected() -> String {
                format!("a whole number from {} to {}", Self::MIN, Self::MAX)
            }
        }
    )*};
}

integers!(u8 u32 i32 i64 usize);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.clone()))
    }
}

impl Query {
    /// The first value of `name`; an empty one counts as missing, as in goim.
    pub(super) fn text<'a>(&'a self, name: &'a str) -> Result<Cow<'a, str>, Failure> {
        self.values(name).next().ok_or_else(|| missing(name))
    }

    /// The first value of `name`, parsed.
    pub(super) fn number<T: Parameter>(&self, name: &str) -> Result<T, Failure> {
        parse(name, &self.text(name)?)
    }

    /// The first value of `name`, parsed, if there is one.
    pub(super) fn optional<T: Parameter>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.values(name)
            .next()
            .map(|value| parse(name, &value))
            .transpose()
    }

    /// All values of `name`, parsed: at least one and at most `max`.
    pub(super) fn list<T: Parameter>(&self, name: &str, max: usize) -> Result<Vec<T>, Failure> {
        let mut list = Vec::new();
        for value in self.values(name) {
            if list.len() == max {
                return Err(Failure::request(format!(
                    "parameter {name}: more than {max} values"
                )));
            }
            list.push(parse(name, &value)?);
        }
        if list.is_empty() {
            Err(missing(name))
        } else {
            Ok(list)
        }
    }

    /// The values of `keys`, within the bounds.
    pub(super) fn keys(&self, config: &Config) -> Result<Vec<String>, Failure> {
        let keys: Vec<String> = self.list("keys", config.http_server.max_values)?;
        let max = config.limits.key;
        if keys.iter().any(|key| key.len() > max) {
            return Err(Failure::request(format!(
                "parameter keys: one is over the limit of {max} bytes"
            )));
        }
        Ok(keys)
    }

    /// The room that `type` and `room` name, within the bounds.
    pub(super) fn room(&self, config: &Config) -> Result<RoomId, Failure> {
        let room = RoomId::new(&self.text("type")?, &self.text("room")?);
        let max = config.limits.room;
        if room.as_str().len() > max {
            return Err(Failure::request(format!(
                "parameters type and room: over the limit of {max} bytes"
            )));
        }
        Ok(room)
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        let query = self.0.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value)
    }
}

fn parse<T: Parameter>(name: &str, value: &str) -> Result<T, Failure> {
    value.parse().map_err(|_| {
        let shown: String = value.chars().filter(|c| !c.is_control()).take(64).collect();
        let expected = T::expected();
        Failure::request(format!("parameter {name}: {shown:?}, expected {expected}"))
    })
}

fn missing(name: &str) -> Failure {
    Failure::request(format!("parameter {name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query(format!("/?{text}").parse().unwrap())
    }

    #[test]
    fn parameters_repeat_and_are_decoded() {
        let query = query("keys=a&op=7&keys=b%20c&keys=&keys=d+e&keys=%C3%A4");
        assert_eq!(
            query.list::<String>("keys", 4).unwrap(),
            ["a", "b c", "d e", "ä"]
        );
        assert_eq!(query.number::<i32>("op").unwrap(), 7);
        assert_eq!(query.optional::<i32>("speed").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let query = query("op=x&big=99999999999&keys=a&keys=b&empty=");
        let cases = [
            (
                query.number::<i32>("op").unwrap_err(),
                "parameter op: \"x\", expected a whole number from -2147483648 to 2147483647",
            ),
            (
                query.number::<i32>("none").unwrap_err(),
                "parameter none is missing",
            ),
            (
                query.number::<i32>("empty").unwrap_err(),
                "parameter empty is missing",
            ),
            (
                query.list::<String>("keys", 1).unwrap_err(),
                "parameter keys: more than 1 values",
            ),
            (
                query.list::<i64>("keys", 9).unwrap_err(),
                "parameter keys: \"a\", expected a whole number from -9223372036854775808 to 9223372036854775807",
            ),
        ];
        for (error, message) in cases {
            assert_eq!(error, Failure::request(message));
        }
        assert!(query.number::<i32>("big").is_err());
    }
}
