//! Where Redis is.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo as _};
use thiserror::Error;

const SINGLE: &str = "redis://";
const CLUSTER: &str = "redis+cluster://";

/// One server, or some masters of a cluster by which the others are found. Shown without its password.
#[derive(Debug, Clone)]
pub enum Place {
    /// One server.
    Single(Node),
    /// Nodes of a cluster; at least one.
    Cluster(Vec<Node>),
}

/// A server of Redis.
#[derive(Clone)]
pub struct Node(pub(super) ConnectionInfo);

/// Why a text names no place; the operator is at fault. Does not repeat the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// TLS is asked for.
    #[error("this version speaks no TLS to Redis")]
    Tls,
    /// The text is of no known form.
    #[error(
        "expected {SINGLE}[[USER]:PASSWORD@]HOST:PORT[/DB] or {CLUSTER}[[USER]:PASSWORD@]HOST:PORT,HOST:PORT"
    )]
    Malformed,
}

impl Place {
    /// Reads `redis://host:port/db` or `redis+cluster://host:port,host:port`, either with `user:password@` before the first
    /// host.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if text.starts_with("rediss") {
            return Err(PlaceError::Tls);
        }
        if text.starts_with(SINGLE) {
            return Ok(Self::Single(node(text)?));
        }
        let nodes = text.strip_prefix(CLUSTER).ok_or(PlaceError::Malformed)?;
        let (login, hosts) = match nodes.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), nodes),
        };
        let nodes = hosts
            .split(',')
            .map(|host| node(&format!("{SINGLE}{login}{}", host.trim())));
        Ok(Self::Cluster(nodes.collect::<Result<_, _>>()?))
    }

    /// goim's way of saying it: `host:port` and perhaps a password.
    pub fn of_goim(addr: &str, password: &str) -> Result<Self, PlaceError> {
        let Node(info) = node(&format!("{SINGLE}{addr}"))?;
        if password.is_empty() {
            return Ok(Self::Single(Node(info)));
        }
        let settings = info.redis_settings().clone().set_password(password);
        Ok(Self::Single(Node(info.set_redis_settings(settings))))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(node) => write!(f, "redis {node}"),
            Self::Cluster(nodes) => {
                f.write_str("redis cluster")?;
                for (index, node) in nodes.iter().enumerate() {
                    write!(f, "{}{node}", if index == 0 { ' ' } else { ',' })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.addr(), f)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn node(url: &str) -> Result<Node, PlaceError> {
    let has_host = url
        .strip_prefix(SINGLE)
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    match url.into_connection_info() {
        Ok(info) if has_host => Ok(Node(info)),
        Ok(_) | Err(_) => Err(PlaceError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_shown_without_their_passwords() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis 127.0.0.1:6379"),
            ("redis://:secret@host:1/3", "redis host:1"),
            ("redis+cluster://a:1,b:2", "redis cluster a:1,b:2"),
            (
                "redis+cluster://me:secret@a:1, b:2",
                "redis cluster a:1,b:2",
            ),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("secret"));
        }
        let goims = Place::of_goim("127.0.0.1:6379", "a@b/c").unwrap();
        let Place::Single(Node(info)) = &goims else {
            panic!("{goims}");
        };
        assert_eq!(info.redis_settings().password(), Some("a@b/c"));
        assert_eq!(goims.to_string(), "redis 127.0.0.1:6379");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "redis://",
            "redis:///1",
            "127.0.0.1:6379",
            "http://a:1",
            "redis+cluster://",
            "redis+cluster://a:1,",
            "redis://a:port",
            "redis://a:1/db",
        ] {
            assert_eq!(
                Place::parse(text).unwrap_err(),
                PlaceError::Malformed,
                "{text}"
            );
        }
        for text in ["rediss://a:1", "rediss+cluster://a:1"] {
            assert_eq!(Place::parse(text).unwrap_err(), PlaceError::Tls);
        }
    }
}
