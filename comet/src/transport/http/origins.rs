//! Whose pages may connect: a browser names the origin of a page in a header that the page cannot choose.

use std::str::FromStr;

use http::{HeaderMap, header, uri::Authority};
use thiserror::Error;

/// The origins whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<Pattern>);

/// What an operator may write, such as `https://example.com`; it is none. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no origin")]
pub struct NoOrigin(String);

/// One or several origins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// `*`: all, and those that cannot be told.
    Any,
    /// `null`: those that cannot be told, such as that of a page from a file.
    Opaque,
    /// What is not said may be anything.
    Named {
        scheme: Option<String>,
        host: String,
        /// Whether names below that of the host are meant, and not the host.
        below: bool,
        port: Port,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    /// None is that of a scheme which has no port.
    Is(Option<u16>),
}

impl Origins {
    /// Those of a list: `*`, `null`, `https://example.com`, `http://localhost:8080`, `https://*.example.com`; without a scheme,
    /// of any scheme, and without a port then of any port.
    pub fn parse(list: &[String]) -> Result<Self, NoOrigin> {
        let patterns = list.iter().map(|text| text.parse());
        Ok(Self(patterns.collect::<Result<_, _>>()?))
    }

    /// Whether all pages may connect.
    pub fn has_all(&self) -> bool {
        self.0.contains(&Pattern::Any)
    }

    /// Whether a request comes from a page that may connect. Programs that are no browsers name no origin, and may.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            _ if self.has_all() => true,
            (None, _) => true,
            (Some(origin), None) => self.has(origin.as_bytes()),
            // Which of two is meant?
            (Some(_), Some(_)) => false,
        }
    }

    /// Whether pages of this origin may connect.
    pub fn has(&self, origin: &[u8]) -> bool {
        let Ok(origin) = std::str::from_utf8(origin) else {
            return self.has_all();
        };
        let parts = Parts::of(origin);
        self.0.iter().any(|pattern| match pattern {
            Pattern::Any => true,
            Pattern::Opaque => origin == "null",
            Pattern::Named { .. } => parts.as_ref().is_some_and(|parts| pattern.takes(parts)),
        })
    }
}

impl Default for Origins {
    /// All.
    fn default() -> Self {
        Self(vec![Pattern::Any])
    }
}

impl Pattern {
    fn takes(&self, origin: &Parts) -> bool {
        let Self::Named {
            scheme,
            host,
            below,
            port,
        } = self
        else {
            return false;
        };
        let is_host = if *below {
            let rest = origin.host.strip_suffix(host.as_str());
            rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            origin.host == *host
        };
        is_host
            && scheme
                .as_ref()
                .is_none_or(|scheme| *scheme == origin.scheme)
            && match port {
                Port::Any => true,
                Port::Is(port) => *port == origin.port,
            }
    }
}

impl FromStr for Pattern {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let none = || NoOrigin(text.to_owned());
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Opaque),
            _ => {}
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (host, port) = host_and_port(rest).ok_or_else(none)?;
        if scheme.as_deref().is_some_and(|scheme| !is_scheme(scheme)) {
            return Err(none());
        }
        let port = match (&scheme, port) {
            (None, None) => Port::Any,
            (None, port) => Port::Is(port),
            (Some(scheme), port) => Port::Is(port.or(port_of(scheme))),
        };
        Ok(Self::Named {
            scheme,
            host,
            below,
            port,
        })
    }
}

/// An origin as a browser names it.
struct Parts {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Parts {
    fn of(origin: &str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = host_and_port(rest)?;
        let port = port.or(port_of(&scheme));
        is_scheme(&scheme).then_some(Self { scheme, host, port })
    }
}

/// The host in small letters, and its port. No wildcard is a host.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let port = authority.port_u16();
    let is_plain = !text.contains(['@', '*', '%']) && !host.is_empty();
    // A port that is none would be left out in silence.
    let is_whole = match port {
        Some(port) => text.len() == host.len() + 1 + port.to_string().len(),
        None => text == host,
    };
    (is_plain && is_whole).then(|| (host.to_ascii_lowercase(), port))
}

