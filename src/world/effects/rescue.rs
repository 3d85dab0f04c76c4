//! The steps that save a worktree's work before its removal, and that put a rescue back.
//!
//! The rescue itself is made in `make_rescue.rs`. Ignored files are saved by the trash alone: they
//! may be secrets, and git was told not to track them. No worktree is changed here, except a fresh
//! one that a rescue is put into.

use std::path::Path;

use crate::core::empty_is_none::non_empty;
use crate::core::event::Rescue;
use crate::core::{Code, EnvironmentOutcome, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::nested_restore::LentRef;
use crate::world::effects::rescuer::Rescuer;
use crate::world::effects::{integration, nested_restore, raw_restore};
use crate::world::fs::names::Names;
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::marker::Admin;

/// Most paths passed to one git call.
const ARGUMENTS_MAX: usize = 200;

impl<'a> Rescuer<'a> {
    /// Creates the rescuer for an environment whose worktree is at its usual path.
    pub(in crate::world) fn of(task: &'a Task<'a>) -> Self {
        let env = task.env();
        let teardown = env.teardown.as_ref();
        let base = env.base.as_ref().map(|b| b.commit.as_str());
        let start = env.start().into_iter().chain(base).map(str::to_owned);
        Self {
            log: task.log_id(),
            life: env.life(),
            plan: &env.plan,
            layout: task.layout(),
            lock: task.lock,
            cancel: task.cancel,
            admin: Admin::of(task.log_id(), env).published,
            target: paths::from_host(&env.plan.path),
            recorded: teardown.and_then(|t| t.head.clone()),
            start: start.filter_map(non_empty).collect(),
            before: teardown.and_then(|t| t.rescue.clone()),
        }
    }
}

/// Performs [`EnvironmentStep::Rescue`](crate::core::EnvironmentStep::Rescue).
pub(in crate::world) fn rescue(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let rescuer = Rescuer::of(task);
    let common = paths::from_host(&task.env().plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        return Err(integration::repository_is_gone(task));
    }
    let saved = rescuer.save().and_then(|saved| {
        let rescue = saved.map(|saved| saved.rescue);
        point("rescue.committed");
        // The ref is created last: it must not name a commit that is not complete.
        rescue.as_ref().map_or(Ok(()), |rescue| rescuer.refer(rescue)).map(|()| rescue)
    });
    saved.map(EnvironmentOutcome::Rescued).map_err(|fault| with_way_out(task, fault))
}

/// Adds a hint for the case that git cannot save anything here: the user can
/// still remove the worktree.
fn with_way_out(task: &Task<'_>, fault: Fault) -> Fault {
    let unreadable = [Code::GitFailed, Code::PathNotFound, Code::Io, Code::PermissionDenied];
    if !unreadable.contains(&fault.code) || task.cancel.is_cancelled() {
        return fault;
    }
    let hint = format!(
        "run `git fsck` in the repository and repair it, or run `groundskeeper rm {} --force \
         --no-rescue`: all of it goes to the trash, and stays there until it can be inspected",
        task.env().id
    );
    Fault { hint, ..fault }
}

/// Performs [`EnvironmentStep::ApplyRescue`](crate::core::EnvironmentStep::ApplyRescue): gives a
/// fresh worktree the files and the index that the rescue holds.
pub(in crate::world) fn apply(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let from = env.restore.clone().unwrap_or_default();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(command::LONG);
    // Idempotent, because no agent has worked here yet. For the same reason a lock on its index can
    // only be that of a git of ours that was killed.
    let unlock = || removal::remove_ours_file(&admin.join("index.lock"));
    unlock()?;
    if let Some(rescue) = &from.rescue {
        apply_commit(&git, rescue, from.head.as_deref())?;
    }
    point("rescue.applied");
    if let Some(saved) = &from.saved {
        apply_copies(task, &git, saved, &target)?;
    }
    unlock()?;
    Ok(EnvironmentOutcome::Applied)
}

fn apply_commit(git: &Git<'_>, rescue: &str, head: Option<&str>) -> Result<(), Fault> {
    git.output(["read-tree", "--reset", "-u", rescue])?;
    if let Some(head) = head {
        write_all(git, head, rescue)?;
    }
    // Restores the index: the second parent's tree if that is the index commit, else that of HEAD.
    let second = format!("{rescue}^2");
    let subject = git.run(["log", "-1", "--format=%s", &second])?;
    let is_index = subject.status.success() && subject.stdout.starts_with(b"index of ");
    let Some(index) = Some(second.as_str()).filter(|_| is_index).or(head) else {
        git.output(["read-tree", "--empty"])?;
        return Ok(());
    };
    git.output(["read-tree", "--reset", index])?;
    // Otherwise the next status would have to read every file.
    let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    Ok(())
}

/// Writes the files that a sparse checkout omits. Those that the rescue adds to
/// HEAD were in the worktree.
fn write_all(git: &Git<'_>, head: &str, rescue: &str) -> Result<(), Fault> {
    let sparse = git.run(["config", "--type=bool", "--get", "core.sparseCheckout"])?;
    if sparse.stdout.trim_ascii() != b"true" {
        return Ok(());
    }
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=d"];
    let listed = git.output(args.into_iter().chain([head, rescue]))?;
    let paths: Vec<&Path> =
        listed.split(|b| *b == 0).filter(|p| !p.is_empty()).map(paths::from_bytes).collect();
    for some in paths.chunks(ARGUMENTS_MAX) {
        let args = ["checkout-index", "--force", "-q", "--ignore-skip-worktree-bits", "--"];
        let mut command = git.command(args);
        command.args(some);
        let written = git.run_command(command)?;
        if !written.status.success() {
            return Err(git::Error::failed("git checkout-index", &written).into());
        }
    }
    Ok(())
}

/// Puts back the raw copies, which git would not have given back, and the nested repositories.
fn apply_copies(
    task: &Task<'_>,
    git: &Git<'_>,
    saved: &Rescue,
    target: &Path,
) -> Result<(), Fault> {
    let put = |raw| raw_restore::put_back(raw, target, task.cancel);
    saved.raw.as_ref().map_or(Ok(()), put)?;
    if !saved.nested.is_empty() {
        let common = paths::from_host(&task.env().plan.repository.common_dir);
        let outer = Git::exact(&common, None, Some(task.lock), task.cancel).within(command::LONG);
        let name = Names::of(task.log_id(), task.env().life()).fetch();
        let lent = LentRef { common: &common, name: &name };
        nested_restore::put_back(&outer, saved, target, &lent)?;
        // Again, because git has just written its own version of some of these files.
        saved.raw.as_ref().map_or(Ok(()), put)?;
        nested_restore::detach_all(saved, target, task.cancel)?;
    }
    point("rescue.copies_applied");
    let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    Ok(())
}
