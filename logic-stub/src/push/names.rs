//! Lists of names for people.

use std::fmt::{self, Write as _};

/// How many names a list has before it only counts.
const MAX_NAMED: usize = 20;

/// A list for people: long ones end in a number.
#[derive(Debug)]
pub struct Names(Vec<String>);

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        Self(names)
    }
}

impl Names {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(names) = self;
        for (index, name) in names.iter().take(MAX_NAMED).enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            // The names come from pushers and clients.
            name.chars()
                .filter(|c| !c.is_control())
                .try_for_each(|c| f.write_char(c))?;
        }
        match names.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_in_a_number_and_carry_no_control_characters() {
        let names = |count: usize| Names((0..count).map(|n| n.to_string()).collect()).to_string();
        assert_eq!(names(2), "0, 1");
        assert!(names(20).ends_with("18, 19"));
        assert!(names(1_000).ends_with("18, 19 and 980 more"));
        assert_eq!(Names(vec!["a\r\nb\u{7}".to_owned()]).to_string(), "ab");
    }
}
