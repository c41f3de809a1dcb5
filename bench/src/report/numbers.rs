//! Numbers as people read them.

use crate::measure::real;

/// Three digits that count.
pub(super) fn three(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.1.. => 3,
        0.01.. => 4,
        _ => 5,
    };
    format!("{value:.decimals$}")
}

/// The same, and nothing for what is not known.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, three)
}

/// A rate, without digits that mean nothing.
pub(super) fn rate(value: f64) -> String {
    match value {
        1e6.. => format!("{:.2} M", value / 1e6),
        1.0.. => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "below a million"
            )]
            let whole = value.round() as u64;
            grouped(whole)
        }
        _ => String::new(),
    }
}

/// A count with commas.
pub(super) fn grouped(count: u64) -> String {
    if count >= 10_000_000 {
        return format!("{:.1} M", real(count) / 1e6);
    }
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let texts = [0, 999, 1000, 1_234_567, 12_345_678].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567", "12.3 M"]);
        assert_eq!(
            [0.0, 1234.4, 1_500_000.0].map(rate),
            ["", "1,234", "1.50 M"]
        );
        assert_eq!(
            [0.268_09, 1.1319, 2.0, 15.44, 167.2, 0.046_68].map(three),
            ["0.268", "1.13", "2.00", "15.4", "167", "0.0467"]
        );
    }
}
