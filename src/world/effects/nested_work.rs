//! Finds the repositories inside a worktree, and whether they hold work of their own.
//!
//! A nested repository (a clone in `node_modules`, a submodule, a bare repository in `build`)
//! counts as work, with one exception: a clone that is clean and whose every ref, stash and past
//! HEAD is reachable from its own remote-tracking refs, because it can be cloned again. A
//! repository that cannot be inspected counts as work. Reads only.

use std::path::{Path, PathBuf};

use crate::core::Fault;
use crate::failpoint::guard;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::nested::{self, Limits};
use crate::world::process::cancel::Cancel;
use crate::world::status::query::OPERATIONS;

/// Entries after which a walk checks for a cancellation.
const CHECK_EVERY: u64 = 1_024;
/// A longer `.git` file is not a pointer.
const POINTER_BYTES_MAX: u64 = 8_192;

/// A nested repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::world) struct NestedRepository {
    /// Its path relative to the worktree; for a submodule that is not checked out, a
    /// path below `.git/modules`.
    pub(in crate::world) path: PathBuf,
    /// Its git directory; none if its pointer leads nowhere.
    pub(in crate::world) git_dir: Option<PathBuf>,
    /// Whether it has a working tree at `path`.
    pub(in crate::world) has_files: bool,
    /// The reason why it counts as work; none if it holds nothing of its own.
    pub(in crate::world) work: Option<String>,
}

/// The result of a search for nested repositories.
#[derive(Debug, Default)]
pub(in crate::world) struct Search {
    pub(in crate::world) found: Vec<NestedRepository>,
    /// Directories that could not be read, with the reason: they may hold repositories.
    pub(in crate::world) unknown: Vec<String>,
    /// Files and directories that git takes for its own and ignores, relative to the worktree.
    pub(in crate::world) passed_over: Vec<PathBuf>,
}

/// Finds and inspects the repositories in a worktree. `was` is the usual path of the worktree: a
/// pointer may name a place below it, although the worktree is elsewhere now.
///
/// # Errors
/// When it is cancelled.
pub(in crate::world) fn search(
    target: &Path,
    admin: &Path,
    was: &Path,
    cancel: &Cancel,
) -> Result<Search, Fault> {
    if !guard::stands("nested") {
        return Ok(Search::default());
    }
    let mut ask = |n: u64| {
        if n.is_multiple_of(CHECK_EVERY) { cancel.check() } else { Ok(()) }
    };
    let walked = nested::below(target, Limits::ALL, &mut ask)?;
    let mut search = Search::default();
    let relative = |path: &Path| path.strip_prefix(target).unwrap_or(path).to_owned();
    for (path, why) in &walked.unknown {
        search.unknown.push(format!("{}: {why}", relative(path).display()));
    }
    for place in walked.repositories {
        let path = relative(&place);
        let git_dir = git_dir(&place, admin, (was, target));
        let has_files = place.join(".git").symlink_metadata().is_ok();
        search.found.push(inspect_repository(path, git_dir, has_files, &place, cancel));
    }
    modules(admin, &mut search, cancel)?;
    if !walked.disguised.is_empty() && ignores_case(target, admin, cancel)? {
        search.passed_over = walked.disguised.iter().map(|path| relative(path)).collect();
        // Sorted, so that a path inside another one follows it and is dropped as a part of it.
        search.passed_over.dedup_by(|inside, outer| inside.starts_with(&*outer));
    }
    Ok(search)
}

/// Returns whether git takes `.GIT` for its own directory: then no status shows
/// it, and no add takes it.
fn ignores_case(target: &Path, admin: &Path, cancel: &Cancel) -> Result<bool, Fault> {
    let git = Git::exact(admin, Some(target), None, cancel);
    let answer = git.run(["config", "--type=bool", "--get", "core.ignoreCase"])?;
    Ok(answer.stdout.trim_ascii() == b"true")
}

/// Adds submodules that are not checked out: their repositories exist nevertheless.
fn modules(admin: &Path, search: &mut Search, cancel: &Cancel) -> Result<(), Fault> {
    let folder = admin.join("modules");
    if !folder.exists() {
        return Ok(());
    }
    let mut ask = |n: u64| {
        if n.is_multiple_of(CHECK_EVERY) { cancel.check() } else { Ok(()) }
    };
    let walked = nested::find(&folder, Limits::ALL, &mut ask)?;
    search.unknown.extend(walked.unknown.iter().map(|(p, why)| format!("{}: {why}", p.display())));
    for place in walked.repositories {
        let real = place.canonicalize().unwrap_or_else(|_| place.clone());
        let is_it = |inner: &NestedRepository| {
            inner.git_dir.as_ref().and_then(|dir| dir.canonicalize().ok()).as_ref() == Some(&real)
        };
        if !search.found.iter().any(is_it) {
            let below = place.strip_prefix(admin).unwrap_or(&place);
            let path = Path::new(".git").join(below);
            search.found.push(inspect_repository(path, Some(place.clone()), false, &place, cancel));
        }
    }
    Ok(())
}

