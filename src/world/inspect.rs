//! Looking for work that a removal would take away. Reads only, takes none of git's locks.
//!
//! What cannot be found out counts as work: unknown is never safe.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::git::{self, Git};
use super::marker::{self, Admin, Marker};
use super::teardown::own_commits;
use super::{Task, paths};
use crate::core::{Code, Fault, Outcome};

/// Ignored directories that tools rebuild: their loss costs time, not work.
pub const REBUILDABLE: [&str; 20] = [
    "target",
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".gradle",
    ".next",
    ".nuxt",
    ".turbo",
    ".parcel-cache",
    ".cache",
    ".eslintcache",
    "dist",
    "build",
    "coverage",
    ".DS_Store",
];
/// Evidence lines that are kept; the rest is counted.
const LINES_MAX: usize = 40;

/// Performs [`Step::Inspect`](crate::core::Step::Inspect).
pub(super) fn inspect(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let marker = Marker::read(&admin)?;
    let Some(found) = marker::identity(&target)? else {
        return look_for_missing(task, &admin, marker.is_some(), &target);
    };
    let root = task.layout().worktrees();
    marker::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
    let force = env.teardown.as_ref().is_some_and(|t| t.force);
    match look(task, &admin, &target) {
        Ok(lines) => Ok(Outcome::Inspected(lines)),
        // Who forces agrees to lose what cannot be seen, too; the directory goes to the trash.
        Err(fault) if force && !task.cancel.is_cancelled() => {
            Ok(Outcome::Inspected(vec![format!("could not be inspected: {fault}")]))
        }
        Err(fault) => Err(fault.transient()),
    }
}

/// The directory is not where it belongs: gone is fine, elsewhere is not ours to forget.
fn look_for_missing(
    task: &Task<'_>,
    admin: &Path,
    registered: bool,
    target: &Path,
) -> Result<Outcome, Fault> {
    let moved = |place: String| {
        let message = format!("the worktree of {} is not at {}", task.env().id, target.display());
        let hint = "move it back, or remove it yourself; nothing was touched";
        Err(Fault::new(Code::NotOurs, message, hint).with_evidence([place]))
    };
    if !target.starts_with(task.layout().place_of(&task.env().id)) {
        return moved("the data directory has another place now".into());
    }
    let mut lines = Lines::default();
    beside(task, target, &mut lines);
    if registered {
        let pointer = std::fs::read(admin.join("gitdir")).unwrap_or_default();
        let pointer = paths::from_bytes(pointer.trim_ascii_end());
        if !pointer.as_os_str().is_empty() && pointer.exists() {
            return moved(format!("git knows it as {}", pointer.display()));
        }
        in_progress(admin, &mut lines);
        let git = Git::exact(admin, None, Some(task.lock), task.cancel);
        unpushed(task, &git, &mut lines)?;
    }
    Ok(Outcome::Inspected(lines.finish()))
}

/// What lies beside the worktree in its folder is not ours and will not be moved.
fn beside(task: &Task<'_>, target: &Path, lines: &mut Lines) {
    let place = task.layout().place_of(&task.env().id);
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if Some(entry.file_name().as_os_str()) != target.file_name() {
            lines.push(format!("beside the worktree: {}", entry.path().display()));
        }
    }
}

fn look(task: &Task<'_>, admin: &Path, target: &Path) -> Result<Vec<String>, Fault> {
    let git = Git::exact(admin, Some(target), Some(task.lock), task.cancel).within(git::LONG);
    let mut lines = Lines::default();
    in_progress(admin, &mut lines);
    let status = git.output([
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=normal",
        "--ignored=matching",
        "--no-renames",
    ])?;
    let source = paths::from_host(&task.env().plan.repository.source);
    for entry in status.split(|b| *b == 0).filter(|e| e.len() > 3) {
        let (code, path) = (&entry[..2], &entry[3..]);
        let shown = String::from_utf8_lossy(path);
        match code {
            b"??" => lines.push(format!("untracked: {shown}")),
            b"!!" if is_rebuildable(path) || is_copy(&source, target, path) => {}
            b"!!" => lines.push(format!("ignored: {shown}")),
            _ => lines.push(format!("changed: {shown}")),
        }
    }
    hidden_edits(&git, target, &mut lines)?;
    beside(task, target, &mut lines);
    unpushed(task, &git, &mut lines)?;
    Ok(lines.finish())
}

#[derive(Default)]
struct Lines {
    kept: Vec<String>,
    dropped: usize,
}

impl Lines {
    fn push(&mut self, line: String) {
        if self.kept.len() < LINES_MAX {
            self.kept.push(line);
        } else {
            self.dropped += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.dropped > 0 {
            self.kept.push(format!("... and {} more", self.dropped));
        }
        self.kept
    }
}

fn in_progress(admin: &Path, lines: &mut Lines) {
    for (name, what) in [
        ("MERGE_HEAD", "a merge"),
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase or `git am`"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("BISECT_LOG", "a bisect"),
        ("modules", "submodule repositories that live in the worktree"),
    ] {
        if admin.join(name).symlink_metadata().is_ok() {
            lines.push(format!("in progress: {what}"));
        }
    }
}

/// Edits that status is told not to show: skip-worktree and assume-unchanged.
fn hidden_edits(git: &Git<'_>, target: &Path, lines: &mut Lines) -> Result<(), Fault> {
    let listed = git.output(["ls-files", "-v", "-z"])?;
    for entry in listed.split(|b| *b == 0).filter(|e| e.len() > 2) {
        // A sparse checkout leaves files out and marks them the same way; those hide nothing.
        let there = target.join(paths::from_bytes(&entry[2..])).symlink_metadata().is_ok();
        if there && (entry[0] == b'S' || entry[0].is_ascii_lowercase()) {
            let path = String::from_utf8_lossy(&entry[2..]);
            lines.push(format!("hidden from status: {path}"));
        }
    }
    Ok(())
}

fn unpushed(task: &Task<'_>, git: &Git<'_>, lines: &mut Lines) -> Result<(), Fault> {
    let env = task.env();
    let head = git.run(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
    if !head.status.success() {
        return Ok(());
    }
    let tip = String::from_utf8_lossy(&head.stdout).trim_end().to_owned();
    let base = env.base.as_ref().map(|b| b.commit.as_str());
    if base == Some(tip.as_str()) {
        return Ok(());
    }
    let own = own_commits(git, &tip, &env.plan.branch)?;
    if own > 0 {
        let branch = &env.plan.branch;
        lines.push(format!("unpushed: {own} commits that only {branch} has (at {tip})"));
    }
    Ok(())
}

fn is_rebuildable(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|part| REBUILDABLE.iter().any(|name| name.as_bytes() == part))
}

/// Whether an ignored file is the same as the one at its place in the source, so that nothing is
/// lost with it. A directory never counts: looking through it could take long.
fn is_copy(source: &Path, target: &Path, path: &[u8]) -> bool {
    if source.as_os_str().is_empty() || path.ends_with(b"/") {
        return false;
    }
    let relative = paths::from_bytes(path);
    same_file(&source.join(relative), &target.join(relative)).unwrap_or(false)
}

fn same_file(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (left, right) = (a.symlink_metadata()?, b.symlink_metadata()?);
    if !left.is_file() || !right.is_file() || left.len() != right.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    let (mut left, mut right) = ([0; 8192], [0; 8192]);
    loop {
        let n = a.read(&mut left)?;
        b.read_exact(&mut right[..n])?;
        if n == 0 || left[..n] != right[..n] {
            return Ok(n == 0);
        }
    }
}
