//! Takes back what a failed or cancelled provision created, at whatever point it stopped.
//!
//! Looks for each trace separately, because the attempt may have been killed at any point. Whatever
//! is not proven ours is left alone.

use std::collections::BTreeSet;

use crate::core::event::Rescue;
use crate::core::{EnvironmentOutcome, Fault, RolledBackTo};
use crate::failpoint::kill::point;
use crate::world::effects::context::Task;
use crate::world::effects::rescuer::{Rescuer, SavedWork};
use crate::world::effects::{add_worktree, archive, hook, restore};
use crate::world::fs;
use crate::world::fs::{names, paths, removal};
use crate::world::git::command::Git;
use crate::world::git::heads::Heads;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::git::ref_changes::Change;
use crate::world::git::{refs, registration};

/// Performs [`EnvironmentStep::RollBack`](crate::core::EnvironmentStep::RollBack).
pub(in crate::world) fn roll_back(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    hook::end_earlier(task)?;
    if env.restore.as_ref().is_some_and(|r| r.trash.is_some()) {
        return restore::undo(task);
    }
    let admin = Admin::of(task.log_id(), env);
    let (head, rescue) = rescue(task, &admin)?;
    remove_directory(task, &admin)?;
    point("rollback.directory_gone");
    registration::hide(&task.owner(), &admin)?;
    point("rollback.hidden");
    let left: Vec<String> = remove_branch(task)?.into_iter().chain(unproven(task)?).collect();
    registration::archive(&task.owner(), &admin)?;
    registration::remove(&task.owner(), &admin)?;
    let name = paths::from_host(&env.plan.path);
    let folder = names::folder(env.life());
    let name = name.file_name().unwrap_or_default();
    let mut places = task.layout().trashes().into_iter().map(|t| t.join(&folder).join(name));
    let trashed = places.find(|place| paths::exists(place).unwrap_or(false));
    let trash = trashed.as_deref().map(paths::to_host);
    Ok(EnvironmentOutcome::RolledBack(RolledBackTo { trash, head, rescue, left }))
}

/// Returns where HEAD is, and a rescue if commits were made there. Files that a setup wrote are
/// only kept in the trash for the retention time, like the setup's transcript; commits are work.
fn rescue(task: &Task<'_>, admin: &Admin) -> Result<(Option<String>, Option<Rescue>), Fault> {
    let env = task.env();
    let common = paths::from_host(&env.plan.repository.common_dir);
    let ours = marker_of(task, admin).is_some_and(|(_, used)| used);
    if !ours || !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        return Ok((None, None));
    }
    let rescuer = Rescuer::of(task);
    let heads = Heads::read(&admin.published).with_history_of(&common, &env.plan.branch);
    let head = rescuer.head(&heads)?;
    let known: BTreeSet<&str> = env.start().into_iter().chain(head.as_deref()).collect();
    let moved = head.as_deref() != env.start();
    let work = moved || !heads.held_here_alone(&rescuer.repository(), &known)?.is_empty();
    if !work {
        return Ok((head, None));
    }
    let rescue = match rescuer.save() {
        Ok(Some(SavedWork { rescue, .. })) => {
            point("rescue.committed");
            rescuer.refer(&rescue).map(|()| Some(rescue))
        }
        Ok(None) => Ok(None),
        Err(fault) => Err(fault),
    };
    match rescue {
        Err(fault) if task.cancel.is_cancelled() => Err(fault),
        // The provision must be rolled back in any case; the trash entry
        // holds the work and is kept.
        Err(fault) => {
            let lacks = vec![format!("nothing could be saved: {fault}")];
            Ok((head, Some(Rescue { lacks, ..Rescue::default() })))
        }
        Ok(rescue) => Ok((head, rescue)),
    }
}

/// Renames the worktree away. A published one may have been worked in, so it goes to the trash like
/// any other; an unpublished one is deleted. Both can be repeated.
fn remove_directory(task: &Task<'_>, admin: &Admin) -> Result<(), Fault> {
    let env = task.env();
    let layout = task.layout();
    let doomed = layout.rollback_of(&env.id, env.incarnation);
    let target = paths::from_host(&env.plan.path);
    let place = layout.place_of(&env.id);
    // What an interrupted rollback moved here was proven to be ours before it was moved.
    removal::delete_tree(&doomed)?;
    if let Some(found) = marker::identity(&target).unwrap_or(None) {
        if let Some((marker, used)) = marker_of(task, admin) {
            let root = layout.worktrees();
            ownership::prove(&root, &target, found, Some(&marker), task.log_id(), env)?;
            removal::no_mounts(&target)?;
            if used {
                let to = layout.trash_of(env.life());
                archive::move_to_trash(task.world, &target, &to)?;
            } else {
                match removal::move_into(&target, &doomed) {
                    // It was never published, so no work is in it: it can be deleted in place.
                    Err(fs::Error::CrossDevice { .. }) => removal::delete_tree(&target)?,
                    moved => moved?,
                }
            }
            point("rollback.directory_moved");
        } else {
            // At most an empty directory of ours, created before there was a marker.
            paths::remove_dir_if_empty(&target).map_err(paths::failed("remove", &target))?;
        }
    }
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    Ok(removal::delete_tree(&doomed)?)
}

/// Returns a line about the worktree if its marker is out of reach with its repository: then
/// nothing proves that the directory is ours, and it stays.
fn unproven(task: &Task<'_>) -> Result<Option<String>, Fault> {
    let env = task.env();
    let common = paths::from_host(&env.plan.repository.common_dir);
    let target = paths::from_host(&env.plan.path);
    if paths::exists(&common).map_err(paths::failed("inspect", &common))?
        || !paths::exists(&target).map_err(paths::failed("inspect", &target))?
    {
        return Ok(None);
    }
    let (target, common) = (target.display(), common.display());
    Ok(Some(format!(
        "{target} and its registration: the repository {common} is missing; run `groundskeeper sweep \
         --apply` when it is back"
    )))
}

/// Returns the marker of this provision, and whether the worktree was published (visible to git).
fn marker_of(task: &Task<'_>, admin: &Admin) -> Option<(Marker, bool)> {
    [(&admin.published, true), (&admin.staged, false)].into_iter().find_map(|(dir, used)| {
        let marker = Marker::read(dir).ok().flatten()?;
        marker.is_of(task.log_id(), task.env().life()).then_some((marker, used))
    })
}

/// Deletes the branch if our line is in its reflog and it is still at our commit. Returns a line
/// about the branch if a lock that will never be released is in the way.
fn remove_branch(task: &Task<'_>) -> Result<Option<String>, Fault> {
    let env = task.env();
    let Some(start) = env.start() else { return Ok(None) };
    if env.plan.reuse_branch {
        return Ok(None);
    }
    let common = paths::from_host(&env.plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        return Ok(None);
    }
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let reference = format!("refs/heads/{}", env.plan.branch);
    let attempts = task.attempts();
    let change = Change { attempts, ..Change::of(&git, &common, &reference) };
    change.forget_unmade(&add_worktree::signature(task))?;
    let at_base = refs::tip(&common, &reference).as_deref() == Some(start);
    if !at_base || refs::signed_by(&common, &reference) != Some(add_worktree::signature(task)) {
        return Ok(None);
    }
    if registration::checked_out(&common, &reference).is_some() {
        return Ok(None);
    }
    // With the expected value: if it gets a commit at this moment, the branch stays.
    Ok(change.delete_unless_locked(start)?)
}
