//! Taking back what a failed or cancelled provision made, however far it came.
//!
//! It looks for each trace by itself, because the attempt that made it may have died at any point.
//! What is not proven ours is not its business, and stays.

use super::git::Git;
use super::marker::{self, Admin, Marker};
use super::{Task, add, hook, paths, refs, registration, remains, removal, restore, teardown};
use crate::core::{Fault, Outcome};
use crate::killpoint::point;

/// Performs [`Step::RollBack`](crate::core::Step::RollBack).
pub(super) fn roll_back(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    hook::end_earlier(task)?;
    if env.restore.as_ref().is_some_and(|r| r.trash.is_some()) {
        return restore::undo(task);
    }
    let admin = Admin::of(task.log_id(), env);
    remove_directory(task, &admin)?;
    point("rollback.directory_gone");
    registration::hide(task, &admin)?;
    point("rollback.hidden");
    // Whoever worked in it may have left commits that only its HEAD holds; and as its files go to
    // the trash, its registration is kept beside them.
    teardown::rescue_head(task, &admin)?;
    remove_branch(task)?;
    registration::put_away(task, &admin)?;
    registration::remove(task, &admin)?;
    let name = paths::from_host(&env.plan.path);
    let folder = format!("{}.{}", env.id, env.incarnation);
    let name = name.file_name().unwrap_or_default();
    let mut places = task.layout().trashes().into_iter().map(|t| t.join(&folder).join(name));
    let trashed = places.find(|place| paths::exists(place).unwrap_or(false));
    Ok(Outcome::RolledBack(trashed.as_deref().map(paths::to_host)))
}

/// Renames the worktree away. One that was published may have been worked in: it goes to the trash
/// like any other. What never was anybody's is deleted; both can be repeated.
fn remove_directory(task: &Task<'_>, admin: &Admin) -> Result<(), Fault> {
    let env = task.env();
    let layout = task.layout();
    let doomed = layout.rollback_of(&env.id, env.incarnation);
    let target = paths::from_host(&env.plan.path);
    let place = layout.place_of(&env.id);
    removal::delete_tree(&doomed)?;
    if let Some(found) = marker::identity(&target).unwrap_or(None) {
        if let Some((marker, used)) = marker_of(task, admin) {
            let root = layout.worktrees();
            marker::prove(&root, &target, found, Some(&marker), task.log_id(), env)?;
            removal::no_mounts(&target)?;
            if used {
                let to = layout.trash_of(&env.id, env.incarnation);
                remains::move_to_trash(task.world, &target, &to)?;
            } else {
                match removal::move_into(&target, &doomed) {
                    // Nobody ever saw it: it can go where it is.
                    Err(fault) if removal::is_elsewhere(&fault) => removal::delete_tree(&target)?,
                    moved => moved?,
                }
            }
            point("rollback.directory_moved");
        } else {
            // At most an empty directory of ours, made before there was a marker.
            paths::remove_dir_if_empty(&target).map_err(paths::failed("remove", &target))?;
        }
    }
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    removal::delete_tree(&doomed)
}

/// The marker of this provision, and whether git (and with it anybody) knew the worktree.
fn marker_of(task: &Task<'_>, admin: &Admin) -> Option<(Marker, bool)> {
    [(&admin.published, true), (&admin.staged, false)].into_iter().find_map(|(dir, used)| {
        let marker = Marker::read(dir).ok().flatten()?;
        marker.is_of(task.log_id(), task.env()).then_some((marker, used))
    })
}

/// Deletes the branch if our line is in its reflog and it still is where we put it.
fn remove_branch(task: &Task<'_>) -> Result<(), Fault> {
    let env = task.env();
    let Some(base) = &env.base else { return Ok(()) };
    if env.plan.reuse_branch {
        return Ok(());
    }
    let common = paths::from_host(&env.plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("look at", &common))? {
        return Ok(());
    }
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let reference = format!("refs/heads/{}", env.plan.branch);
    let tip = git.run(["rev-parse", "--verify", "--quiet", &reference])?;
    let at_base = tip.stdout.trim_ascii_end() == base.commit.as_bytes();
    if !at_base || !add::is_ours(&git, &reference, &add::signature(task))? {
        return Ok(());
    }
    if registration::checked_out(&common, &reference).is_some() {
        return Ok(());
    }
    // With the old value: if somebody commits to it this very moment, it stays.
    refs::delete(&git, &common, &reference, Some(&base.commit))
}
