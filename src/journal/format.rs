//! Formats records, times, sizes and ids for users and scripts: JSON objects, RFC 3339, ages, hex.
//!
//! The API, the command line and the post-mortem tool share these forms. Nothing here reads the
//! log.

use groundskeeper_core::Time;
use groundskeeper_core::event::Record;

pub use groundskeeper_core::hex;

/// Formats a time as RFC 3339 in UTC with milliseconds; as plain nanoseconds if it is out of range.
#[must_use]
pub fn rfc3339(time: Time) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0))
        .map_or_else(|_| time.0.to_string(), |t| format!("{t:.3}"))
}

/// Parses a time as a user types it: RFC 3339, a date, a date and a time (UTC), or how long ago
/// (`2h`, `30 min`, `1d ago`). None when it is none of these.
#[must_use]
pub fn parse_time(text: &str) -> Option<Time> {
    let text = text.trim();
    let nanos = |t: jiff::Timestamp| u64::try_from(t.as_nanosecond()).ok().map(Time);
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return nanos(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return nanos(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    }
    let span = text.strip_suffix("ago").unwrap_or(text).trim();
    let span =
        jiff::SignedDuration::try_from(span.parse::<jiff::Span>().ok()?).ok().or_else(|| {
            // `jiff` gives a day no fixed length; here it is 24 hours.
            let days = span.strip_suffix('d')?.trim().parse::<i64>().ok()?;
            Some(jiff::SignedDuration::from_hours(days.checked_mul(24)?))
        })?;
    nanos(jiff::Timestamp::now().checked_sub(span.abs()).ok()?)
}

/// Returns how many seconds ago a time in RFC 3339 was; 0 when it cannot be parsed or is in the
/// future.
#[must_use]
pub fn seconds_since(time: &str) -> u64 {
    let Ok(then) = time.parse::<jiff::Timestamp>() else { return 0 };
    let seconds = jiff::Timestamp::now().duration_since(then).as_secs();
    u64::try_from(seconds).unwrap_or(0)
}

/// Returns how long ago a time in RFC 3339 was, rounded down to its largest unit; `-` when it
/// cannot be parsed.
#[must_use]
pub fn age(time: &str) -> String {
    if time.parse::<jiff::Timestamp>().is_err() {
        return "-".to_owned();
    }
    let seconds = seconds_since(time);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Formats a size in binary units with one digit after the point, rounded down.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let (mut whole, mut rest) = (count, 0);
    while whole >= 1_024 && unit + 1 < UNITS.len() {
        rest = whole % 1_024;
        whole /= 1_024;
        unit += 1;
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{} {}", rest * 10 / 1_024, UNITS[unit])
    }
}

/// Formats how long something took, in nanoseconds, with three digits.
#[must_use]
pub fn span(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0 if nanos < 1_000_000 => format!("{} us", nanos / 1_000),
        0 => format!("{} ms", nanos / 1_000_000),
        1..60 => format!("{seconds}.{} s", nanos / 100_000_000 % 10),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Formats a number with its noun.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Formats a record as one flat JSON object: position, time, kind, environment, and the members of
/// the event.
#[must_use]
pub fn json(record: &Record) -> serde_json::Value {
    let mut out = serde_json::json!({
        "seq": record.seq.0,
        "at": rfc3339(record.at),
        "boot": record.boot,
        "kind": record.event.kind(),
        "environment": record.event.environment(),
    });
    if let (Some(out), Ok(serde_json::Value::Object(payload))) =
        (out.as_object_mut(), serde_json::to_value(&record.event))
    {
        for (key, value) in payload {
            // Members of the record win over members of the event with the same name.
            out.entry(key).or_insert(value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use groundskeeper_core::event::EnvironmentReady;
    use groundskeeper_core::{EnvironmentId, Seq};

    #[test]
    fn times_parse_absolute_and_relative() {
        let time = Time(1_700_000_000_000_000_000);
        for text in ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20", "2023-11-14T23:13:20+01:00"] {
            assert_eq!(parse_time(text), Some(time), "{text}");
        }
        assert_eq!(parse_time("2023-11-14"), Some(Time(1_699_920_000_000_000_000)));
        for text in ["2h", "30 min", "1d", "1d ago", "90s ago"] {
            let found = parse_time(text).expect(text);
            assert!(found > time && found < Time(u64::MAX / 2), "{text}");
        }
        for text in ["", "soon", "12", "-"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn record_json_is_one_flat_object() {
        let environment = EnvironmentId::parse("demo").expect("an id");
        let event = EnvironmentReady { environment }.into();
        let time = Time(1_700_000_000_123_456_789);
        let record = Record { seq: Seq(7), at: time, boot: 2, event };
        let text = json(&record).to_string();
        assert_eq!(
            text,
            r#"{"at":"2023-11-14T22:13:20.123Z","boot":2,"environment":"demo","kind":"EnvironmentReady","seq":7}"#
        );
    }

    #[test]
    fn durations_format_briefly() {
        let second = 1_000_000_000;
        assert_eq!(span(512_000), "512 us");
        assert_eq!(span(1_500 * 1_000_000), "1.5 s");
        assert_eq!(span(90 * second), "1 min 30 s");
        assert_eq!(span(90_000 * second), "1 d 1 h");
    }
}
