//! Decides which directories of a worktree are watched: not those that git ignores and that hold no
//! tracked file, and not those that tools fill with thousands of entries.

use std::collections::BTreeSet;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::world::fs::paths;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::watch::backend::{Failure, Kinds};

/// Name of git's ignore files.
pub(super) const IGNORE: &str = ".gitignore";
/// Bound on the depth of watched directories.
const DEPTH_MAX: usize = 128;
/// Bound on remembered tracked files that match an ignore rule; normally there are few.
const EXEMPT_MAX: usize = 10_000;

/// One ignore file with its precedence.
#[derive(Debug)]
struct Level {
    /// 0 for the user's file, 1 for the repository's, then by depth of the directory.
    rank: usize,
    dir: PathBuf,
    rules: Gitignore,
}

/// The pruning rules of one worktree.
#[derive(Debug)]
pub(super) struct Rules {
    root: PathBuf,
    /// Ignore files found so far, lowest precedence first.
    levels: Vec<Level>,
    heavy: Vec<String>,
    /// Tracked paths, sorted as in the index; loaded on first use, and dropped by `settle`.
    tracked: Option<Vec<Vec<u8>>>,
    /// Tracked files that match an ignore rule.
    exempt: BTreeSet<PathBuf>,
    /// Size of the index when `exempt` was computed.
    index_bytes: u64,
    index: PathBuf,
    hash: Option<Hash>,
}

impl Rules {
    /// Creates the rules of the worktree at `root`; `heavy` names directories that are never
    /// watched unless they hold tracked files.
    pub(super) fn new(
        root: &Path,
        admin: &Path,
        common: &Path,
        hash: Option<Hash>,
        heavy: &[String],
    ) -> Self {
        let rules = GitignoreBuilder::new(root).build_global().0;
        let mut levels = vec![Level { rank: 0, dir: root.to_owned(), rules }];
        let exclude = file(root, &common.join("info/exclude"));
        levels.extend(exclude.map(|rules| Level { rank: 1, dir: root.to_owned(), rules }));
        let (root, heavy, index) = (root.to_owned(), heavy.to_vec(), admin.join("index"));
        let exempt = BTreeSet::new();
        let index_bytes = 0;
        Self { root, levels, heavy, tracked: None, exempt, index_bytes, index, hash }
    }

    /// Reads the ignore file of a directory that is entered.
    pub(super) fn enter(&mut self, dir: &Path) {
        let rank = 2 + dir.components().count();
        self.levels.retain(|level| level.rank != rank || level.dir != dir);
        if let Some(rules) = file(dir, &dir.join(IGNORE)) {
            let at = self.levels.partition_point(|level| level.rank <= rank);
            self.levels.insert(at, Level { rank, dir: dir.to_owned(), rules });
        }
    }

    /// Reports whether a change in a watched directory is irrelevant: git ignores the entry and
    /// does not track it.
    pub(super) fn ignores(&self, path: &Path, is_dir: bool) -> bool {
        self.matches(path, is_dir) && !self.exempt.contains(path)
    }

    /// Finds the tracked files that match an ignore rule, whose changes count. Returns whether the
    /// set differs from before. An index of the same size is assumed to hold the same paths, which
    /// saves parsing it after every `git add`.
    pub(super) fn exempt(&mut self) -> bool {
        let size = self.index.metadata().map_or(0, |found| found.len());
        if std::mem::replace(&mut self.index_bytes, size) == size {
            return false;
        }
        self.tracked = None;
        self.load_tracked();
        let tracked = self.tracked.take().unwrap_or_default();
        let exempt: BTreeSet<PathBuf> = tracked
            .iter()
            .map(|path| self.root.join(paths::from_bytes(path)))
            .filter(|path| self.is_ignored_below(path))
            .take(EXEMPT_MAX)
            .collect();
        let others = exempt != self.exempt;
        self.exempt = exempt;
        others
    }

    /// Does the same after the rules have changed, whatever the size of the index.
    pub(super) fn exempt_anew(&mut self) {
        self.index_bytes = 0;
        self.exempt();
        self.settle();
    }

    /// Reports whether a file, or a directory above it, matches an ignore rule.
    fn is_ignored_below(&self, path: &Path) -> bool {
        self.matches(path, false)
            || path
                .ancestors()
                .skip(1)
                .take_while(|dir| *dir != self.root)
                .any(|dir| self.matches(dir, true))
    }

    fn matches(&self, path: &Path, is_dir: bool) -> bool {
        // The deepest file with a verdict wins, as for git.
        let known = self.levels.iter().rev().filter(|level| path.starts_with(&level.dir));
        let mut verdicts = known.map(|level| level.rules.matched(path, is_dir));
        verdicts.find(|verdict| !verdict.is_none()).is_some_and(|verdict| verdict.is_ignore())
    }

    /// Reports whether a path is not part of the working tree.
    pub(super) fn is_outside(&self, path: &Path) -> bool {
        !path.starts_with(&self.root) || path.starts_with(self.root.join(".git"))
    }

