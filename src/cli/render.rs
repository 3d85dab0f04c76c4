//! What people see: tables, steps, errors with their causes and the next step.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::api::types::{EnvironmentView, Problem};
use crate::record::age;

/// Writes to stdout; a reader that has gone away is not an error.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Writes a line to stderr.
pub fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// An error, with its evidence, its causes and the next step.
pub fn problem(p: &Problem) {
    let mut text = format!("error: {} [{}]\n", p.message, p.code);
    for cause in &p.causes {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    for line in &p.evidence {
        text.push_str(&format!("  | {line}\n"));
    }
    if !p.hint.is_empty() {
        text.push_str(&format!("hint: {}\n", p.hint));
    }
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// The table of `ls`.
#[must_use]
pub fn environments(list: &[EnvironmentView]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "PHASE", "BRANCH", "BASE", "AGE", "PATH"]);
    for e in list {
        let phase = match (&e.step, e.phase.as_str()) {
            (Some(step), "provisioning" | "tearing_down") => format!("{} ({step})", e.phase),
            _ => e.phase.clone(),
        };
        let leased = if e.leases.is_empty() { "" } else { " *" };
        let base = e.base.as_deref().map_or("-", |b| b.get(..10).unwrap_or(b));
        table.add_row([
            printable(&format!("{}{leased}", e.id)),
            phase,
            printable(&e.branch),
            base.to_owned(),
            age(&e.created_at),
            printable(&e.path),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

/// One environment in full.
#[must_use]
pub fn environment(e: &EnvironmentView) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("id", e.id.clone()),
        ("phase", e.phase.clone()),
        ("incarnation", e.incarnation.to_string()),
        ("path", printable(&e.path)),
        ("branch", printable(&e.branch)),
        ("base", e.base.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    if let Some(reference) = &e.base_ref {
        let behind = if e.behind > 0 {
            format!(", {} behind its upstream", e.behind)
        } else {
            String::new()
        };
        rows.push(("from", format!("{}{behind}", printable(reference))));
    }
    if let Some(fetch) = &e.fetch {
        rows.push(("fetch", fetch.clone()));
    }
    rows.push(("repository", printable(&e.repo)));
    rows.push(("created", format!("{} ({} ago)", e.created_at, age(&e.created_at))));
    if let Some(step) = &e.step {
        rows.push(("doing", step.clone()));
    }
    if let Some(c) = &e.checkout {
        let why = if c.reason.is_empty() { String::new() } else { format!(" ({})", c.reason) };
        rows.push(("checkout", format!("{} files by {}{why}", c.files, c.by)));
    }
    if let Some(i) = &e.included {
        let skipped = i.skipped.len();
        rows.push(("included", format!("{} files, {} bytes, {skipped} skipped", i.files, i.bytes)));
    }
    for lease in &e.leases {
        rows.push(("lease", format!("{} until {} {}", lease.id, lease.until, lease.purpose)));
    }
    for (label, text) in [("transcript", &e.transcript), ("trash", &e.trash)] {
        if let Some(text) = text {
            rows.push((label, printable(text)));
        }
    }
    for (label, p) in [("error", &e.error), ("not removed", &e.refusal)] {
        if let Some(p) = p {
            rows.push((label, format!("{} [{}]", p.message, p.code)));
            rows.extend(p.causes.iter().map(|c| ("", format!("caused by: {c}"))));
            rows.extend(p.evidence.iter().map(|l| ("", format!("| {l}"))));
        }
    }
    rows.extend(e.leftovers.iter().map(|l| ("left over", l.clone())));
    rows.iter().fold(String::new(), |text, (label, value)| text + &format!("{label:<12} {value}\n"))
}

/// Text from outside, with nothing in it that a terminal would act on.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

/// One record as a line for people.
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

/// The steps of a provision as they happen: one line that changes on a terminal, lines otherwise.
pub struct Steps {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Steps {
    /// Shows nothing when `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, quiet }
    }

    /// A step has begun or something was found.
    pub fn step(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(text.to_owned());
                bar.set_message("");
            }
            None if self.quiet => {}
            None => note(&format!("  {text}")),
        }
    }

    /// A line that a hook printed.
    pub fn output(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.quiet => {}
            None => note(&format!("  | {line}")),
        }
    }

    /// Takes the changing line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
