//! Dropping what tools rebuild, while the worktree stays: build output is nearly all of the space.
//!
//! Only directories and files that git ignores, that a list names, and that hold nothing tracked.
//! They are renamed out of the worktree at once and unlinked then. Nothing is dropped while
//! something runs from it or writes there.

use std::path::{Path, PathBuf};

use super::git::{self, Git};
use super::marker::{self, Admin, Marker};
use super::process::scope::Scope;
use super::remains::Pace;
use super::{Task, inspect, paths, removal, size, unlink};
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
    unlink::tree(&aside(task), &mut |_| pace.breathe())?;
    let (mut names, mut total) = (Vec::new(), Size::default());
    for path in rebuildable(&git)? {
        let whole = target.join(&path);
        not_in_use(task, &whole)?;
        removal::no_mounts(&whole)?;
        let size = drop_one(task, &whole)?;
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

/// The ignored paths of a worktree that tools rebuild, relative to it.
pub(super) fn rebuildable(git: &Git<'_>) -> Result<Vec<PathBuf>, Fault> {
    let args = ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"];
    let listed = git.output(args)?;
    let paths = listed.split(|b| *b == 0).filter(|p| !p.is_empty());
    let mut found: Vec<PathBuf> = paths.filter_map(rebuildable_part).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The first part of a path that is named in the list, and all before it.
fn rebuildable_part(path: &[u8]) -> Option<PathBuf> {
    inspect::is_rebuildable(path).then(|| {
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        PathBuf::from(paths::from_bytes(trimmed))
    })
}

fn not_in_use(task: &Task<'_>, path: &Path) -> Result<(), Fault> {
    let env = task.env();
    let scope = Scope {
        roots: vec![path.to_owned()],
        recorded: Vec::new(),
        started_only: false,
        ..Scope::of(env, &task.world.cgroups)
    };
    let mut users = scope.look().inside;
    users.retain(|p| !matches!(p.why.as_str(), "cgroup" | "marker" | "child"));
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("{} is in use", path.display());
    let lines = users.iter().map(|p| format!("{} {} ({})", p.pid, p.name, p.why));
    Err(Fault::new(Code::EnvironmentBusy, message, "end what uses it, then try again")
        .with_evidence(lines))
}

/// Where something is between the worktree and its end.
fn aside(task: &Task<'_>) -> PathBuf {
    let env = task.env();
    task.layout().trash().join(format!(".clean-{}.{}", env.id, env.incarnation))
}

fn drop_one(task: &Task<'_>, path: &Path) -> Result<Size, Fault> {
    let mut pace = Pace::new(task.cancel);
    let size = size::of(path, &|_| false, &mut |_| pace.breathe())?;
    // Out of the worktree first: a build that starts now must not find half of it.
    let aside = aside(task);
    if path.is_dir() && !path.is_symlink() {
        removal::rename(path, &aside)?;
        point("clean.moved_one");
        unlink::tree(&aside, &mut |_| pace.breathe())?;
    } else {
        removal::remove_ours_file(path)?;
    }
    Ok(size)
}
