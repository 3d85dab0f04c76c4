//! Dropping what tools rebuild, while the worktree stays: build output is nearly all of the space.
//!
//! Only directories and files that git ignores, that a list names, and that hold nothing tracked.
//! They are renamed out of the worktree at once and unlinked then. Nothing is dropped while
//! something runs from it or writes there.

use std::path::{Path, PathBuf};

use super::git::{self, Git};
use super::marker::{self, Admin, Marker};
use super::process::scope::{Scope, Ties};
use super::remains::Pace;
use super::{Task, World, inspect, paths, removal, size, unlink};
use crate::core::event::Size;
use crate::core::{Code, Fault, Outcome};
use crate::killpoint::point;

/// Paths that the log names.
const NAMED_MAX: usize = 64;

/// Performs [`Step::Clean`](crate::core::Step::Clean).
pub(super) fn clean(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let Some(found) = marker::identity(&target)? else {
        let message = format!("{} is not there", target.display());
        return Err(Fault::new(Code::PathNotFound, message, "`groundskeeper rm` forgets it"));
    };
    let marker = Marker::read(&admin)?;
    let root = task.layout().worktrees();
    marker::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(git::LONG);
    // What an interrupted attempt had moved away already.
    let mut pace = Pace::new(task.cancel);
    for aside in asides(task) {
        unlink::tree(&aside, &mut |_| pace.breathe())?;
    }
    let (mut names, mut total) = (Vec::new(), Size::default());
    for path in rebuildable(task.world, &git)? {
        let whole = target.join(&path);
        not_in_use(task, &whole)?;
        removal::no_mounts(&whole)?;
        let mut pace = Pace::new(task.cancel);
        let size = size::of(&whole, &mut |_| pace.breathe())?;
        // Looked at again at the last moment: the list is as old as what was done since.
        if !rebuildable(task.world, &git)?.contains(&path) {
            continue;
        }
        drop_one(task, &whole)?;
        total.entries += size.entries;
        total.apparent += size.apparent;
        total.allocated += size.allocated;
        if names.len() < NAMED_MAX {
            names.push(path.display().to_string());
        }
        point("clean.dropped_one");
    }
    Ok(Outcome::Cleaned(names, total))
}

/// The directories of a worktree that tools rebuild, relative to it.
pub(super) fn rebuildable(world: &World, git: &Git<'_>) -> Result<Vec<PathBuf>, Fault> {
    let args = ["--porcelain=v2", "-z", "--untracked-files=normal", "--ignored=matching"];
    let listed = git.output(["status"].into_iter().chain(args))?;
    let entries = listed.split(|b| *b == 0).filter(|e| !e.is_empty());
    let folders = inspect::Folders::of(world, git, entries)?;
    let names = folders.iter().map(|f| f.strip_suffix(b"/").unwrap_or(f));
    Ok(names.map(|name| PathBuf::from(paths::from_bytes(name))).collect())
}

/// Whoever runs from it or writes there needs it, whoever started them.
fn not_in_use(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let scope = Scope {
        roots: vec![path.to_owned()],
        with_bystanders: true,
        ties: Ties::Place,
        ..Scope::of(task.env(), &task.world.cgroups)
    };
    let users = scope.look().inside;
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("{} is in use", path.display());
    let lines = users.iter().map(|p| format!("{} {} ({})", p.pid, p.name, p.why));
    Err(Fault::new(Code::EnvironmentBusy, message, "end what uses it, then try again")
        .with_evidence(lines))
}

/// Out of the worktree first, at once: a build that starts now must not find half of it.
fn drop_one(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let mut pace = Pace::new(task.cancel);
    let mut asides = asides(task).into_iter();
    let moved = asides.find_map(|aside| match removal::rename(path, &aside) {
        // The trash may be on another file system; there is one beside the worktrees.
        Err(fault) if removal::is_elsewhere(&fault) => None,
        moved => Some(moved.map(|()| aside)),
    });
    let aside = moved.unwrap_or_else(|| {
        let message = format!("{} can be moved nowhere", path.display());
        Err(Fault::new(Code::Io, message, "keep the data directory on one file system"))
    })?;
    point("clean.moved_one");
    unlink::tree(&aside, &mut |_| pace.breathe()).map(drop)
}

/// Where something is between the worktree and its end.
fn asides(task: &Task<'_>) -> Vec<PathBuf> {
    let env = task.env();
    let name = format!(".clean-{}.{}", env.id, env.incarnation);
    task.layout().trashes().into_iter().map(|trash| trash.join(&name)).collect()
}
