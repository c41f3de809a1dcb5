//! A session as Redis has it: goim's string with the server's name, and JSON beside it with what goim does not know.

use redis::{FromRedisValue, ParsingError, Value};
use serde::{Deserialize, Serialize};

use crate::sessions::{Client, Connection, Holder, Session};

/// A session that the store holds, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: Holder,
    /// Whose it is; unknown when goim's logic wrote the session.
    pub(super) mid: Option<i64>,
    pub(super) client: Client,
}

/// What stands beside goim's string. It goes for the server that it names and no other: goim's logic changes its string
/// without knowing of this.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    server: String,
    /// As text: scripts know no integers of 64 bits.
    mid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    connection: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    door: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    platform: String,
}

/// The JSON that stands beside the string of `session`.
pub(super) fn beside(session: &Session) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Beside {
        server: session.holder.server.as_ref().to_owned(),
        mid: session.mid.to_string(),
        connection: connection(&session.holder),
        door: session.client.door.clone(),
        address: session.client.address.clone(),
        platform: session.client.platform.clone(),
    })
}

/// The holder's connection as text that sorts like it; empty when there is none.
pub(super) fn connection(holder: &Holder) -> String {
    holder
        .connection
        .map(|Connection { epoch, id }| format!("{epoch:016x}{id:016x}"))
        .unwrap_or_default()
}

/// An epoch as text that sorts like it.
pub(super) fn epoch(epoch: u64) -> String {
    format!("{epoch:016x}")
}

/// The answer to `MGET key_<key> {key_<key>}session`. What is not readable counts as absent.
pub(super) struct Pair(pub(super) Option<Record>);

impl FromRedisValue for Pair {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (server, beside): (Option<Vec<u8>>, Option<Vec<u8>>) = redis::from_redis_value(value)?;
        Ok(Self(
            server.and_then(|server| record(server, beside.as_deref())),
        ))
    }
}

fn record(server: Vec<u8>, beside: Option<&[u8]>) -> Option<Record> {
    let server = String::from_utf8(server).ok()?;
    let beside: Option<Beside> = beside
        .and_then(|beside| serde_json::from_slice(beside).ok())
        .filter(|beside: &Beside| beside.server == server);
    let server = server.into();
    Some(match beside {
        Some(beside) => Record {
            holder: Holder {
                server,
                connection: parse_connection(&beside.connection),
            },
            mid: beside.mid.parse().ok(),
            client: Client {
                door: beside.door,
                address: beside.address,
                platform: beside.platform,
            },
        },
        None => Record {
            holder: Holder {
                server,
                connection: None,
            },
            mid: None,
            client: Client::default(),
        },
    })
}

fn parse_connection(text: &str) -> Option<Connection> {
    let (epoch, id) = text.split_at_checked(16)?;
    Some(Connection {
        epoch: u64::from_str_radix(epoch, 16).ok()?,
        id: u64::from_str_radix(id, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::contract::session;

    fn read(server: &str, beside: Option<&str>) -> Option<Record> {
        record(server.as_bytes().to_vec(), beside.map(str::as_bytes))
    }

    #[test]
    fn a_session_comes_back_as_it_was() {
        for (mid, connection) in [
            (7, Some((1, 2))),
            (-1, None),
            (i64::MIN, Some((u64::MAX, u64::MAX))),
        ] {
            let session = session(mid, "k", "a \"b\"\n", connection);
            let found = read("a \"b\"\n", Some(&beside(&session).unwrap())).unwrap();
            assert_eq!((found.mid, found.holder), (Some(mid), session.holder));
        }
    }

    #[test]
    fn what_is_beside_goes_for_its_server_alone() {
        let beside = beside(&session(7, "k", "a", Some((1, 2)))).unwrap();
        for beside in [None, Some(beside.as_str()), Some("{"), Some("")] {
            let found = read("b", beside).unwrap();
            assert_eq!((found.mid, found.holder.connection), (None, None));
        }
    }

    #[test]
    fn later_connections_sort_later() {
        let text = |pair| connection(&session(1, "k", "a", Some(pair)).holder);
        let pairs = [(1, 9), (1, 10), (2, 0), (16, 1), (u64::MAX, 0)];
        assert!(pairs.map(text).is_sorted());
    }
}
