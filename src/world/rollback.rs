//! Taking back what a failed or cancelled provision made, however far it came.
//!
//! It looks for each trace by itself, because the attempt that made it may have died at any point.
//! What is not proven ours is not its business, and stays.

use super::git::Git;
use super::marker::{self, Admin, Marker};
use super::{Task, add, exec, paths, registration, removal};
use crate::core::{Fault, Outcome};
use crate::killpoint::point;

/// Performs [`Step::RollBack`](crate::core::Step::RollBack).
pub(super) fn roll_back(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    if let Some((pid, started)) = env.hook {
        exec::end_recorded_group(pid, started)?;
    }
    let admin = Admin::of(task.log_id(), env);
    remove_directory(task, &admin)?;
    point("rollback.directory_gone");
    registration::hide(task, &admin)?;
    point("rollback.hidden");
    remove_branch(task)?;
    registration::remove(task, &admin)?;
    Ok(Outcome::RolledBack)
}

/// Renames the place to the trash, then deletes it; both can be repeated.
fn remove_directory(task: &Task<'_>, admin: &Admin) -> Result<(), Fault> {
    let env = task.env();
    let layout = task.layout();
    let doomed = layout.rollback_of(&env.id, env.incarnation);
    let target = paths::from_host(&env.plan.path);
    let place = layout.place_of(&env.id);
    if let Some(found) = marker::identity(&target).unwrap_or(None) {
        let mine = [&admin.published, &admin.staged].into_iter().any(|dir| {
            Marker::read(dir).ok().flatten().is_some_and(|m| {
                let root = layout.worktrees();
                marker::prove(&root, &target, found, Some(&m), task.log_id(), env).is_ok()
            })
        });
        if mine {
            removal::no_mounts(&place)?;
            removal::delete_tree(&doomed)?;
            std::fs::rename(&place, &doomed).map_err(paths::failed("move", &place))?;
            point("rollback.directory_moved");
        } else {
            // At most an empty directory of ours, made before there was a marker.
            paths::remove_dir_if_empty(&target).map_err(paths::failed("remove", &target))?;
        }
    }
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    removal::delete_tree(&doomed)
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
    // With the old value: if somebody commits to it this very moment, it stays.
    git.output(["update-ref", "-d", &reference, &base.commit]).map(drop)
}
