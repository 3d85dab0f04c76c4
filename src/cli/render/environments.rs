//! Text about environments: the table of `ls`, the facts of `show`, the result of `rm` and `clean`.

use std::path::Path;

use comfy_table::{Table, presets};

use super::color::{Tone, paint};
use super::table::facts;
use super::terminal::{note, printable};
use crate::api::clean::NotMovedView;
use crate::api::types::{EnvironmentView, RemovedView, SummaryView};
use crate::format::{age, bytes, count};

/// Least width to which a cell is cut.
const CELL_MIN: usize = 12;
/// Width of a terminal from which the base is shown, which people look at least.
const WITH_BASE: usize = 100;

/// Returns the table of `ls`; ` *` marks a leased environment. A repository is named where there is
/// more than one. At a terminal of this width lines are not wrapped: paths are cut in the middle.
#[must_use]
pub fn environments(list: &[EnvironmentView], width: Option<usize>, colored: bool) -> String {
    let has_repositories = list.iter().any(|e| Some(&e.repo) != list.first().map(|e| &e.repo));
    let mut header = vec!["ID", "PHASE", "BRANCH", "CHANGES", "BASE", "AGE", "PATH"];
    let mut rows: Vec<Vec<String>> = list.iter().map(row).collect();
    if has_repositories {
        header.insert(1, "REPOSITORY");
        rows.iter_mut().zip(list).for_each(|(row, e)| row.insert(1, repository(e)));
    }
    if let Some(width) = width {
        if width < WITH_BASE
            && let Some(at) = header.iter().position(|title| *title == "BASE")
        {
            header.remove(at);
            for row in &mut rows {
                row.remove(at);
            }
        }
        fit(&header, &mut rows, width);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = format!("{}\n", table.trim_fmt());
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
        (Some(step), "provisioning" | "tearing_down") => format!("{} ({step})", e.phase),
        _ => state(e),
    };
    let leased = if e.leases.is_empty() { "" } else { " *" };
    let base = e.base.as_deref().map_or("-", |b| b.get(..10).unwrap_or(b));
    vec![
        printable(&format!("{}{leased}", e.id)),
        phase,
        branch(e),
        e.known.as_ref().filter(|_| !e.missing).map_or_else(|| "-".to_owned(), known),
        base.to_owned(),
        age(&e.created_at),
        printable(&e.path),
    ]
}

/// Returns the name of a repository: that of its folder.
fn repository(e: &EnvironmentView) -> String {
    let common = Path::new(&e.repo);
    let is_main = common.file_name() == Some(".git".as_ref());
    let folder = if is_main { common.parent() } else { Some(common) };
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    printable(&name.to_string_lossy())
}

/// Makes rows fit a width, each cell with a blank on both sides: first the last column is cut,
/// which has the paths, then the widest of the others, and the ids last.
fn fit(header: &[&str], rows: &mut [Vec<String>], width: usize) {
    for row in rows.iter_mut() {
        if let Some(path) = row.last_mut() {
            *path = from_home(path);
        }
    }
    let mut widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(title.len())
        })
        .collect();
    let room = width.saturating_sub(2 * widths.len());
    let over = |widths: &[usize]| widths.iter().sum::<usize>().saturating_sub(room);
    let excess = over(&widths);
    if let Some(last) = widths.last_mut() {
        *last = last.saturating_sub(excess).max(CELL_MIN.min(*last));
    }
    while over(&widths) > 0 {
        let may_shrink = |width: &&mut usize| **width > CELL_MIN;
        let (id, others) = widths.split_at_mut(1);
        // The id last: it is what one types.
        let widest = others.iter_mut().filter(may_shrink).max();
        let Some(width) = widest.or_else(|| id.iter_mut().find(may_shrink)) else { break };
        *width -= 1;
    }
    for row in rows.iter_mut() {
        row.iter_mut().zip(&widths).for_each(|(cell, width)| *cell = cut(cell, *width));
    }
}

/// Returns a path with the home directory as `~`.
fn from_home(path: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    match path.strip_prefix(&home).filter(|rest| home.len() > 1 && rest.starts_with('/')) {
        Some(rest) => format!("~{rest}"),
        None => path.to_owned(),
    }
}

/// Cuts a text in the middle: its end says most, and its beginning where it is.
fn cut(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width || width < 2 {
        return text.to_owned();
    }
    let head = (width - 1) / 3;
    let tail = width - 1 - head;
    let begin: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(count - tail).collect();
    format!("{begin}\u{2026}{end}")
}

/// Returns the phase, or `missing` for an environment whose directory does not exist; with when it
/// was last seen, where its worktree does not answer.
fn state(e: &EnvironmentView) -> String {
    let phase = if e.missing { "missing" } else { &e.phase };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// However long names are: a line fits the terminal while it has room for the columns at all.
    #[test]
    fn rows_fit_width_and_keep_ends() {
        let header = ["ID", "BRANCH", "PATH"];
        let path = format!("/home/u/{}/worktrees/fix/project", "deep/".repeat(20));
        for width in [60, 80, 120, 200] {
            let mut rows = vec![
                vec!["fix".to_owned(), "feature/".to_owned() + &"long-".repeat(30), path.clone()],
                vec!["other".to_owned(), "main".to_owned(), "/x".to_owned()],
            ];
            fit(&header, &mut rows, width);
            for row in &rows {
                let used: usize = row.iter().map(|cell| cell.chars().count() + 2).sum();
                assert!(used <= width, "{used} of {width}: {row:?}");
            }
            assert!(rows[0][2].ends_with("/project") || width < 80, "{:?}", rows[0]);
            assert_eq!(rows[1], ["other", "main", "/x"], "what is short stays whole");
        }
    }

    #[test]
    fn text_is_cut_in_the_middle() {
        assert_eq!(cut("abcdefghij", 10), "abcdefghij");
        assert_eq!(cut("abcdefghij", 7), "ab\u{2026}ghij");
        assert_eq!(cut("\u{fc}\u{f6}\u{e4}abcdefg", 4), "\u{fc}\u{2026}fg");
    }
}
