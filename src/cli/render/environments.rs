//! Text for people: tables, progress steps, and errors with their causes and the next step.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::api::archives::RemainsView;
use crate::api::clean::NotMovedView;
use crate::api::contents::{EvidenceView, UsageView};
use crate::api::sweep::SweepView;
use crate::api::types::{EnvironmentView, Problem, ProcessView, RemovedView, SummaryView};
use crate::format::{age, bytes};
use crate::server::types::HostView;

/// Writes to stdout and ignores errors: a closed pipe, as from `| head`, is not a fault.
pub fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Writes a line to stderr and ignores errors.
pub fn note(text: &str) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Writes an error to stderr, with its causes, its evidence and the next step.
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

/// Returns the table of `ls`; ` *` marks a leased environment.
#[must_use]
pub fn environments(list: &[EnvironmentView]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "PHASE", "BRANCH", "CHANGES", "BASE", "AGE", "PATH"]);
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
            printable(e.known.as_ref().and_then(|k| k.branch.as_ref()).unwrap_or(&e.branch)),
            e.known.as_ref().map_or_else(|| "-".to_owned(), known),
            base.to_owned(),
            age(&e.created_at),
            printable(&e.path),
        ]);
    }
    format!("{}\n", table.trim_fmt())
}

fn known(known: &SummaryView) -> String {
    let changes = if known.clean { "clean" } else { &known.changes };
    let operation = known.operation.as_ref().map(|o| format!(" ({o})")).unwrap_or_default();
    format!("{changes}{operation}")
}

/// Returns the text of `show`: all known facts of one environment, one in a line.
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
        rows.push(("step", step.clone()));
    }
    if let Some(c) = &e.checkout {
        let why = if c.reason.is_empty() { String::new() } else { format!(" ({})", c.reason) };
        let files = if c.files > 0 { format!("{} files by ", c.files) } else { String::new() };
        rows.push(("checkout", format!("{files}{}{why}", c.by)));
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

/// Returns a table without lines, or an empty text if it has no rows. Cells are made printable.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    let mut empty = true;
    for row in rows {
        empty = false;
        table.add_row(row.map(|cell| printable(&cell)));
    }
    if empty { String::new() } else { format!("{}\n", table.trim_fmt()) }
}

/// Writes the result of a removal to stderr.
pub fn removed(r: &RemovedView) {
    match &r.trash {
        Some(trash) => {
            note(&format!(
                "{} is removed; its directory is in the trash: {}",
                r.id,
                printable(trash)
            ));
            note(&format!("`groundskeeper restore {}` brings it back", r.id));
        }
        None if r.incarnation == 0 => {
            note(&format!("there is no environment {}; nothing was removed", r.id));
        }
        None if r.phase != "tombstoned" => {
            note(&format!("{} is not removed; its phase is {}", r.id, r.phase));
        }
        None => note(&format!("{} is removed; no directory was moved to the trash", r.id)),
    }
    for rescue in &r.rescue {
        note(&format!("work that no branch has is saved under {}", printable(rescue)));
    }
    for lack in &r.lacks {
        note(&format!("saved only in the trash entry, which therefore stays: {}", printable(lack)));
    }
    for what in &r.notes {
        note(&printable(what));
    }
    if !r.branch_reason.is_empty() {
        let what = if r.branch_deleted { "deleted" } else { "kept" };
        note(&format!("its branch is {what}: {}", printable(&r.branch_reason)));
    }
    for (list, what) in [(&r.spared, "left alone"), (&r.survivors, "did not end")] {
        for p in list {
            note(&format!("process {} {} ({}) {what}", p.pid, printable(&p.name), p.why));
        }
    }
    if let Some(fault) = &r.hook {
        note(&format!("the teardown hook failed: {}", printable(&fault.message)));
        for line in &fault.evidence {
            note(&format!("  | {}", printable(line)));
        }
    }
}

/// Writes to stderr what a clean, or its undo, did not move, and why.
pub fn left_in_place(left: &[NotMovedView]) {
    for n in left {
        note(&format!("{} was left in place: {}", printable(&n.path), printable(&n.why)));
    }
}