    /// Reports whether a directory is worth watching.
    pub(super) fn admits(&mut self, dir: &Path) -> bool {
        let name = dir.file_name().unwrap_or_default();
        if name == ".git" {
            return false;
        }
        let heavy = self.heavy.iter().any(|heavy| name == heavy.as_str());
        !(heavy || self.matches(dir, true)) || self.holds_tracked(dir)
    }

    fn holds_tracked(&mut self, dir: &Path) -> bool {
        let Ok(inside) = dir.strip_prefix(&self.root) else { return false };
        let mut below = paths::to_host(inside).0;
        below.push(b'/');
        self.load_tracked();
        let tracked = self.tracked.as_deref().unwrap_or_default();
        let at = tracked.partition_point(|path| *path < below);
        tracked.get(at).is_some_and(|path| path.starts_with(&below))
    }

    fn load_tracked(&mut self) {
        if self.tracked.is_some() {
            return;
        }
        let mut paths = Vec::new();
        let bytes = std::fs::read(&self.index).unwrap_or_default();
        if let Some(hash) = self.hash {
            let _tree = read::each(&bytes, hash, |entry| paths.push(entry.path.to_vec()));
        }
        self.tracked = Some(paths);
    }

    /// Drops what is needed only while directories are listed.
    pub(super) fn settle(&mut self) {
        self.tracked = None;
    }
}

/// Reports whether the lines of an ignore file match a path. For tools that make up both.
#[cfg(feature = "faults")]
pub(in crate::world) fn ignored_by(lines: &str, path: &Path) -> bool {
    let mut builder = GitignoreBuilder::new("/");
    for line in lines.lines() {
        // A line that is no pattern is passed over, as in a file.
        drop(builder.add_line(None, line));
    }
    let of = |rules: &Gitignore| rules.matched_path_or_any_parents(path, false).is_ignore();
    let is_below = path.is_relative()
        && path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    is_below && builder.build().is_ok_and(|rules| of(&rules))
}

fn file(dir: &Path, file: &Path) -> Option<Gitignore> {
    // git does not follow a link in place of an ignore file, either.
    file.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut builder = GitignoreBuilder::new(dir);
    // Invalid lines are skipped, as git does.
    let _partly = builder.add(file);
    builder.build().ok()
}

/// Calls `watch` with a directory, and then with every admitted directory below it. Each is listed
/// only after `watch` has returned, so an entry created meanwhile is either listed or reported.
pub(super) fn walk(
    rules: &mut Rules,
    dir: &Path,
    watch: &mut dyn FnMut(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut waiting = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = waiting.pop() {
        match watch(&dir) {
            Ok(()) => {}
            // It vanished, or is a link or file by now; its parent's watch reports that.
            Err(Failure::Absent(_)) if depth > 0 => continue,
            // It belongs to another user: git cannot read it, either.
            Err(Failure::Failed(_, e)) if depth > 0 && e.kind() == PermissionDenied => continue,
            Err(failure) => return Err(failure),
        }
        rules.enter(&dir);
        if depth == DEPTH_MAX {
            continue;
        }
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), NotFound | PermissionDenied | NotADirectory) => continue,
            Err(e) => return Err(Failure::Failed(dir, e)),
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) && rules.admits(&entry.path()) {
                waiting.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(())
}

/// Returns the kind of change that an event in a worktree's git directory means.
pub(super) fn kind_of_admin(name: &[u8]) -> Kinds {
    match name {
        b"HEAD" | b"logs" | b"config.worktree" => Kinds::HEAD,
        b"index" => Kinds::INDEX,
        b"MERGE_HEAD" | b"CHERRY_PICK_HEAD" | b"REVERT_HEAD" | b"BISECT_LOG" | b"rebase-merge"
        | b"rebase-apply" | b"sequencer" => Kinds::OPERATION,
        _ => Kinds::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(root: &Path) -> Vec<String> {
        let heavy = ["node_modules".to_owned()];
        let mut rules = Rules::new(root, &root.join(".git"), &root.join(".git"), None, &heavy);
        let mut seen = Vec::new();
        walk(&mut rules, root, &mut |dir| {
            seen.push(dir.strip_prefix(root).expect("below").display().to_string());
            Ok(())
        })
        .expect("walked");
        seen.sort();
        seen
    }

    #[test]
    fn ignored_directories_are_pruned_unless_reincluded() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for name in
            [".git/x", "a/b", "a/out", "out", "node_modules/p", "keep/out", "a/out2", "excluded/y"]
        {
            std::fs::create_dir_all(root.join(name)).expect("made");
        }
        std::fs::create_dir_all(root.join(".git/info")).expect("made");
        std::fs::write(root.join(".git/info/exclude"), "excluded\n").expect("written");
        std::fs::write(root.join(".gitignore"), "out/\n*.log\n").expect("written");
        std::fs::write(root.join("keep/.gitignore"), "!out/\n").expect("written");
        std::fs::write(root.join("a/.gitignore"), "/out2\n").expect("written");
        std::os::unix::fs::symlink("..", root.join("a/b/loop")).expect("linked");
        assert_eq!(walked(root), ["", "a", "a/b", "keep", "keep/out"]);
    }
}
