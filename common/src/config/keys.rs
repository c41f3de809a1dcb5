//! Which keys exist: the dotted paths of a default configuration, and their names in the environment.

use toml::{Table, Value};

/// What a path leads to in the default configuration.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A value; also a table that is empty by default, whose keys are free.
    Leaf,
    /// A table of known keys.
    Table(&'a Table),
}

/// The child `name` of a table, with its name as it is written there. Case does not count, as in goim's files.
pub(super) fn child<'a>(table: &'a Table, name: &str) -> Option<(&'a str, Node<'a>)> {
    let exact = table.get_key_value(name);
    let (key, value) =
        exact.or_else(|| table.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))?;
    Some((key, node(value)))
}

/// The dotted paths of all leaves, in the table's order.
pub(super) fn leaves(defaults: &Table) -> Vec<String> {
    let mut found = Vec::new();
    walk(defaults, "", &mut |path, node| {
        if matches!(node, Node::Leaf) {
            found.push(path);
        }
    });
    found
}

/// The dotted paths of all tables of known keys.
pub(super) fn tables(defaults: &Table) -> Vec<String> {
    let mut found = Vec::new();
    walk(defaults, "", &mut |path, node| {
        if matches!(node, Node::Table(_)) {
            found.push(path);
        }
    });
    found
}

/// The value at a dotted path, exactly as written.
pub(super) fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((first, rest)) => get(table.get(first)?.as_table()?, rest),
        None => table.get(path),
    }
}

/// Puts a value at a dotted path; tables on the way are made.
pub(super) fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        Some((first, rest)) => {
            let below = table
                .entry(first)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                put(below, rest, value);
            }
        }
        None => {
            table.insert(path.into(), value);
        }
    }
}

/// `tcp` and `sndbuf` joined to `tcp.sndbuf`; nothing precedes a key of the root.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.into()
    } else {
        format!("{table}.{key}")
    }
}

/// The variable of a key: `protocol.handshakeTimeout` is `COMET__PROTOCOL__HANDSHAKE_TIMEOUT`.
///
/// The double underscore is deliberate: Kubernetes puts `COMET_PORT` and the like into the environment of every pod.
pub(super) fn variable(prefix: &str, path: &str) -> String {
    let mut name = String::from(prefix);
    for segment in path.split('.') {
        name.push_str("__");
        let chars: Vec<char> = segment.chars().collect();
        for (i, c) in chars.iter().enumerate() {
            let after_small = i > 0 && !chars[i - 1].is_uppercase() && chars[i - 1] != '_';
            let before_small = i > 0 && chars.get(i + 1).is_some_and(|next| next.is_lowercase());
            if c.is_uppercase() && (after_small || before_small) {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
    }
    name
}

fn node(value: &Value) -> Node<'_> {
    match value {
        Value::Table(table) if !table.is_empty() => Node::Table(table),
        _ => Node::Leaf,
    }
}

fn walk(table: &Table, path: &str, visit: &mut impl FnMut(String, Node<'_>)) {
    for (key, value) in table {
        let path = join(path, key);
        visit(path.clone(), node(value));
        if let Node::Table(below) = node(value) {
            walk(below, &path, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_split_camel_case() {
        let name = |path| variable("COMET", path);
        assert_eq!(name("tcp.sndbuf"), "COMET__TCP__SNDBUF");
        assert_eq!(
            name("protocol.handshakeTimeout"),
            "COMET__PROTOCOL__HANDSHAKE_TIMEOUT"
        );
        assert_eq!(
            name("push.allowUnauthenticated"),
            "COMET__PUSH__ALLOW_UNAUTHENTICATED"
        );
        assert_eq!(name("a.roomIDLimit"), "COMET__A__ROOM_ID_LIMIT");
        assert_eq!(name("a.http2Only"), "COMET__A__HTTP2_ONLY");
        assert_eq!(name("debug"), "COMET__DEBUG");
    }

    #[test]
    fn empty_values_are_leaves() {
        let table: Table = "a = []\nb = ''\n[c]\n[d]\ne = 1\n[d.f]\ng = 2"
            .parse()
            .unwrap();
        assert_eq!(leaves(&table), ["a", "b", "c", "d.e", "d.f.g"]);
        assert_eq!(tables(&table), ["d", "d.f"]);
    }

    #[test]
    fn values_are_put_and_got_by_path() {
        let mut table = Table::new();
        put(&mut table, "a.b.c", Value::from(1));
        put(&mut table, "a.d", Value::from(2));
        assert_eq!(get(&table, "a.b.c"), Some(&Value::from(1)));
        assert_eq!(get(&table, "a.d"), Some(&Value::from(2)));
        assert_eq!(get(&table, "a.d.e"), None);
    }

    #[test]
    fn children_are_found_whatever_their_case() {
        let table: Table = "whiteLog = ''".parse().unwrap();
        assert_eq!(child(&table, "WhiteLog").unwrap().0, "whiteLog");
        assert!(child(&table, "white").is_none());
    }
}
