//! Records of the log as lines of text.

use super::terminal::printable;

/// Returns a record of the log, given as JSON, as one line of text.
#[must_use]
pub fn record(json: &serde_json::Value) -> String {
    let text = |key: &str| json.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
    let seq = json.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let mut line =
        format!("{seq:>8}  {}  {:<22} {}", text("at"), text("kind"), text("environment"));
    for key in ["path", "step", "reason", "trash", "purpose"] {
        if let Some(value) = json.get(key).and_then(|v| v.as_str()).filter(|v| !v.is_empty()) {
            line.push_str(&format!("  {key}={}", printable(value)));
        }
    }
    if let Some(fault) = json.get("fault") {
        let message = fault.get("message").and_then(|v| v.as_str()).unwrap_or_default();
        line.push_str(&format!("  {}", printable(message)));
    }
    line.push('\n');
    line
}
