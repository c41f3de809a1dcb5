//! Spans of time as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A span of time, written `8s`, `10m`, `1h 30m` or `250ms`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Human(pub Duration);

impl Human {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The span as the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Human {
    fn from(span: Duration) -> Self {
        Self(span)
    }
}

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Human {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Human {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HumanVisitor)
    }
}

struct HumanVisitor;

impl Visitor<'_> for HumanVisitor {
    type Value = Human;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a time such as "250ms", "8s" or "1h 30m""#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Human, E> {
        humantime::parse_duration(text)
            .map(Human)
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["0s", "250ms", "8s", "10m", "1h 30m"] {
            let span: Human = toml::Value::from(text).try_into().unwrap();
            assert_eq!(span.to_string(), text);
            assert_eq!(
                toml::Value::try_from(span).unwrap(),
                toml::Value::from(text)
            );
        }
        assert_eq!(Human::secs(90).to_string(), "1m 30s");
        assert_eq!(Human::millis(1500).get(), Duration::from_millis(1500));
        assert_eq!(format!("{:?}", Human::secs(8)), "8s");
    }

    #[test]
    fn goims_spelling_without_a_space_is_read() {
        let span: Human = toml::Value::from("1h30m").try_into().unwrap();
        assert_eq!(span, Human::secs(5400));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in [
            toml::Value::from("soon"),
            toml::Value::from("-1s"),
            toml::Value::from(8),
        ] {
            let refused = value.try_into::<Human>().unwrap_err();
            assert!(
                refused
                    .message()
                    .ends_with(r#"expected a time such as "250ms", "8s" or "1h 30m""#),
                "{refused}"
            );
        }
    }
}
