//! Lists what a status depends on besides the index and the files that it names: git's own files,
//! settings, ignore rules, and the directories that hold no tracked file. Reads only; `None`
//! wherever something is not understood.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use groundskeeper_system::linux_calls;

use crate::core::Environment;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::git::refs;
use crate::world::status::query::OPERATIONS;
use crate::world::status::types::Status;

/// Bound on the directories without tracked files that are inspected.
const DIRS_MAX: usize = 500;
/// Bound on their depth, each level of which costs one process.
const LEVELS_MAX: usize = 6;
/// Bound on a settings file that is read, in bytes.
const SETTINGS_BYTES_MAX: u64 = 256 * 1024;
/// Files of rules that apply to the directory that they are in.
const RULES: [&str; 2] = [".gitignore", ".gitattributes"];

/// Returns the paths that a status depends on and that the index does not name. Those in the
/// worktree are relative to it.
pub(super) fn beside_index(
    env: &Environment,
    (target, admin): (&Path, &Path),
    hash: Hash,
    git: &Git<'_>,
    status: &Status,
) -> Option<Vec<PathBuf>> {
    let common = paths::borrowed(&env.plan.repository.common_dir);
    // Attributes from a server may be older than the question.
    if !linux_calls::is_local(target) || !linux_calls::is_local(common) {
        return None;
    }
    let mut beside = of_git(admin, common);
    beside.extend(refs_of(env, common, status)?);
    let settings = settings(admin, common);
    for path in &settings {
        beside.extend(named_in(path)?);
    }
    beside.extend(settings);
    let untracked = status.changes.entries.iter().filter(|entry| entry.code == *b"??");
    beside.extend(untracked.map(|entry| paths::from_bytes(entry.place()).to_owned()));
    Untracked { target, git, found: &mut beside }.list(&admin.join("index"), hash)?;
    Some(beside)
}

/// Returns git's files that are no refs and no settings.
fn of_git(admin: &Path, common: &Path) -> Vec<PathBuf> {
    let own = ["HEAD", "logs/HEAD"].into_iter().chain(OPERATIONS.map(|(name, ..)| name));
    let shared = [
        "packed-refs",
        "info/exclude",
        "info/attributes",
        "info/grafts",
        "shallow",
        "refs/stash",
        "logs/refs/stash",
        "refs/replace",
    ];
    let own = own.map(|name| admin.join(name));
    own.chain(shared.map(|name| common.join(name))).collect()
}

/// Returns the loose files of the refs that a status names.
fn refs_of(env: &Environment, common: &Path, status: &Status) -> Option<Vec<PathBuf>> {
    // Such refs are no files.
    if common.join("reftable").symlink_metadata().is_ok() {
        return None;
    }
    let changes = &status.changes;
    let mut names: Vec<String> = Vec::new();
    names.extend(changes.branch.iter().map(|branch| format!("refs/heads/{branch}")));
    if let Some(short) = &changes.upstream {
        // git shortens the name; which of these it is does not matter.
        names.extend(["refs/heads/", "refs/remotes/", "refs/"].map(|dir| format!("{dir}{short}")));
    }
    names.extend(env.base.iter().filter_map(|base| base.reference.clone()));
    let is_plain = |name: &String| !refs::is_another_name(common, name);
    names.iter().all(is_plain).then(|| names.iter().map(|name| common.join(name)).collect())
}

/// Returns the files of settings, and those of rules that have a fixed place.
fn settings(admin: &Path, common: &Path) -> Vec<PathBuf> {
    // As in git, an empty variable counts as unset.
    let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = folder("HOME");
    let xdg = folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
    let mut all = vec![common.join("config"), admin.join("config.worktree")];
    all.extend(home.map(|home| home.join(".gitconfig")));
    for name in ["config", "ignore", "attributes"] {
        all.extend(xdg.as_ref().map(|xdg| xdg.join("git").join(name)));
    }
    let system = ["/etc/gitconfig", "/etc/gitattributes", "/usr/local/etc/gitconfig"];
    all.extend(system.map(PathBuf::from));
    all
}

/// Returns the files of rules that a file of settings names. `None` when it includes others, or
/// names one in a way that only git understands.
fn named_in(path: &Path) -> Option<Vec<PathBuf>> {
    let Ok(found) = path.metadata() else { return Some(Vec::new()) };
    if !found.is_file() || found.len() > SETTINGS_BYTES_MAX {
        return None;
    }
    named(&String::from_utf8_lossy(&std::fs::read(path).ok()?))
}

fn named(text: &str) -> Option<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in text.lines() {
        let lower = line.to_ascii_lowercase();
        if lower.contains("[include") {
            return None;
        }
        if !lower.contains("excludesfile") && !lower.contains("attributesfile") {
            continue;
        }
        let (_, value) = line.split_once('=')?;
        let value = value.trim();
        let home = || std::env::var_os("HOME").map(PathBuf::from);
        let path = match value.strip_prefix("~/") {
            Some(rest) => home()?.join(rest),
            None => PathBuf::from(value),
        };
        let is_plain = !value.contains(['"', '\\', '#', ';', '%', '$']);
        files.push((is_plain && path.is_absolute()).then_some(path)?);
    }
    Some(files)
}

