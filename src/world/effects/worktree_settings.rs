//! The settings that a new worktree takes over from the one it was requested in: its own
//! configuration and its sparse patterns. Never changes those of another worktree.

use std::io;
use std::path::Path;

use crate::core::{Code, Fault};
use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git;
use crate::world::git::command::Git;

/// Copies the per-worktree settings of the source worktree, as `git worktree add` does, without
/// those that only make sense there.
pub(super) fn copy_worktree_config(task: &Task<'_>, staged: &Path) -> Result<(), Fault> {
    let common = paths::from_host(&task.env().plan.repository.common_dir);
    let source = task.env().plan.repository.source.as_ref();
    let source = source.and_then(|source| git_dir_of(paths::borrowed(source)));
    let source = source.unwrap_or_else(|| common.clone());
    let (from, to) = (source.join("config.worktree"), staged.join("config.worktree"));
    let copied = match std::fs::copy(&from, &to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        copied => copied.map_err(paths::failed("copy", &from)).map(|_| true)?,
    };
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let on = |file: &Path, args: &[&str]| {
        let mut command = git.command(["config", "--file"]);
        command.arg(file).args(args);
        git.run_command(command)
    };
    for key in ["core.bare", "core.worktree"].iter().filter(|_| copied) {
        // Exit status 5: the key did not exist.
        let finished = on(&to, &["--unset-all", key])?;
        if !finished.status.success() && finished.status.code() != Some(5) {
            return Err(git::Error::failed("git config", &finished).into());
        }
    }
    // With this extension, git applies `core.worktree` and `core.bare` from the
    // shared file to every worktree.
    let shared = common.join("config");
    let place = on(&shared, &["--includes", "--get", "core.worktree"])?;
    if place.status.success() {
        return Err(one_working_tree(&shared));
    }
    let bare = on(&shared, &["--includes", "--type=bool", "--get", "core.bare"])?;
    if bare.stdout.trim_ascii_end() == b"true" {
        let finished = on(&to, &["core.bare", "false"])?;
        if !finished.status.success() {
            return Err(git::Error::failed("git config", &finished).into());
        }
    }
    Ok(())
}

fn one_working_tree(shared: &Path) -> Fault {
    let shared = shared.display();
    let message = format!("{shared} sets one working tree for all worktrees (core.worktree)");
    let hint = format!(
        "run `git config --worktree core.worktree PATH` in the main worktree, then `git config \
         --file '{shared}' --unset core.worktree`: with extensions.worktreeConfig the setting \
         belongs to the main worktree alone"
    );
    Fault::new(Code::UnsupportedRepository, message, hint)
}

/// Copies the sparse-checkout patterns of the source worktree, as `git worktree add` does: the new
/// worktree omits the same files.
pub(super) fn copy_sparse_patterns(task: &Task<'_>, staged: &Path) -> Result<(), Fault> {
    let source = task.env().plan.repository.source.as_ref().map(paths::borrowed);
    let Some(from) = source.and_then(git_dir_of) else { return Ok(()) };
    let patterns = from.join("info/sparse-checkout");
    if !patterns.exists() {
        return Ok(());
    }
    let git = Git::exact(&from, source, Some(task.lock), task.cancel);
    let sparse = git.run(["config", "--type=bool", "--get", "core.sparseCheckout"])?;
    if sparse.stdout.trim_ascii_end() != b"true" {
        return Ok(());
    }
    let info = staged.join("info");
    std::fs::create_dir_all(&info).map_err(paths::failed("create", &info))?;
    let copy = info.join("sparse-checkout");
    std::fs::copy(&patterns, &copy).map_err(paths::failed("copy", &patterns)).map(drop)
}

/// Returns the git directory of a working tree, main or linked.
fn git_dir_of(source: &Path) -> Option<std::path::PathBuf> {
    let pointer = source.join(".git");
    if pointer.is_dir() {
        return Some(pointer);
    }
    let text = std::fs::read(&pointer).ok()?;
    Some(source.join(paths::from_bytes(text.strip_prefix(b"gitdir: ")?.trim_ascii_end())))
}