/// Returns the table of `trash ls`.
#[must_use]
pub fn trash(list: &[RemainsView]) -> String {
    table(
        ["ID", "INCARNATION", "KIND", "REMOVED", "UNLINKED", "SIZE", "FILES", "PATH"],
        list.iter().map(|r| {
            let until = match (&r.expires_at, &r.purge) {
                (Some(time), _) => time.get(..10).unwrap_or(time).to_owned(),
                (None, Some(why)) => format!("now ({why})"),
                (None, None) if r.only_copy_of.is_empty() => "-".to_owned(),
                (None, None) => "never (only copy)".to_owned(),
            };
            [
                r.id.clone(),
                r.incarnation.to_string(),
                r.kind.clone(),
                format!("{} ago", age(&r.removed_at)),
                until,
                r.bytes.map_or_else(|| "-".to_owned(), bytes),
                r.entries.map_or_else(|| "-".to_owned(), |n| n.to_string()),
                r.trash.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Returns why a trash entry stays, with the next step: it is the only copy of work, or its unlink
/// failed. None for an entry with neither reason.
#[must_use]
pub fn stays(r: &RemainsView) -> Option<String> {
    if !r.only_copy_of.is_empty() && r.error.is_none() {
        let (id, what) = (printable(&r.id), printable(&r.only_copy_of.join("; ")));
        let size = r.bytes.map_or_else(String::new, |n| format!(", {}", bytes(n)));
        return Some(format!(
            "{id} (incarnation {}{size}) stays in the trash, the only copy of: {what}\n  \
             `groundskeeper restore {id}` brings it back; \
             `groundskeeper trash empty {id} --lose` unlinks it permanently",
            r.incarnation
        ));
    }
    let (why, path) = (r.error.as_ref()?, r.trash.as_ref()?);
    let causes: Vec<&str> =
        std::iter::once(&why.message).chain(&why.causes).map(|s| &**s).collect();
    let (causes, hint, path) = (printable(&causes.join("; ")), &why.hint, printable(path));
    let (id, life) = (printable(&r.id), r.incarnation);
    Some(format!(
        "{id} (incarnation {life}) stays in the trash: {causes}\n  {path}\n  {hint}; \
         `groundskeeper trash empty {id}` retries"
    ))
}

/// Returns the table of `host ls`.
#[must_use]
pub fn hosts(list: &[HostView]) -> String {
    table(
        ["HOST", "SESSION", "SEEN", "EPOCH", "VERSION"],
        list.iter().map(|h| {
            [
                h.id.clone(),
                if h.connected { "open" } else { "-" }.to_owned(),
                h.seen_at.as_deref().map_or_else(|| "never".into(), |t| format!("{} ago", age(t))),
                h.epoch.to_string(),
                h.version.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Returns the table of `rescue ls`.
#[must_use]
pub fn rescues(list: &[RemainsView]) -> String {
    table(
        ["ID", "INCARNATION", "REMOVED", "COMMIT", "HOLDS", "LACKS", "REF"],
        list.iter().map(|r| {
            let commit = r.commit.clone().unwrap_or_default();
            [
                r.id.clone(),
                r.incarnation.to_string(),
                format!("{} ago", age(&r.removed_at)),
                commit.get(..10).unwrap_or_default().to_owned(),
                r.holds.join(", "),
                if r.lacks.is_empty() { "-".to_owned() } else { r.lacks.join(", ") },
                r.rescue.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Returns the text of `rescue show`, with the commands that inspect and restore the rescue.
#[must_use]
pub fn rescue(r: &RemainsView) -> String {
    let reference = r.rescue.clone().unwrap_or_default();
    let mut rows = vec![
        ("id", format!("{}, incarnation {}", r.id, r.incarnation)),
        ("removed", format!("{} ({} ago)", r.removed_at, age(&r.removed_at))),
        ("repository", printable(&r.repo)),
        ("branch", printable(&r.branch)),
        ("ref", reference.clone()),
        ("commit", r.commit.clone().unwrap_or_default()),
    ];
    rows.extend(r.holds.iter().map(|h| ("holds", printable(h))));
    rows.extend(r.lacks.iter().map(|l| ("lacks", printable(l))));
    rows.extend(r.raw.iter().map(|path| ("copied", printable(path))));
    rows.extend(r.nested.iter().map(|nested| {
        let held = nested.reference.clone().unwrap_or_else(|| "copies".to_owned());
        ("repository", format!("{} is saved under {held}", printable(&nested.path)))
    }));
    if !reference.is_empty() {
        rows.push(("inspect", format!("git diff {reference}^1 {reference}")));
    }
    rows.push(("restore", format!("groundskeeper restore {}", r.id)));
    rows.iter().fold(String::new(), |text, (label, value)| text + &format!("{label:<12} {value}\n"))
}

/// Returns the table of `ps`, with what a removal does to each process.
#[must_use]
pub fn processes(list: &[ProcessView]) -> String {
    table(
        ["PID", "NAME", "REASON", "AT REMOVAL"],
        list.iter().map(|p| {
            let outcome = if p.ours { "ended" } else { "left alone" };
            [p.pid.to_string(), p.name.clone(), p.why.clone(), outcome.to_owned()]
        }),
    )
}

/// Returns the text of `rm --dry-run`: work at risk and users of the environment.
#[must_use]
pub fn evidence(e: &EvidenceView) -> String {
    let mut text = String::new();
    for line in &e.unsaved {
        text.push_str(&format!("{}\n", printable(line)));
    }
    for line in &e.in_use {
        text.push_str(&format!("in use: {}\n", printable(line)));
    }
    if e.unsaved.is_empty() {
        text.push_str(&format!("{} holds no work at risk\n", e.id));
    }
    text + &format!("remove it with `{}`\n", e.hint)
}

/// Returns the table of `df`; `trash` is the size of the trash in bytes.
#[must_use]
pub fn usage(list: &[UsageView], trash: u64) -> String {
    let sum = |size: fn(&UsageView) -> u64| list.iter().map(size).sum::<u64>();
    let row = |name: &str, apparent: u64, allocated: u64, rebuildable: u64| {
        [name.to_owned(), bytes(apparent), bytes(allocated), bytes(rebuildable)]
    };
    let total = row(
        "total",
        sum(|u| u.total.apparent),
        sum(|u| u.total.allocated),
        sum(|u| u.rebuildable.allocated),
    );
    let each = list
        .iter()
        .map(|u| row(&u.id, u.total.apparent, u.total.allocated, u.rebuildable.allocated));
    let trash = row("trash", trash, trash, 0);
    table(["ID", "APPARENT", "ON DISK", "REBUILDABLE"], each.chain([trash, total]))
}

/// Returns the table of `sweep`.
#[must_use]
pub fn sweep(s: &SweepView) -> String {
    table(
        ["KIND", "MANAGED", "SETTLED", "PATH", "DETAIL"],
        s.findings.iter().map(|f| {
            let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
            [f.kind.clone(), yes(f.ours), yes(f.settled), f.path.clone(), f.detail.clone()]
        }),
    )
}

/// Writes a summary of a sweep to stderr.
pub fn sweep_summary(s: &SweepView, apply: bool) {
    let ours = s.findings.iter().filter(|f| f.ours && !f.settled).count();
    if s.found == 0 {
        note("no findings");
    } else if !s.held.is_empty() {
        note(&format!("nothing was settled: {}; see --limit", s.held));
    } else if !apply && ours > 0 {
        note(&format!(
            "{ours} of {} findings are managed; `groundskeeper sweep --apply` settles them",
            s.found
        ));
    } else {
        note(&format!("{} findings, {} settled", s.found, s.settled));
    }
}

/// Returns a text from outside with control characters escaped, so that no file name can send
/// commands to the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

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

/// Progress of an operation on stderr: one line that changes on a terminal, else one line a step.
pub struct Steps {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Steps {
    /// Creates the display; with `quiet` it shows nothing.
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

    /// Shows a new step or a finding.
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

    /// Shows a line of hook output, with control characters escaped.
    pub fn output(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.quiet => {}
            None => note(&format!("  | {line}")),
        }
    }

    /// Removes the changing line from the terminal.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