/// Finds directories that hold no tracked file, and untracked files of rules.
struct Untracked<'a> {
    target: &'a Path,
    git: &'a Git<'a>,
    found: &'a mut Vec<PathBuf>,
}

impl Untracked<'_> {
    fn list(mut self, index: &Path, hash: Hash) -> Option<()> {
        let tracked = tracked_dirs(&std::fs::read(index).ok()?, hash)?;
        let mut below = Vec::new();
        for dir in &tracked {
            below.extend(self.dirs_in(paths::from_bytes(dir), &tracked)?);
        }
        let mut count = 0;
        // A file may appear in each of them that git does not ignore.
        for _ in 0..LEVELS_MAX {
            count += below.len();
            if count > DIRS_MAX {
                return None;
            }
            let dirs = self.not_ignored(below)?;
            if dirs.is_empty() {
                return Some(());
            }
            below = Vec::new();
            for dir in &dirs {
                below.extend(self.dirs_in(dir, &BTreeSet::new())?);
            }
            self.found.extend(dirs);
        }
        below.is_empty().then_some(())
    }

    /// Returns the directories in a directory, without those in `tracked`; notes files of rules.
    /// `None` at a repository.
    fn dirs_in(&mut self, dir: &Path, tracked: &BTreeSet<Vec<u8>>) -> Option<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        let entries = match std::fs::read_dir(self.target.join(dir)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(dirs),
            entries => entries.ok()?,
        };
        for entry in entries {
            let entry = entry.ok()?;
            let (name, path) = (entry.file_name(), dir.join(entry.file_name()));
            if RULES.iter().any(|rules| name == *rules) {
                self.found.push(path.clone());
            }
            if name.eq_ignore_ascii_case(".git") {
                let is_own = dir.as_os_str().is_empty();
                is_own.then_some(())?;
                continue;
            }
            let is_tracked = || tracked.contains(path.as_os_str().as_bytes());
            if entry.file_type().ok()?.is_dir() && !is_tracked() {
                dirs.push(path);
            }
        }
        Some(dirs)
    }

    /// Returns the directories that git does not ignore.
    fn not_ignored(&self, dirs: Vec<PathBuf>) -> Option<Vec<PathBuf>> {
        if dirs.is_empty() {
            return Some(dirs);
        }
        // A leading colon would be a pattern, which this command does not take literally.
        let name = |dir: &PathBuf| Path::new(".").join(dir).join("").into_os_string();
        let names: Vec<OsString> = dirs.iter().map(name).collect();
        // git quotes such names in its answer.
        let is_odd = |b: &u8| b.is_ascii_control() || matches!(b, b'"' | b'\\');
        if names.iter().any(|name| name.as_bytes().iter().any(is_odd)) {
            return None;
        }
        let fixed = ["-c", "core.quotePath=false", "check-ignore", "--"].map(OsStr::new);
        let fixed = fixed.into_iter();
        let answer = self.git.run(fixed.chain(names.iter().map(OsString::as_os_str))).ok()?;
        // Status 1: none of them is ignored.
        matches!(answer.status.code(), Some(0 | 1)).then_some(())?;
        let ignored: BTreeSet<&[u8]> = answer.stdout.split(|b| *b == b'\n').collect();
        let kept =
            dirs.into_iter().zip(names).filter(|(_, name)| !ignored.contains(name.as_bytes()));
        Some(kept.map(|(dir, _)| dir).collect())
    }
}

/// Returns the directories that hold tracked files, the top included.
fn tracked_dirs(index: &[u8], hash: Hash) -> Option<BTreeSet<Vec<u8>>> {
    let mut dirs = BTreeSet::from([Vec::new()]);
    let mut last = Vec::new();
    read::each(index, hash, |entry| {
        let end = entry.path.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let dir = &entry.path[..end];
        if dir != last.as_slice() {
            let slashes = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
            dirs.extend(slashes.chain([dir.len()]).map(|at| dir[..at].to_vec()));
            dir.clone_into(&mut last);
        }
    })?;
    Some(dirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_settings_are_understood() {
        let of = |text: &str| named(text);
        assert_eq!(of("[core]\n\tbare = false\n"), Some(Vec::new()));
        let plain = of("[core]\n\texcludesFile = /etc/ignore\n").expect("plain");
        assert_eq!(plain, [PathBuf::from("/etc/ignore")]);
        for odd in [
            "[include]\n\tpath = more",
            "[includeIf \"gitdir:/a\"]\n\tpath = more",
            "[core]\n\texcludesfile = \"/a b\"",
            "[core]\n\texcludesfile = relative",
            "[core]\n\texcludesfile",
            "[core]\n\tattributesFile = /a ; comment",
            "[core]\n\tattributesFile = %(prefix)/a",
        ] {
            assert_eq!(of(odd), None, "{odd:?}");
        }
    }
}
