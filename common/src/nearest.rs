//! What somebody who wrote a name that does not exist may have meant.

/// At most three of `known` that resemble `wanted`, the nearest first; case does not count.
///
/// A name with the same last segment (`sndbuf` in `tcp.sndbuf` and in `COMET__TCP__SNDBUF`) counts as near.
pub(crate) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = known
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = distance(&wanted, &lower);
            let same_end = last_segment(&wanted) == last_segment(&lower);
            (distance <= limit || same_end).then_some((distance, name))
        })
        .collect();
    near.sort_unstable();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name).collect()
}

fn last_segment(name: &str) -> &str {
    let name = name.rsplit('.').next().unwrap_or(name);
    name.rsplit("__").next().unwrap_or(name)
}

/// Levenshtein's distance: insertions, deletions and replacements between two texts.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_char) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b_char) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a_char != *b_char);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("info", "inffo"), 1);
    }

    #[test]
    fn nearest_finds_typing_errors_and_misplaced_keys() {
        let known = ["tcp.sndbuf", "tcp.rcvbuf", "bucket.size"];
        assert_eq!(nearest("tcp.sndbuff", known.into_iter()), ["tcp.sndbuf"]);
        assert_eq!(nearest("SIZE", known.into_iter()), ["bucket.size"]);
        assert!(nearest("elephant", known.into_iter()).is_empty());
    }
}
