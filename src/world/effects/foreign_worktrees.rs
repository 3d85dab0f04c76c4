//! Finds worktrees that other tools created: where they are, how large, how old, whether a
//! process runs in them or they hold work. Reads only; a foreign worktree is never settled, only
//! reported, and can be adopted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::core::event::Finding;
use crate::format;
use crate::world::fs;
use crate::world::fs::{disk_usage, paths};
use crate::world::git::command::Git;
use crate::world::process::cancel::Cancel;
use crate::world::process::table;

/// Most worktrees that one sweep inspects; further ones are not reported.
const WORKTREES_MAX: usize = 100;
/// Entries after which a size is reported as "more than".
const ENTRIES_MAX: u64 = 50_000;
/// Most directory entries that are read below one tool's folder.
const FOLDERS_MAX: usize = 2_000;

/// Folders in which common tools keep worktrees: tool, path below the home directory, depth.
const PLACES: [(&str, &str, usize); 12] = [
    ("Codex", ".codex/worktrees", 2),
    ("Cursor", ".cursor/worktrees", 2),
    ("Claude Code", ".claude/worktrees", 2),
    ("Conductor", "conductor/workspaces", 2),
    ("Superset", ".superset/worktrees", 3),
    ("emdash", ".emdash/worktrees", 2),
    ("claude-squad", ".claude-squad/worktrees", 1),
    ("container-use", ".config/container-use/worktrees", 1),
    ("uzi", ".local/share/uzi/worktrees", 1),
    ("opencode", ".local/share/opencode/worktree", 2),
    ("Sculptor", ".sculptor/workspaces", 2),
    ("vibe-kanban", ".cache/vibe-kanban/worktrees", 2),
];

/// Parts of a path that reveal which tool created a worktree inside or beside its repository.
const HINTS: [(&str, &str); 6] = [
    ("/.claude/worktrees/", "Claude Code"),
    ("/.worktrees/", "a tool that uses .worktrees"),
    ("__worktrees/", "workmux"),
    ("/vibe-kanban/", "vibe-kanban"),
    ("/.agent-worktrees/", "an agent tool"),
    ("/worktrees/", "a tool that uses worktrees/"),
];

/// Finds foreign worktrees: those that git knows in these repositories, and those in the
/// folders of common tools.
///
/// # Errors
/// When it is cancelled, and when `/proc` does not show which worktrees are in use.
pub(in crate::world) fn find(
    repositories: &BTreeSet<PathBuf>,
    ours: &Path,
    cancel: &Cancel,
) -> Result<Vec<Finding>, Fault> {
    let mut found = Vec::new();
    let mut places = BTreeSet::new();
    for common in repositories {
        registered(common, ours, &mut places, &mut found);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for (tool, place, depth) in PLACES {
        let folder = home.join(place);
        if home.is_absolute() && folder.is_dir() {
            below(&folder, depth, &mut |path| {
                places.insert((path.to_owned(), Some(tool)));
            });
        }
    }
    let pids = table::pids()?;
    let used: Vec<PathBuf> = pids.into_iter().filter_map(|pid| table::link(pid, "cwd")).collect();
    let mut seen = BTreeSet::new();
    // In reverse order, the entry that names its tool comes before the one that does not.
    for (path, tool) in places.into_iter().rev().take(WORKTREES_MAX) {
        cancel.check()?;
        if seen.insert(path.clone()) {
            found.push(describe(&path, tool, &used, cancel));
        }
    }
    Ok(found)
}

type Places = BTreeSet<(PathBuf, Option<&'static str>)>;

/// Collects the worktrees that git knows and that are not ours; one whose
/// directory is missing is reported.
fn registered(common: &Path, ours: &Path, places: &mut Places, found: &mut Vec<Finding>) {
    for entry in std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
        let admin = entry.path();
        // A marker means that a groundskeeper created it, of this data directory or another one.
        if admin.join(crate::world::git::marker::MARKER).exists() {
            continue;
        }
        let Ok(pointer) = std::fs::read(admin.join("gitdir")) else { continue };
        let pointer = paths::from_bytes(pointer.trim_ascii_end());
        let Some(path) = pointer.parent().filter(|p| !p.starts_with(ours)) else { continue };
        if path.exists() {
            places.insert((path.to_owned(), None));
        } else {
            let detail = format!(
                "its directory {} is missing; run `git worktree prune` to remove the registration, \
                 unless it is on a disk that is not mounted",
                path.display()
            );
            found.push(finding("registration of others", &admin, detail));
        }
    }
}

/// Calls `each` for every worktree (a folder with a `.git` file) at most `depth` levels deep.
fn below(folder: &Path, depth: usize, each: &mut dyn FnMut(&Path)) {
    let mut todo = vec![(folder.to_owned(), 0)];
    let mut inspected = 0;
    while let Some((folder, level)) = todo.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            inspected += 1;
            if inspected > FOLDERS_MAX || !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if path.join(".git").is_file() {
                each(&path);
            } else if level + 1 < depth {
                todo.push((path, level + 1));
            }
        }
    }
}

fn describe(path: &Path, tool: Option<&str>, used: &[PathBuf], cancel: &Cancel) -> Finding {
    let text = path.display().to_string();
    let guess = HINTS.iter().find(|(part, _)| text.contains(part)).map(|(_, tool)| *tool);
    let owner = tool.or(guess).unwrap_or("an unknown tool");
    let git = Git::at(path, None, cancel);
    let dirt = match git.run(["status", "--porcelain", "--untracked-files=normal"]) {
        Ok(status) if status.status.success() => {
            match status.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count() {
                0 => "no changes".to_owned(),
                n => format!("{n} changes"),
            }
        }
        // Unknown never counts as clean.
        _ => "changes unknown".to_owned(),
    };
    let live = used.iter().filter(|cwd| cwd.starts_with(path)).count();
    let live = match live {
        0 => "no process in it".to_owned(),
        n => format!("{n} processes in it"),
    };
    let detail = format!(
        "of {owner}, {}, {}, {dirt}, {live}; run `groundskeeper adopt '{text}'` to adopt it",
        size_of(path),
        age_of(path)
    );
    finding("worktree of others", path, detail)
}

fn size_of(path: &Path) -> String {
    let mut bounded = |n| if n > ENTRIES_MAX { Err(Unmeasured::TooMany) } else { Ok(()) };
    match disk_usage::of(path, &mut bounded) {
        Ok(size) => format::bytes(size.allocated),
        Err(Unmeasured::TooMany) => format!("> {ENTRIES_MAX} files"),
        Err(Unmeasured::Fs) => "of unknown size".to_owned(),
    }
}

/// Why the size of a directory is not known.
enum Unmeasured {
    TooMany,
    Fs,
}

impl From<fs::Error> for Unmeasured {
    fn from(_: fs::Error) -> Self {
        Self::Fs
    }
}

fn age_of(path: &Path) -> String {
    let modified = path.metadata().and_then(|m| m.modified());
    let days = modified.ok().and_then(|t| t.elapsed().ok()).map(|age| age.as_secs() / 86_400);
    days.map_or_else(|| "of unknown age".to_owned(), |days| format!("{days} days old"))
}

fn finding(kind: &str, path: &Path, detail: String) -> Finding {
    let path = paths::to_host(path);
    Finding { kind: kind.to_owned(), path, ours: false, settled: false, detail }
}
