//! Durations as arguments have them.

/// Seconds in a text such as `90s`, `15m`, `2h` or `1d`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        other => return Err(format!("{other:?} is not a unit; use s, m, h or d")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a duration"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