/// Inspects one repository; one that cannot be inspected counts as work.
fn inspect_repository(
    path: PathBuf,
    git_dir: Option<PathBuf>,
    has_files: bool,
    place: &Path,
    cancel: &Cancel,
) -> NestedRepository {
    let work = match &git_dir {
        None => Some("its .git points to no repository".to_owned()),
        Some(dir) => work_in(dir, has_files.then_some(place), cancel)
            .unwrap_or_else(|fault| Some(format!("cannot be inspected: {}", fault.message))),
    };
    NestedRepository { path, git_dir, has_files, work }
}

/// Returns the git directory of a repository: its `.git`, the target of that pointer, or the place
/// itself. The git directory of a submodule is in the administrative directory, at its present
/// path: the submodule's pointer is relative, and leads nowhere once the worktree has moved.
fn git_dir(place: &Path, admin: &Path, (was, target): (&Path, &Path)) -> Option<PathBuf> {
    let pointer = place.join(".git");
    match pointer.symlink_metadata() {
        Ok(found) if found.is_dir() => Some(pointer),
        Ok(found) if found.is_file() && found.len() < POINTER_BYTES_MAX => {
            let text = std::fs::read(&pointer).ok()?;
            let path = text.strip_prefix(b"gitdir: ")?.trim_ascii_end();
            let dir = place.join(paths::from_bytes(path));
            let moved = dir.strip_prefix(was).ok().map(|below| target.join(below));
            let module = module_of(path).map(|below| admin.join("modules").join(below));
            // Another repository may exist at the old path by now, so the moved one is tried first.
            let mut places = [moved, Some(dir), module].into_iter().flatten();
            places.find(|dir| dir.join("HEAD").symlink_metadata().is_ok())
        }
        Ok(_) => None,
        Err(_) => Some(place.to_owned()),
    }
}

/// Returns the path after `modules` in the pointer of a submodule of a managed worktree.
fn module_of(pointer: &[u8]) -> Option<&Path> {
    const FOLDER: &[u8] = b"/worktrees/gk-";
    let at = pointer.windows(FOLDER.len()).rposition(|part| part == FOLDER)? + FOLDER.len();
    let rest = &pointer[at..];
    let end = rest.iter().position(|b| *b == b'/')?;
    rest[end..].strip_prefix(b"/modules/").map(paths::from_bytes)
}

/// Returns why a repository holds work of its own; none if it does not.
fn work_in(dir: &Path, files: Option<&Path>, cancel: &Cancel) -> Result<Option<String>, Fault> {
    // The repository's own settings may name a working tree at a path that has moved.
    let git = Git::exact(dir, Some(files.unwrap_or(dir)), None, cancel);
    if let Some((_, _, what)) = OPERATIONS.iter().find(|(name, ..)| dir.join(name).exists()) {
        return Ok(Some(format!("in progress: {what}")));
    }
    if let Some(files) = files {
        let args = ["status", "--porcelain", "-z", "--untracked-files=all"];
        let status = git.output(args.into_iter().chain(["--ignore-submodules=none"]))?;
        let changed = status.split(|b| *b == 0).filter(|e| !e.is_empty()).count();
        if changed > 0 {
            return Ok(Some(format!("{changed} changed files")));
        }
        let listed = git.output(["ls-files", "-v", "-z"])?;
        if crate::world::git::listing::hidden(&listed, files).next().is_some() {
            return Ok(Some("files that are hidden from git status".to_owned()));
        }
    }
    let args = ["rev-list", "--count", "--all", "--reflog", "HEAD", "--not", "--remotes"];
    let own = git.line(args)?;
    Ok((own != "0").then(|| format!("{own} commits that are on none of its remotes")))
}

/// The line that names a nested repository in a refusal or a report.
pub(in crate::world) fn line(inner: &NestedRepository) -> String {
    let path = inner.path.display();
    match &inner.work {
        Some(why) => format!("nested repository: {path} ({why})"),
        None => format!("nested repository without work at risk: {path}"),
    }
}
