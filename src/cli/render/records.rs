//! Records of the log as lines of text.

use super::terminal::printable;

/// Returns a record of the log, given as JSON, as one line of text.
#[must_use]
pub fn record(json: &serde_json::Value) -> String {
    let text = |key: &str| json.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
    let seq = json.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let says = printable(json.get("text").and_then(|v| v.as_str()).unwrap_or_default());
    let (at, kind, env) = (text("at"), text("kind"), printable(&text("environment")));
    let line = format!("{seq:>8}  {at}  {kind:<22} {env:<16} {says}");
    let mut line = line.trim_end().to_owned();
    line.push('\n');
    line
}
