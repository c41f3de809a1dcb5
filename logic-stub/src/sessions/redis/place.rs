//! Where Redis is.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};
use thiserror::Error;

const SINGLE: &str = "redis://";
const CLUSTER: &str = "redis+cluster://";
const SENTINEL: &str = "redis+sentinel://";

/// One server, a master that sentinels name, or some masters of a cluster by which the others are found. Shown without its
/// password.
#[derive(Debug, Clone)]
pub enum Place {
    /// One server.
    Single(Node),
    /// Nodes of a cluster; at least one.
    Cluster(Vec<Node>),
    /// The master that sentinels name.
    Sentinel(Sentinels),
}

/// Sentinels, and what they are asked for.
#[derive(Clone)]
pub struct Sentinels {
    /// Where they are; at least one.
    pub(super) nodes: Vec<Node>,
    /// Their name for the master.
    pub(super) master: String,
    /// User, password and number of the database at the master.
    pub(super) settings: RedisConnectionInfo,
    /// Of the sentinels themselves; empty where they ask for none.
    pub(super) password: String,
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
        "expected {SINGLE}[[USER]:PASSWORD@]HOST:PORT[/DB], {CLUSTER}[[USER]:PASSWORD@]HOST:PORT,HOST:PORT \
         or {SENTINEL}[[USER]:PASSWORD@]HOST:PORT,HOST:PORT/MASTER[/DB]"
    )]
    Malformed,
}

impl Place {
    /// Reads `redis://host:port/db`, `redis+cluster://host:port,host:port` or `redis+sentinel://host:port,host:port/master/db`,
    /// each with `user:password@` before the first host.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if text.starts_with("rediss") {
            return Err(PlaceError::Tls);
        }
        if text.starts_with(SINGLE) {
            return Ok(Self::Single(node(text)?));
        }
        if let Some(sentinels) = text.strip_prefix(SENTINEL) {
            return sentinels_of(sentinels).map(Self::Sentinel);
        }
        let nodes = text.strip_prefix(CLUSTER).ok_or(PlaceError::Malformed)?;
        let (login, hosts) = login_and_hosts(nodes);
        Ok(Self::Cluster(nodes_of(&login, hosts)?))
    }

    /// The servers that it names; of sentinels, those.
    pub(super) fn nodes(&self) -> &[Node] {
        match self {
            Self::Single(node) => std::slice::from_ref(node),
            Self::Cluster(nodes) => nodes,
            Self::Sentinel(sentinels) => &sentinels.nodes,
        }
    }

    /// With the password that sentinels themselves ask for; for other places nothing changes.
    #[must_use]
    pub fn with_sentinel_password(mut self, password: &str) -> Self {
        if let Self::Sentinel(sentinels) = &mut self {
            password.clone_into(&mut sentinels.password);
        }
        self
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
                list(nodes, f)
            }
            Self::Sentinel(sentinels) => fmt::Display::fmt(sentinels, f),
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis {} by sentinels", self.master)?;
        list(&self.nodes, f)
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

fn list(nodes: &[Node], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        write!(f, "{}{node}", if index == 0 { ' ' } else { ',' })?;
    }
    Ok(())
}

fn sentinels_of(text: &str) -> Result<Sentinels, PlaceError> {
    let (login, rest) = login_and_hosts(text);
    let (hosts, master) = rest.split_once('/').ok_or(PlaceError::Malformed)?;
    let (master, db) = master.split_once('/').unwrap_or((master, ""));
    if master.is_empty() {
        return Err(PlaceError::Malformed);
    }
    // What the first host's URL would say.
    let first = hosts.split(',').next().unwrap_or_default();
    let Node(settings) = node(&format!("{SINGLE}{login}{}/{db}", first.trim()))?;
    Ok(Sentinels {
        nodes: nodes_of("", hosts)?,
        master: master.to_owned(),
        settings: settings.redis_settings().clone(),
        password: String::new(),
    })
}

/// What stands before the hosts, with its `@`.
fn login_and_hosts(text: &str) -> (String, &str) {
    match text.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), text),
    }
}

fn nodes_of(login: &str, hosts: &str) -> Result<Vec<Node>, PlaceError> {
    let nodes = hosts.split(',');
    nodes
        .map(|host| node(&format!("{SINGLE}{login}{}", host.trim())))
        .collect()
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
            (
                "redis+sentinel://me:secret@a:1, b:2/mymaster/3",
                "redis mymaster by sentinels a:1,b:2",
            ),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("secret"));
        }
        let place = Place::parse("redis+sentinel://me:secret@a:1/mymaster/3").unwrap();
        let Place::Sentinel(sentinels) = place.with_sentinel_password("hush") else {
            panic!("other than sentinels");
        };
        let settings = &sentinels.settings;
        assert_eq!(
            (settings.db(), settings.username(), settings.password()),
            (3, Some("me"), Some("secret"))
        );
        assert!(!format!("{sentinels:?}").contains("hush"));
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
            "redis+sentinel://a:1",
            "redis+sentinel://a:1/",
            "redis+sentinel:///m",
            "redis+sentinel://a:1/m/db",
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
