//! Tables of processes, disk space, hosts and findings of a sweep, and the lines that go with them.

use super::table::table;
use super::terminal::{note, printable};
use crate::api::contents::{EvidenceView, UsageView};
use crate::api::sweep::SweepView;
use crate::api::types::ProcessView;
use crate::format::{age, bytes};
use crate::server::types::HostView;

/// Returns the table of `host ls`.
#[must_use]
pub fn hosts(list: &[HostView]) -> String {
    table(
        ["HOST", "SESSION", "SEEN", "EPOCH", "VERSION"],
        list.iter().map(|h| {
            [
                h.id.clone(),
                session(h).to_owned(),
                h.seen_at.as_deref().map_or_else(|| "never".into(), |t| format!("{} ago", age(t))),
                h.epoch.to_string(),
                h.version.clone().unwrap_or_default(),
            ]
        }),
    )
}

/// Returns the state of a host's session; a host that told more than the server could record is
/// judged by no live set.
fn session(h: &HostView) -> &'static str {
    match (h.connected, &h.incomplete) {
        (_, Some(_)) => "incomplete",
        (true, None) => "open",
        (false, None) => "-",
    }
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
    if e.adopted {
        text.push_str(&format!("{} is adopted: its directory is never touched\n", e.id));
        return text + &format!("release it with `{}`\n", e.hint);
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
