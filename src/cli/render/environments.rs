//! Text about environments: the table of `ls`, the facts of `show`, the result of `rm` and `clean`.

use std::path::Path;

use super::color::{Tone, paint};
use super::fit::fit;
use super::progress::step_in_words;
use super::table::{facts, lines_of};
use super::terminal::{note, printable};
use crate::api::clean::NotMovedView;
use crate::api::types::{EnvironmentView, RemovedView, SummaryView};
use crate::format::{age, bytes, count};

/// Width of a terminal from which the base is shown, which people look at least.
const WITH_BASE: usize = 100;

/// Returns the table of `ls`; ` *` marks a leased environment. A repository is named where there is
/// more than one. At a terminal of this width lines are not wrapped: paths are cut in the middle.
#[must_use]
pub fn environments(list: &[EnvironmentView], width: Option<usize>, colored: bool) -> String {
    let has_repositories = list.iter().any(|e| Some(&e.repo) != list.first().map(|e| &e.repo));
    let header = ["ID", "PHASE", "BRANCH", "CHANGES", "BASE", "AGE", "PATH"];
    let mut header = header.map(str::to_owned).to_vec();
    let mut rows: Vec<Vec<String>> = list.iter().map(row).collect();
    if has_repositories {
        header.insert(1, "REPOSITORY".to_owned());
        rows.iter_mut().zip(list).for_each(|(row, e)| row.insert(1, repository(e)));
    }
    if list.iter().any(|e| e.label.is_some()) {
        header.insert(1, "LABEL".to_owned());
        rows.iter_mut().zip(list).for_each(|(row, e)| row.insert(1, label(e)));
    }
    if let Some(width) = width {
        if width < WITH_BASE
            && let Some(at) = header.iter().position(|title| title == "BASE")
        {
            header.remove(at);
            for row in &mut rows {
                row.remove(at);
            }
        }
        fit(&mut header, &mut rows, width);
    }
    let text = lines_of(header, rows);
    if colored { painted(&text, list) } else { text }
}

/// Returns the table with each line in the colour of its environment. The whole line: its columns
/// keep their widths, which were measured without colours.
fn painted(text: &str, list: &[EnvironmentView]) -> String {
    let mut tones = std::iter::once(Some(Tone::Heading)).chain(list.iter().map(tone));
    let line = |line: &str| match tones.next().flatten() {
        Some(tone) => format!("{}\n", paint(line, tone)),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Returns the colour of an environment; none for one that is ready and holds nothing of its own.
fn tone(e: &EnvironmentView) -> Option<Tone> {
    let has_changes = e.known.as_ref().is_some_and(|known| !known.clean);
    match &*e.phase {
        _ if e.missing => Some(Tone::Bad),
        "failed" => Some(Tone::Bad),
        "ready" if has_changes => Some(Tone::Attention),
        "ready" => None,
        "tombstoned" => None,
        _ => Some(Tone::Place),
    }
}

fn row(e: &EnvironmentView) -> Vec<String> {
    let phase = match (&e.step, e.phase.as_str()) {
        (Some(step), "provisioning" | "tearing_down") => {
            format!("{} ({})", phase_in_words(&e.phase), step_in_words(step))
        }
        _ => state(e),
    };
    let leased = if e.leases.is_empty() { "" } else { " *" };
    let base = e.base.as_deref().map_or("-", |b| b.get(..10).unwrap_or(b));
    vec![
        printable(&format!("{}{leased}", e.id)),
        phase,
        branch(e),
        changes(e),
        base.to_owned(),
        age(&e.created_at),
        printable(&e.path),
    ]
}

/// Returns the label of an environment.
fn label(e: &EnvironmentView) -> String {
    e.label.as_deref().map_or_else(|| "-".to_owned(), printable)
}

/// Returns the name of a repository: that of its folder.
fn repository(e: &EnvironmentView) -> String {
    let common = Path::new(&e.repo);
    let is_main = common.file_name() == Some(".git".as_ref());
    let folder = if is_main { common.parent() } else { Some(common) };
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    printable(&name.to_string_lossy())
}

/// Returns a phase as people say it; programs get its name.
fn phase_in_words(phase: &str) -> &str {
    match phase {
        "tombstoned" => "removed",
        "tearing_down" => "removing",
        other => other,
    }
}

/// Returns the phase, or `missing` for an environment whose directory does not exist; with when it
/// was last seen, where its worktree does not answer.
fn state(e: &EnvironmentView) -> String {
    let phase = if e.missing { "missing" } else { phase_in_words(&e.phase) };
    match &e.seen_at {
        Some(at) => format!("{phase} (seen {} ago)", age(at)),
        None if e.unseen => format!("{phase} (not seen)"),
        None => phase.to_owned(),
    }
}

/// Returns the branch that HEAD names, or its commit in brackets when it is detached.
fn branch(e: &EnvironmentView) -> String {
    match &e.detached {
        Some(commit) => format!("({})", commit.get(..10).unwrap_or(commit)),
        None => printable(&e.branch),
    }
}

/// Returns the changes of a worktree that is there, as far as they are known.
fn changes(e: &EnvironmentView) -> String {
    e.known.as_ref().filter(|_| !e.missing).map_or_else(|| "-".to_owned(), known)
}

/// Returns the changes, with their age unless they are of the last minute.
fn known(known: &SummaryView) -> String {
    let changes = if known.clean { "clean" } else { &known.changes };
    let operation = known.operation.as_ref().map(|o| format!(" ({o})")).unwrap_or_default();
    let age = known.at.as_deref().map(age).filter(|age| !age.ends_with('s'));
    let age = age.map(|age| format!(" {age} ago")).unwrap_or_default();
    format!("{changes}{operation}{age}")
}

/// Returns the text of `show`: all known facts of one environment, one in a line.
#[must_use]
pub fn environment(e: &EnvironmentView) -> String {
    let mut rows: Vec<(&str, String)> = vec![
        ("id", e.id.clone()),
        ("phase", if e.missing { format!("{} (missing)", e.phase) } else { state(e) }),
        ("incarnation", e.incarnation.to_string()),
        ("path", printable(&e.path)),
        ("branch", branch(e)),
        ("changes", changes(e)),
        ("base", e.base.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    if e.label.is_some() {
        rows.insert(1, ("label", label(e)));
    }
    if let Some(reference) = &e.base_ref {
        rows.push(("from", format!("{}{}", printable(reference), behind(e))));
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
        let files = if c.files > 0 {
            format!("{} by ", count(c.files, "file", "files"))
        } else {
            String::new()
        };
        rows.push(("checkout", format!("{files}{}{why}", c.by)));
    }
    if let Some(i) = &e.included {
        let skipped = i.skipped.len();
        rows.push((
            "included",
            format!("{}, {}, {skipped} skipped", count(i.files, "file", "files"), bytes(i.bytes)),
        ));
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
    facts(&rows)
}

fn behind(e: &EnvironmentView) -> String {
    match e.behind {
        0 => String::new(),
        commits => format!(", {commits} behind its upstream"),
    }
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
        None if r.adopted => note(&format!("{} is released", r.id)),
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
