//! Durations as arguments have them.

/// Seconds in a text such as `90s`, `15m`, `2h` or `1d`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(invalid(text)),
    };
    let number: u64 = digits.parse().map_err(|_| invalid(text))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too long"))
}

fn invalid(text: &str) -> String {
    format!("invalid duration {text:?}; use 90s, 15m, 2h, 1d")
}

/// Where a list of records begins.
#[cfg(feature = "daemon")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// After a record.
    Seq(u64),
    /// At a time, as it was typed.
    Time(String),
}

/// Parses the number of a record, how long ago, or a time.
#[cfg(feature = "daemon")]
pub(super) fn since(text: &str) -> Result<Since, String> {
    if let Ok(seq) = text.parse() {
        return Ok(Since::Seq(seq));
    }
    if crate::format::parse_time(text).is_none() {
        return Err(format!("invalid time {text:?}; use a seq, 10m, 2h, 1d or 2026-01-31T12:00Z"));
    }
    Ok(Since::Time(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "daemon")]
    #[test]
    fn beginnings_are_numbers_ages_or_times() {
        assert_eq!(since("12"), Ok(Since::Seq(12)));
        for time in ["10m", "2h", "1d", "2026-01-31", "2026-01-31T12:00:00Z"] {
            assert_eq!(since(time), Ok(Since::Time(time.to_owned())));
        }
        for bad in ["", "x", "-1", "10 parsecs"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    /// Missing, unknown, negative and overflowing values are errors.
    #[test]
    fn duration_units_parse_to_seconds() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)]
        {
            assert_eq!(duration(text), Ok(seconds));
        }
        for bad in ["", "h", "1w", "-1s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
