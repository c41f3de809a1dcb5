//! Where Redis is.

use std::fmt;

use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    TlsCertificates,
};
use thiserror::Error;

/// What stands between the kind of place and its hosts.
const HOSTS: &str = "://";

/// One server, a master that sentinels name, or some masters of a cluster by which the others are found. Shown without its
/// password.
#[derive(Debug, Clone)]
pub enum Place {
    /// One server.
    Single(Node),
    /// Nodes of a cluster; at least one.
    Cluster(Cluster),
    /// The master that sentinels name.
    Sentinel(Sentinels),
}

/// Some nodes of a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Where they are; at least one.
    pub(super) nodes: Vec<Node>,
    /// Of TLS to all nodes, if they are not the system's.
    pub(super) certificates: Option<TlsCertificates>,
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
    /// Whether TLS is spoken with the master, as with them.
    pub(super) secure: bool,
    /// Of TLS to all of them, if they are not the system's.
    pub(super) certificates: Option<TlsCertificates>,
}

/// A server of Redis.
#[derive(Clone)]
pub struct Node(pub(super) ConnectionInfo);

/// Why a text names no place; the operator is at fault. Does not repeat the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// There are certificates and no TLS.
    #[error("certificates are of no use without TLS: rediss{HOSTS}")]
    Plain,
    /// The certificates are none.
    #[error("the certificates cannot be used: {0}")]
    Certificates(String),
    /// The text is of no known form.
    #[error(
        "expected redis{HOSTS}[[USER]:PASSWORD@]HOST:PORT[/DB], redis+cluster{HOSTS}[[USER]:PASSWORD@]HOST:PORT,HOST:PORT \
         or redis+sentinel{HOSTS}[[USER]:PASSWORD@]HOST:PORT,HOST:PORT/MASTER[/DB], with TLS rediss in the place of redis"
    )]
    Malformed,
}

impl Place {
    /// Reads `redis://host:port/db`, `redis+cluster://host:port,host:port` or `redis+sentinel://host:port,host:port/master/db`,
    /// each with `user:password@` before the first host, and `rediss` for TLS.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let (kind, rest) = text.split_once(HOSTS).ok_or(PlaceError::Malformed)?;
        let (scheme, kind) = kind.split_once('+').unwrap_or((kind, ""));
        let secure = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(PlaceError::Malformed),
        };
        match kind {
            "" => Ok(Self::Single(node(secure, rest)?)),
            "cluster" => {
                let (login, hosts) = login_and_hosts(rest);
                Ok(Self::Cluster(Cluster {
                    nodes: nodes_of(secure, &login, hosts)?,
                    certificates: None,
                }))
            }
            "sentinel" => sentinels_of(secure, rest).map(Self::Sentinel),
            _ => Err(PlaceError::Malformed),
        }
    }

    /// With authorities, or a certificate of ours, that the system does not have. Only for TLS.
    pub fn with_certificates(self, certificates: TlsCertificates) -> Result<Self, PlaceError> {
        let given = |nodes: Vec<Node>| {
            let nodes = nodes.into_iter();
            let nodes = nodes.map(|node| node.with_certificates(certificates.clone()));
            nodes.collect::<Result<Vec<_>, _>>()
        };
        Ok(match self {
            Self::Single(node) => Self::Single(node.with_certificates(certificates)?),
            Self::Cluster(cluster) => Self::Cluster(Cluster {
                nodes: given(cluster.nodes)?,
                certificates: Some(certificates),
            }),
            Self::Sentinel(sentinels) => Self::Sentinel(Sentinels {
                nodes: given(sentinels.nodes.clone())?,
                certificates: Some(certificates),
                ..sentinels
            }),
        })
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        let speaks = |node: &Node| matches!(node.0.addr(), ConnectionAddr::TcpTls { .. });
        self.nodes().iter().any(speaks)
    }

    /// The servers that it names; of sentinels, those.
    pub(super) fn nodes(&self) -> &[Node] {
        match self {
            Self::Single(node) => std::slice::from_ref(node),
            Self::Cluster(cluster) => &cluster.nodes,
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
        let Node(info) = node(false, addr)?;
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
            Self::Cluster(cluster) => fmt::Display::fmt(cluster, f),
            Self::Sentinel(sentinels) => fmt::Display::fmt(sentinels, f),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis cluster")?;
        list(&self.nodes, f)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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

fn sentinels_of(secure: bool, text: &str) -> Result<Sentinels, PlaceError> {
    let (login, rest) = login_and_hosts(text);
    let (hosts, master) = rest.split_once('/').ok_or(PlaceError::Malformed)?;
    let (master, db) = master.split_once('/').unwrap_or((master, ""));
    if master.is_empty() {
        return Err(PlaceError::Malformed);
    }
    // What the first host's URL would say.
    let first = hosts.split(',').next().unwrap_or_default();
    let Node(settings) = node(secure, &format!("{login}{}/{db}", first.trim()))?;
    Ok(Sentinels {
        nodes: nodes_of(secure, "", hosts)?,
        master: master.to_owned(),
        settings: settings.redis_settings().clone(),
        password: String::new(),
        secure,
        certificates: None,
    })
}

/// What stands before the hosts, with its `@`.
fn login_and_hosts(text: &str) -> (String, &str) {
    match text.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), text),
    }
}

fn nodes_of(secure: bool, login: &str, hosts: &str) -> Result<Vec<Node>, PlaceError> {
    let nodes = hosts.split(',');
    nodes
        .map(|host| node(secure, &format!("{login}{}", host.trim())))
        .collect()
}

/// What stands behind `redis://` in a URL of one server.
fn node(secure: bool, rest: &str) -> Result<Node, PlaceError> {
    let has_host = !rest.is_empty() && !rest.starts_with('/');
    let scheme = if secure { "rediss" } else { "redis" };
    match format!("{scheme}{HOSTS}{rest}").into_connection_info() {
        // No way around the check of who answers.
        Ok(info) if has_host && !rest.contains('#') => Ok(Node(info)),
        Ok(_) | Err(_) => Err(PlaceError::Malformed),
    }
}

impl Node {
    fn with_certificates(self, certificates: TlsCertificates) -> Result<Self, PlaceError> {
        let Self(info) = self;
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(PlaceError::Plain);
        }
        let client = Client::build_with_tls(info, certificates);
        let client = client.map_err(|error| PlaceError::Certificates(error.to_string()))?;
        Ok(Self(client.get_connection_info().clone()))
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
            ("rediss://:secret@host:1/3", "redis host:1"),
            ("rediss+cluster://:secret@a:1,b:2", "redis cluster a:1,b:2"),
            (
                "rediss+sentinel://:secret@a:1/m",
                "redis m by sentinels a:1",
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
            "redis+other://a:1",
            "rediss://a:1/#insecure",
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
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(b"none".to_vec()),
        };
        let plain = Place::parse("redis://a:1").unwrap();
        assert_eq!(
            plain.with_certificates(certificates.clone()).unwrap_err(),
            PlaceError::Plain
        );
    }
}
