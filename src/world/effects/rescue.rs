//! Saving what a worktree has and no branch has, and putting it back: the two steps of it.
//!
//! How it is saved is in `rescuer.rs`. Ignored files are saved by the trash alone: they may be
//! secrets, and git was told not to have them. The worktree is not changed here, but for a fresh
//! one that a rescue is put into.

use std::path::Path;

use crate::core::event::{Rescue, RestoreFrom};
use crate::core::{Code, Fault, Outcome};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::rescuer::Rescuer;
use crate::world::effects::{integration, nested_rescue, raw_copies};
use crate::world::fs::{paths, removal};
use crate::world::git::command::{self, Git};
use crate::world::git::marker::Admin;

/// Paths that one git call gets.
const ARGUMENTS_MAX: usize = 200;

impl<'a> Rescuer<'a> {
    /// What saves the work of an environment whose worktree is where it belongs.
    pub(in crate::world) fn of(task: &'a Task<'a>) -> Self {
        let env = task.env();
        let teardown = env.teardown.as_ref();
        let head = teardown.map(|t| t.head.clone()).unwrap_or_default();
        let start = env.start().map(str::to_owned).unwrap_or_default();
        let base = env.base.as_ref().map(|b| b.commit.clone()).unwrap_or_default();
        Self {
            log: task.log_id(),
            life: env.life(),
            plan: &env.plan,
            layout: task.layout(),
            lock: task.lock,
            cancel: task.cancel,
            admin: Admin::of(task.log_id(), env).published,
            target: paths::from_host(&env.plan.path),
            fallback: vec![head, start, base],
            before: teardown.and_then(|t| t.rescue.clone()),
        }
    }
}

/// Performs [`Step::Rescue`](crate::core::Step::Rescue).
pub(in crate::world) fn rescue(task: &Task<'_>) -> Result<Outcome, Fault> {
    let rescuer = Rescuer::of(task);
    let common = paths::from_host(&task.env().plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("look at", &common))? {
        return Err(integration::repository_is_gone(task));
    }
    let saved = rescuer.save().and_then(|rescue| {
        point("rescue.committed");
        rescue.as_ref().map_or(Ok(()), |rescue| rescuer.refer(rescue)).map(|()| rescue)
    });
    saved.map(Outcome::Rescued).map_err(|fault| with_way_out(task, fault))
}

/// What to do when git cannot save anything here: nobody has to keep a worktree because of that.
fn with_way_out(task: &Task<'_>, fault: Fault) -> Fault {
    let unreadable = [Code::GitFailed, Code::PathNotFound, Code::Io, Code::PermissionDenied];
    if !unreadable.contains(&fault.code) || task.cancel.is_cancelled() {
        return fault;
    }
    let hint = format!(
        "mend the repository (`git fsck` there says more), or run `groundskeeper rm {} --force \
         --no-rescue`: all of it goes to the trash, and stays there until it can be looked at",
        task.env().id
    );
    Fault { hint, ..fault }
}

/// Performs [`Step::ApplyRescue`](crate::core::Step::ApplyRescue): files and index of a fresh
/// worktree become those that the rescue holds.
pub(in crate::world) fn apply(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let from = env.restore.clone().unwrap_or_default();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(command::LONG);
    // Done again it ends in the same place: nobody has worked here yet. So the lock of its index is
    // that of a git of ours which was killed.
    let unlock = || removal::remove_ours_file(&admin.join("index.lock"));
    unlock()?;
    if !from.rescue.is_empty() {
        apply_commit(&git, &from)?;
    }
    point("rescue.applied");
    if let Some(saved) = &from.saved {
        apply_copies(task, &git, saved, &target)?;
    }
    unlock()?;
    Ok(Outcome::Applied)
}

fn apply_commit(git: &Git<'_>, from: &RestoreFrom) -> Result<(), Fault> {
    git.output(["read-tree", "--reset", "-u", &from.rescue])?;
    write_all(git, from)?;
    // The index as it was: the second parent's, when that is the index, else that of HEAD.
    let second = format!("{}^2", from.rescue);
    let subject = git.run(["log", "-1", "--format=%s", &second])?;
    let is_index = subject.status.success() && subject.stdout.starts_with(b"index of ");
    let index = if is_index { second } else { from.head.clone() };
    if index.is_empty() {
        return git.output(["read-tree", "--empty"]).map(drop);
    }
    git.output(["read-tree", "--reset", &index])?;
    // So that a status need not read every file.
    let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    Ok(())
}

/// In a sparse worktree git leaves files out that are in the rescue; those that it adds to HEAD
/// were there.
fn write_all(git: &Git<'_>, from: &RestoreFrom) -> Result<(), Fault> {
    let sparse = git.run(["config", "--type=bool", "--get", "core.sparseCheckout"])?;
    if sparse.stdout.trim_ascii() != b"true" || from.head.is_empty() {
        return Ok(());
    }
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--diff-filter=d"];
    let listed = git.output(args.into_iter().chain([from.head.as_str(), &from.rescue]))?;
    let paths: Vec<&Path> =
        listed.split(|b| *b == 0).filter(|p| !p.is_empty()).map(paths::from_bytes).collect();
    for some in paths.chunks(ARGUMENTS_MAX) {
        let args = ["checkout-index", "--force", "-q", "--ignore-skip-worktree-bits", "--"];
        let mut command = git.command(args);
        command.args(some);
        let written = git.run_command(command)?;
        if !written.status.success() {
            return Err(command::said("git checkout-index", &written));
        }
    }
    Ok(())
}

/// What git would not have given back, and the repositories inside.
fn apply_copies(
    task: &Task<'_>,
    git: &Git<'_>,
    saved: &Rescue,
    target: &Path,
) -> Result<(), Fault> {
    let put = |raw| raw_copies::put_back(raw, target, task.cancel);
    saved.raw.as_ref().map_or(Ok(()), put)?;
    if !saved.nested.is_empty() {
        let common = paths::from_host(&task.env().plan.repository.common_dir);
        let outer = Git::exact(&common, None, Some(task.lock), task.cancel).within(command::LONG);
        nested_rescue::put_back(&outer, saved, target)?;
        // Over what git has written into them.
        saved.raw.as_ref().map_or(Ok(()), put)?;
        nested_rescue::untie_all(saved, target, task.cancel)?;
    }
    point("rescue.copies_applied");
    let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    Ok(())
}
