//! Prints and reads numbers as JavaScript does.

use super::text::trim;

/// 2^53: below it every whole number has an exact double.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// Returns the shortest text that reads back as the same number. Minus zero prints as `0`.
pub(crate) fn print_number(n: f64) -> String {
    if n == 0.0 {
        return "0".to_owned();
    }
    // A fast path with the same result.
    if n.fract() == 0.0 && n.abs() < EXACT_BELOW {
        return (n as i64).to_string();
    }
    ryu_js::Buffer::new().format(n).to_owned()
}

/// Converts a whole number to a double. Beyond 2^53 it is rounded, as JavaScript rounds it.
#[expect(clippy::cast_precision_loss, reason = "doubles are all that JavaScript has")]
pub(crate) fn from_whole(n: i64) -> f64 {
    n as f64
}

/// Returns what `Number(text)` is in JavaScript; NaN when the text is not a number.
pub(crate) fn to_number(text: &str) -> f64 {
    let text = trim(text);
    if text.is_empty() {
        return 0.0;
    }
    for (prefixes, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)] {
        if let Some(digits) = prefixes.iter().find_map(|p| text.strip_prefix(p)) {
            return whole(digits, radix);
        }
    }
    let (sign, rest) = match text.as_bytes()[0] {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "Infinity" {
        return sign * f64::INFINITY;
    }
    // Rust's parser also accepts `inf` and `nan`, which JavaScript does not.
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if rest.starts_with(['+', '-']) || !rest.bytes().all(plain) {
        return f64::NAN;
    }
    rest.parse::<f64>().map_or(f64::NAN, |n| sign * n)
}

/// Returns the text of a number without its fraction.
pub(crate) fn truncate(n: f64) -> String {
    print_number(n.trunc())
}

fn whole(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() {
        return f64::NAN;
    }
    let digit = |c: char| c.to_digit(radix).map(f64::from);
    digits.chars().try_fold(0.0, |n, c| Some(n * f64::from(radix) + digit(c)?)).unwrap_or(f64::NAN)
}

/// Returns whether a number in JSON text has the same value as the double that was read from it.
pub(super) fn is_exact(text: &str, read: f64) -> bool {
    // Up to 15 digits always survive the way through a double.
    if text.len() <= 15 && !text.contains(['e', 'E']) {
        return true;
    }
    read.is_finite() && significant(text) == significant(&print_number(read))
}

/// Returns the digits of a number without leading and trailing zeros.
fn significant(text: &str) -> String {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}
