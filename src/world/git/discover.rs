//! Finds the repository that a path lies in, and caches the result.
//!
//! Asking git costs a process. The answer stays valid while no `.git` appears between the path and
//! the top, and neither the `.git` at the top nor the repository's configuration file changes.
//! Checking that takes only a few calls of `lstat`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::core::event::Repository;
use crate::sync::lock_unpoisoned;
use crate::world::fs;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::error::{Error, Reason};
use crate::world::process::cancel::Cancel;
use crate::world::process::subprocess::Finished;

/// Bound on cached repositories; when it is reached, the cache is cleared.
const KNOWN_MAX: usize = 256;

/// Cache of repositories by real path, each with the files that its validity depends on.
#[derive(Debug, Default)]
pub struct RepositoryCache(Mutex<BTreeMap<PathBuf, (Repository, Dependencies)>>);

/// Files with their state at discovery; the answer is valid while all are unchanged.
type Dependencies = Vec<(PathBuf, Option<Stamp>)>;
type Stamp = (u64, u64, i64, i64, u64, u32);

impl RepositoryCache {
    /// Finds the repository that `path` lies in, from the cache if the entry is still valid.
    ///
    /// # Errors
    /// As for [`discover`].
    pub fn find(&self, path: &Path, cancel: &Cancel) -> Result<Repository, Error> {
        let real = path.canonicalize().map_err(fs::Error::about("find", path))?;
        let known = lock_unpoisoned(&self.0).get(&real).cloned();
        if let Some((repository, dependencies)) = known
            && dependencies.iter().all(|(path, stamp)| stamp_of(path) == *stamp)
        {
            return Ok(repository);
        }
        let repository = discover(path, cancel)?;
        let mut known = lock_unpoisoned(&self.0);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        if let Some(dependencies) = dependencies(&real, &repository) {
            known.insert(real, (repository.clone(), dependencies));
        }
        Ok(repository)
    }
}

/// Returns all that the answer depends on; `None` for a bare repository, which is not cached.
fn dependencies(real: &Path, repository: &Repository) -> Option<Dependencies> {
    let top = paths::borrowed(repository.source.as_ref()?);
    if !real.starts_with(top) {
        return None;
    }
    let below = real.ancestors().take_while(|dir| dir.starts_with(top)).map(|d| d.join(".git"));
    let config = paths::from_host(&repository.common_dir).join("config");
    Some(
        below
            .chain([config])
            .map(|path| {
                let stamp = stamp_of(&path);
                (path, stamp)
            })
            .collect(),
    )
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    let found = path.symlink_metadata().ok()?;
    // The times of a directory change with every entry made in it; its identity suffices.
    let (time, nanos, size) =
        if found.is_dir() { (0, 0, 0) } else { (found.mtime(), found.mtime_nsec(), found.size()) };
    // Whether git trusts a repository depends on its owner.
    Some((found.dev(), found.ino(), time, nanos, size, found.uid()))
}

/// Finds the repository that `path` lies in by asking git.
///
/// # Errors
/// `Code::PathNotFound`, `Code::NotGitRepo`, `Code::UnsupportedRepository`, or
/// the error of git.
pub fn discover(path: &Path, cancel: &Cancel) -> Result<Repository, Error> {
    let real = path.canonicalize().map_err(fs::Error::about("find", path))?;
    if !real.is_dir() {
        return Err(Error::NotADirectory { path: path.to_owned() });
    }
    let git = Git::at(&real, None, cancel);
    let finished = git.run([
        "rev-parse",
        "--show-object-format",
        "--is-inside-work-tree",
        "--show-cdup",
        "--path-format=absolute",
        "--git-common-dir",
    ])?;
    if !finished.status.success() {
        return Err(not_a_repository(path, &finished));
    }
    // `--show-cdup` prints only dots and slashes, so no newline in a directory name can be mistaken
    // for the end of a line. The path that may contain one comes last.
    let mut parts = finished.stdout.splitn(4, |b| *b == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let object_format = String::from_utf8_lossy(part()).into_owned();
    let inside = part() == b"true";
    let (up, common) =
        if inside { (part(), part().to_vec()) } else { (&b""[..], common_dir(&git)?) };
    let common = common.strip_suffix(b"\n").unwrap_or(&common);
    let common = paths::from_bytes(common);
    let common_dir = common.canonicalize().map_err(fs::Error::about("find", common))?;
    let source = if inside {
        let top = real.join(paths::from_bytes(up));
        Some(top.canonicalize().map_err(fs::Error::about("find", &top))?)
    } else {
        None
    };
    Ok(Repository {
        name: name_of(&common_dir),
        common_dir: paths::to_host(&common_dir),
        source: source.as_deref().map(paths::to_host),
        object_format,
    })
}

/// Asks for the common directory alone: bare repositories and `.git` have no cdup.
fn common_dir(git: &Git<'_>) -> Result<Vec<u8>, Error> {
    git.output(["rev-parse", "--path-format=absolute", "--git-common-dir"])
}

fn not_a_repository(path: &Path, finished: &Finished) -> Error {
    let text = String::from_utf8_lossy(&finished.stderr);
    match Reason::of(&text) {
        Reason::NotARepository => Error::NotARepository { path: path.to_owned() },
        Reason::Untrusted => Error::untrusted(path, &text),
        _ => Error::failed("git rev-parse", finished),
    }
}

/// Returns the name of the worktree's directory: that of the project, without characters that could
/// be mistaken for an option, a hidden file or a line break.
fn name_of(common_dir: &Path) -> String {
    let last = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    let name = match last(common_dir) {
        Some(name) if name == ".git" => common_dir.parent().and_then(last),
        Some(name) => Some(name.strip_suffix(".git").unwrap_or(&name).to_owned()),
        None => None,
    };
    let name: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '_' } else { c })
        .collect();
    let name = name.trim_start_matches(['.', '-']).to_owned();
    if name.is_empty() { "repository".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worktrees_take_project_name() {
        for (dir, name) in [
            ("/a/project/.git", "project"),
            ("/a/project.git", "project"),
            ("/a/b c/.git", "b c"),
            ("/a/-x/.git", "x"),
            ("/a/new\nline/.git", "new_line"),
            ("/.git", "repository"),
            ("/a/super/.git/modules/sub", "sub"),
        ] {
            assert_eq!(name_of(Path::new(dir)), name, "{dir}");
        }
    }
}