fn is_scheme(text: &str) -> bool {
    let is_of_a_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_of_a_scheme)
}

/// The port that a scheme has where none is named.
fn port_of(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn origins(list: &[&str]) -> Origins {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        Origins::parse(&list).unwrap()
    }

    fn check(list: &[&str], taken: &[&str], refused: &[&str]) {
        let origins = origins(list);
        for origin in taken {
            assert!(origins.has(origin.as_bytes()), "{list:?}: {origin}");
        }
        for origin in refused {
            assert!(!origins.has(origin.as_bytes()), "{list:?}: {origin}");
        }
    }

    #[test]
    fn an_origin_is_taken_as_it_is_written() {
        check(
            &[
                "https://example.com",
                "http://localhost:8080",
                "http://[::1]",
            ],
            &[
                "https://example.com",
                "https://EXAMPLE.com:443",
                "HTTPS://example.com",
                "http://localhost:8080",
                "http://[::1]:80",
            ],
            &[
                "http://example.com",
                "https://example.com:444",
                "https://www.example.com",
                "https://example.com.evil.example",
                "https://evilexample.com",
                "https://example.com@evil.example",
                "https://example.com/",
                "http://localhost",
                "example.com",
                "null",
                "*",
                "",
            ],
        );
    }

    #[test]
    fn names_below_a_name_are_taken_by_a_star() {
        check(
            &["https://*.example.com", "*.example.org"],
            &[
                "https://a.example.com",
                "https://a.b.example.com",
                "http://a.example.org:8080",
                "https://a.example.org",
            ],
            &[
                "https://example.com",
                "https://.example.com",
                "http://a.example.com",
                "https://a.example.com:8443",
                "https://a.example.com.evil.example",
                "https://aexample.com",
                "https://example.org",
                "https://*.example.com",
            ],
        );
    }

    #[test]
    fn what_is_not_said_may_be_anything() {
        check(
            &["localhost", "example.com:8443"],
            &[
                "http://localhost",
                "https://localhost:5173",
                "capacitor://localhost",
                "https://example.com:8443",
            ],
            &["https://example.com", "http://a.localhost"],
        );
        check(
            &["capacitor://localhost"],
            &["capacitor://localhost"],
            &["http://localhost", "capacitor://localhost:1"],
        );
    }

    #[test]
    fn all_and_none_are_said() {
        check(&["*"], &["https://a.example", "null", "\u{e9}", ""], &[]);
        check(&["null"], &["null"], &["https://null", "Null"]);
        check(&[], &[], &["https://a.example", "null"]);
        assert!(Origins::default().has_all() && !origins(&["null"]).has_all());
    }

    #[test]
    fn what_is_no_origin_is_no_origin() {
        for wrong in [
            "",
            "https://",
            "://example.com",
            "https://example.com/",
            "https://example.com/sub",
            "https://user@example.com",
            "https://*",
            "*.*.example.com",
            "a.*.example.com",
            "*example.com",
            "https://example.com:https",
            "https://example.com:99999",
            "1https://example.com",
            "a b",
        ] {
            let parsed = Origins::parse(&[wrong.to_owned()]);
            assert_eq!(parsed, Err(NoOrigin(wrong.to_owned())));
        }
    }

    #[test]
    fn programs_name_no_origin() {
        let headers = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_static(origin));
            }
            headers
        };
        let one = origins(&["https://a.example"]);
        assert!(one.allow(&headers(&[])));
        assert!(one.allow(&headers(&["https://a.example"])));
        assert!(!one.allow(&headers(&["https://b.example"])));
        assert!(!one.allow(&headers(&["https://a.example", "https://b.example"])));
        assert!(!origins(&[]).allow(&headers(&["https://a.example"])));
        assert!(origins(&[]).allow(&headers(&[])));
    }
}
