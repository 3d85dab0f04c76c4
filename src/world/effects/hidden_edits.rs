//! Finds edits that git's status is told not to show: files marked skip-worktree or
//! assume-unchanged whose content differs from the index.
//!
//! git itself compares, so that conversions count as usual: on a copy of the index without those
//! marks and without stat data, so that git reads each file. The index itself is never written. If
//! its format is not understood, each marked file that exists counts as an edit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Fault;
use crate::failpoint::guard;
use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;
use crate::world::git::index::format::{Hash, Stat};
use crate::world::git::index::read;

/// Numbers the copies, because several inspections may run at once.
static COPIES: AtomicU64 = AtomicU64::new(0);
const GITLINK: u32 = 0o160_000;

/// Returns the paths of such edits.
pub(in crate::world) fn edits(
    task: &Task<'_>,
    git: &Git<'_>,
    admin: &Path,
    target: &Path,
) -> Result<BTreeSet<Vec<u8>>, Fault> {
    if !guard::stands("hidden") {
        return Ok(BTreeSet::new());
    }
    let hash = Hash::named(&task.env().plan.repository.object_format);
    let mut index = std::fs::read(admin.join("index")).unwrap_or_default();
    let Some((hash, marked)) = hash.and_then(|h| Some((h, marked(&index, h, target)?))) else {
        let listed = git.output(["ls-files", "-v", "-z"])?;
        return Ok(crate::world::git::listing::hidden(&listed, target)
            .map(<[u8]>::to_vec)
            .collect());
    };
    if marked.is_empty() {
        return Ok(BTreeSet::new());
    }
    for entry in &marked {
        // Without its mark and its stat data, git has to read the file.
        read::unmark(&mut index, entry.at, hash);
        Stat::default().put(&mut index, entry.at);
    }
    read::seal(&mut index, hash);
    let copy = Copy::write(task, &index)?;
    let changed = changed(git, &copy.0)?;
    // The status ignores submodules, so each marked one counts as an edit.
    let edits = marked.into_iter().filter(|e| e.mode == GITLINK || changed.contains(&e.path));
    Ok(edits.map(|entry| entry.path).collect())
}

/// An index entry with such a mark, at this byte offset in the index.
struct Marked {
    at: usize,
    path: Vec<u8>,
    mode: u32,
}

/// Returns the marked entries whose files exist; none if the index is not understood. A sparse
/// checkout marks the files that it omits in the same way; those hide nothing.
fn marked(index: &[u8], hash: Hash, target: &Path) -> Option<Vec<Marked>> {
    let mut found = Vec::new();
    read::each(index, hash, |entry| {
        let there = || target.join(paths::from_bytes(entry.path)).symlink_metadata().is_ok();
        if entry.hidden && there() {
            found.push(Marked { at: entry.at, path: entry.path.to_vec(), mode: entry.mode });
        }
    })?;
    Some(found)
}

/// Returns the tracked files that differ from an index.
fn changed(git: &Git<'_>, index: &Path) -> Result<BTreeSet<Vec<u8>>, Fault> {
    let args = ["status", "--porcelain=v2", "-z", "--untracked-files=no", "--no-renames"];
    let mut command = git.command(args.into_iter().chain(["--ignore-submodules=all"]));
    command.env("GIT_INDEX_FILE", index);
    let finished = git.run_command(command)?;
    if !finished.status.success() {
        return Err(git::Error::failed("git status", &finished).into());
    }
    let entries = finished.stdout.split(|b| *b == 0);
    Ok(entries.filter_map(|entry| Some(changed_path(entry)?.to_vec())).collect())
}

/// Returns the path of a status entry if its file differs from the index.
fn changed_path(entry: &[u8]) -> Option<&[u8]> {
    let fields = match entry {
        // A change that is only staged leaves the file equal to the index.
        [b'1', b' ', _, b'.', ..] => return None,
        [b'1', b' ', ..] => 8,
        [b'u', b' ', ..] => 10,
        _ => return None,
    };
    entry.splitn(fields + 1, |b| *b == b' ').nth(fields)
}

/// A copy of an index, removed on drop.
struct Copy(PathBuf);

impl Copy {
    fn write(task: &Task<'_>, bytes: &[u8]) -> Result<Self, Fault> {
        let (env, number) = (task.env(), COPIES.fetch_add(1, Ordering::Relaxed));
        let name = format!("{}.{}.{number}.unhidden", env.id, env.incarnation);
        let copy = Self(task.layout().scratch().join(name));
        std::fs::write(&copy.0, bytes).map_err(paths::failed("write", &copy.0))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_path_reports_worktree_changes_only() {
        let of = |entry: &str| changed_path(entry.as_bytes()).map(<[u8]>::to_vec);
        let rest = "N... 100644 100644 100644 1111 2222 a b.txt";
        assert_eq!(of(&format!("1 .M {rest}")), Some(b"a b.txt".to_vec()));
        assert_eq!(of(&format!("1 MT {rest}")), Some(b"a b.txt".to_vec()));
        assert_eq!(of(&format!("1 M. {rest}")), None, "staged alone");
        assert_eq!(of("# branch.oid 1"), None);
        assert_eq!(of("u UU N... 1 2 3 4 h1 h2 h3 a b"), Some(b"a b".to_vec()));
        assert_eq!(of(""), None);
    }
}
