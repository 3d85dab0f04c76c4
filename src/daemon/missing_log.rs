//! Refuses to begin a new log in a data directory that has content of an earlier one.
//!
//! A log that was deleted, or that a disk lost, would otherwise be replaced by an empty one without
//! a word: every worktree and trash entry would be unexplained. With the user's consent the daemon
//! starts over: it adopts the worktrees and touches nothing else. Removes nothing.

use std::path::{Path, PathBuf};

use crate::core::{Code, Fault};
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;

/// Most names that a refusal lists.
const NAMED_MAX: usize = 20;
/// Names under which an empty log may be kept.
const KEPT_MAX: u32 = 100;

/// Checks that a log exists, or that the directory has nothing that an earlier log explained.
/// With `start_over`, an empty log file is renamed, so that a new one is begun.
///
/// # Errors
/// `journal_failed` naming what is there; `limit_reached` when too many empty logs are kept.
pub(super) fn check(layout: &Layout, start_over: bool) -> Result<(), Fault> {
    let log = layout.log();
    let bytes = match log.symlink_metadata() {
        Ok(found) => Some(found.len()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(paths::fault("inspect", &log, &e)),
    };
    match bytes {
        // Also with consent: an earlier start may have been killed before it had adopted all.
        Some(bytes) if bytes > 0 => Ok(()),
        Some(_) if start_over => keep_aside(&log),
        None if start_over => Ok(()),
        _ => {
            let left = left_in(layout)?;
            // An empty file alone is refused when it is opened, as any damaged log is.
            if left.is_empty() { Ok(()) } else { Err(refusal(layout, bytes.is_some(), &left)) }
        }
    }
}

/// Renames an empty log, which may be evidence, to the first free name.
fn keep_aside(log: &Path) -> Result<(), Fault> {
    let names = (1..=KEPT_MAX).map(|n| log.with_extension(format!("redb.broken-{n}")));
    for name in names {
        if !paths::exists(&name).map_err(paths::failed("inspect", &name))? {
            tracing::warn!(kept = %name.display(), "the empty log is kept under another name");
            return std::fs::rename(log, &name).map_err(paths::failed("rename", log));
        }
    }
    let message = format!("{KEPT_MAX} broken logs are kept beside {}", log.display());
    Err(Fault::new(Code::LimitReached, message, "move some of them elsewhere"))
}

/// Returns the worktrees, trash entries and rescued files in a data directory.
fn left_in(layout: &Layout) -> Result<Vec<PathBuf>, Fault> {
    let mut left = Vec::new();
    for folder in [layout.worktrees(), layout.trash(), layout.rescues(), layout.log_archive()] {
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(paths::failed("list", &folder))?,
        };
        for entry in entries {
            let path = entry.map_err(paths::failed("list", &folder))?.path();
            // An empty directory holds nothing; one that cannot be listed may.
            let is_empty = std::fs::read_dir(&path).is_ok_and(|mut found| found.next().is_none());
            if !is_empty {
                left.push(path);
            }
        }
    }
    left.sort();
    Ok(left)
}

fn refusal(layout: &Layout, is_empty: bool, left: &[PathBuf]) -> Fault {
    let (log, root) = (layout.log(), shown(layout));
    let what = if is_empty { "is empty" } else { "is missing" };
    let count = left.len();
    let message = format!(
        "the log {} {what}, and the data directory has {count} worktrees, removed ones, or parts of its log",
        log.display()
    );
    let log = paths::as_argument(&log);
    let hint = format!(
        "put a backup back with `replay restore BACKUP {log}`; or look for its records on a copy \
         of the disk with `replay salvage FILE {log}`; or begin a new log with `groundskeeper \
         --data-dir {root} daemon --start-over`, which adopts the worktrees and leaves all else as \
         it is"
    );
    let mut named: Vec<String> =
        left.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
    if count > NAMED_MAX {
        named.push(format!("... and {} more", count - NAMED_MAX));
    }
    Fault::new(Code::JournalFailed, message, hint).with_evidence(named)
}

fn shown(layout: &Layout) -> String {
    paths::as_argument(layout.root())
}
