//! Makes an administrative directory one that git works in, before a restore publishes it.
//!
//! A worktree may be damaged when it is removed: a cut index crashes git; a wrong HEAD or
//! `commondir`, or settings that cannot be read, stop it. A restored environment is ready, so git
//! has to work in it. Each damaged file is set aside with the suffix `.damaged` and replaced;
//! nothing is deleted.

use std::path::Path;

use crate::core::Fault;
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;
use crate::world::git::index::format::Hash;
use crate::world::git::index::read;
use crate::world::git::refs;

/// Mends the administrative directory `staged` of the repository `common`. `branch` is checked out
/// where HEAD cannot be read; `head` is the commit that the worktree was at, if there
/// was one.
///
/// # Errors
/// When a file cannot be renamed or written, or git cannot run. Each step can be repeated.
pub(in crate::world) fn repair(
    git: &Git<'_>,
    staged: &Path,
    common: &Path,
    (branch, head): (&str, Option<&str>),
    hash: Option<Hash>,
) -> Result<(), Fault> {
    head_file(staged, branch)?;
    common_dir(staged, common)?;
    settings(git, staged)?;
    let own = Git::exact(staged, None, None, git.cancel());
    let Some(head) = head else { return Ok(()) };
    if index_is_whole(&own, staged, hash)? {
        return Ok(());
    }
    tracing::warn!(index = %staged.display(), "rebuilding a damaged index from {head}");
    set_aside(staged, "index")?;
    fresh_index(&own, staged, head)
}

/// Writes the index of a commit: every file as it is there, and none looked at yet.
///
/// # Errors
/// When git cannot run, or cannot read the commit.
pub(in crate::world) fn fresh_index(git: &Git<'_>, staged: &Path, head: &str) -> Result<(), Fault> {
    let fresh = staged.join("index.new");
    // With `-m` git marks the files that a sparse checkout leaves out. A split index would have its
    // shared half elsewhere.
    let mut command = git.command(["-c", "core.splitIndex=false", "read-tree", "-m", head]);
    command.env("GIT_INDEX_FILE", &fresh);
    let finished = git.run_command(command)?;
    if !finished.status.success() {
        return Err(git::Error::failed("git read-tree", &finished).into());
    }
    paths::rename(&fresh, staged.join("index")).map_err(paths::failed("write", staged))
}

/// HEAD names a ref or a commit; git takes a directory in which it does not for none of its own.
fn head_file(staged: &Path, branch: &str) -> Result<(), Fault> {
    let text = refs::head_text(staged).unwrap_or_default();
    let commit = std::str::from_utf8(&text).is_ok_and(|t| refs::is_object_id(t.trim_end()));
    if text.starts_with(b"ref: refs/") || commit {
        return Ok(());
    }
    set_aside(staged, "HEAD")?;
    let path = staged.join("HEAD");
    let text = format!("ref: refs/heads/{branch}\n");
    std::fs::write(&path, text).map_err(paths::failed("write", &path))
}

fn common_dir(staged: &Path, common: &Path) -> Result<(), Fault> {
    let path = staged.join("commondir");
    let text = std::fs::read(&path).unwrap_or_default();
    let named = staged.join(paths::from_bytes(text.trim_ascii_end()));
    let leads_there = !text.is_empty()
        && named.canonicalize().is_ok_and(|named| common.canonicalize().is_ok_and(|c| c == named));
    if leads_there {
        return Ok(());
    }
    set_aside(staged, "commondir")?;
    std::fs::write(&path, "../..\n").map_err(paths::failed("write", &path))
}

fn settings(git: &Git<'_>, staged: &Path) -> Result<(), Fault> {
    let path = staged.join("config.worktree");
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut command = git.command(["config", "--no-includes", "--list", "--file"]);
    command.arg(&path);
    if git.run_command(command)?.status.success() {
        return Ok(());
    }
    set_aside(staged, "config.worktree")
}

/// Whether git can read the index. A sum that fits is not enough: the shared half of a split index
/// may be gone, so git is asked about every index that is not understood here.
fn index_is_whole(git: &Git<'_>, staged: &Path, hash: Option<Hash>) -> Result<bool, Fault> {
    let Ok(index) = std::fs::read(staged.join("index")) else { return Ok(false) };
    let Some(hash) = hash else { return Ok(true) };
    if !read::is_summed(&index, hash) {
        return Ok(false);
    }
    if read::each(&index, hash, |_| {}).is_some() {
        return Ok(true);
    }
    Ok(git.run(["ls-files", "-z"])?.status.success())
}

fn set_aside(staged: &Path, name: &str) -> Result<(), Fault> {
    let path = staged.join(name);
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let aside = staged.join(format!("{name}.damaged"));
    paths::rename(&path, &aside).map_err(paths::failed("rename", &path))
}
