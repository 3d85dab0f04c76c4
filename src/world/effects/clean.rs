//! Moves the output of tools out of a worktree, while the worktree stays: build output is
//! nearly all of the space.
//!
//! Moves only directories that git ignores, that a list names, and that hold no tracked file
//! and no repository at any depth. Each is renamed into this clean's folder in the trash,
//! where it keeps its relative path; `clean_output.rs` unlinks it, and [`undo`] puts it back.
//! Nothing is moved while a process runs from it or writes there, and nothing is unlinked
//! here. After an interruption, a repeated clean also reports what was moved before: the
//! folder is the record of it.

use std::path::{Path, PathBuf};

use crate::core::effect::{Returned, Taken};
use crate::core::event::{NotMoved, Size};
use crate::core::{Code, EnvironmentOutcome, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::archive::Throttle;
use crate::world::effects::clean_output::{self, places, prune, units};
use crate::world::effects::context::{Task, World};
use crate::world::fs;
use crate::world::fs::{disk_usage, paths, removal};
use crate::world::git::command::{self, Git};
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::nested::{self, Limits};
use crate::world::git::ownership;

/// Most paths that the log names.
pub(in crate::world) const NAMED_MAX: usize = 64;

/// Performs [`EnvironmentStep::Clean`](crate::core::EnvironmentStep::Clean).
pub(in crate::world) fn clean(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let target = proven(task)?;
    let git = repository(task, &target);
    let (movable, mut left) = movable(task, &git, &target)?;
    point("clean.looked");
    for path in movable {
        task.cancel.check()?;
        // Checked again right before the move, because the list may be stale by now.
        if !rebuildable(task.world, &git)?.contains(&path) {
            continue;
        }
        if let Some(why) = move_one(task, &target, &path)? {
            name(&mut left, &path, why);
        }
        point("clean.moved_one");
    }
    taken(task, &target, left).map(EnvironmentOutcome::Cleaned)
}

/// Returns what a clean would move now, and what it would leave. Changes nothing.
pub(in crate::world) fn preview(task: &Task<'_>) -> Result<Taken, Fault> {
    let target = proven(task)?;
    let (movable, left) = movable(task, &repository(task, &target), &target)?;
    let mut taken = Taken { left, ..Taken::default() };
    for path in movable {
        let size =
            disk_usage::of(&target.join(&path), &mut |_| task.cancel.check().map_err(Fault::from))?;
        add(&mut taken.size, size);
        if taken.paths.len() < NAMED_MAX {
            taken.paths.push(path.display().to_string());
        }
    }
    Ok(taken)
}

fn repository<'a>(task: &Task<'a>, target: &Path) -> Git<'a> {
    let admin = Admin::of(task.log_id(), task.env()).published;
    Git::exact(&admin, Some(target), Some(task.lock), task.cancel).within(command::LONG)
}

/// Returns the directories that may be moved, and those that stay.
fn movable(
    task: &Task<'_>,
    git: &Git<'_>,
    target: &Path,
) -> Result<(Vec<PathBuf>, Vec<NotMoved>), Fault> {
    let (mut movable, mut left) = (Vec::new(), Vec::new());
    for path in rebuildable(task.world, git)? {
        let whole = target.join(&path);
        if let Some(why) = holds_repository(&whole, task)? {
            name(&mut left, &path, why);
            continue;
        }
        let (id, life) = (&task.env().id, task.env().incarnation);
        let hint = format!("end the processes that use it, then run `groundskeeper clean {id}`");
        clean_output::not_in_use(task.world, (id, life), &whole, &hint)?;
        removal::no_mounts(&whole)?;
        movable.push(path);
    }
    Ok((movable, left))
}

/// Returns the path of an environment's worktree, once it is proven to be that.
pub(in crate::world) fn proven(task: &Task<'_>) -> Result<PathBuf, Fault> {
    task.cancel.check()?;
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let Some(found) = marker::identity(&target)? else {
        let message = format!("the worktree {} does not exist", target.display());
        let hint = format!("run `groundskeeper rm {}` to remove the environment", env.id);
        return Err(Fault::new(Code::PathNotFound, message, hint));
    };
    let marker = Marker::read(&admin)?;
    let root = task.layout().worktrees();
    ownership::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
    Ok(target)
}

/// Returns the directories of a worktree that tools rebuild, relative to it.
pub(in crate::world) fn rebuildable(world: &World, git: &Git<'_>) -> Result<Vec<PathBuf>, Fault> {
    let args = ["--porcelain=v2", "-z", "--untracked-files=normal", "--ignored=matching"];
    let listed = git.output(["status"].into_iter().chain(args))?;
    let entries = listed.split(|b| *b == 0).filter(|e| !e.is_empty());
    let folders = crate::world::effects::rebuildable::Folders::of(world, git, entries)?;
    let names = folders.iter().map(|f| f.strip_suffix(b"/").unwrap_or(f));
    Ok(names.map(|name| PathBuf::from(paths::from_bytes(name))).collect())
}

/// Returns why a directory is not rebuildable despite its name: it holds a repository, or
/// that cannot be determined.
fn holds_repository(path: &Path, task: &Task<'_>) -> Result<Option<String>, Fault> {
    let found = nested::find(path, Limits::ANY, &mut |_| task.cancel.check())?;
    Ok(clean_output::repository(&found, path))
}

/// Moves one directory to the trash. Returns the reason if it was left in place.
fn move_one(task: &Task<'_>, target: &Path, path: &Path) -> Result<Option<String>, Fault> {
    let whole = target.join(path);
    let mut to = None;
    for folder in clean_output::places(task, target) {
        let place = folder.join(path);
        let parent = place.parent().unwrap_or(&folder);
        let made = std::fs::create_dir_all(parent).map_err(fs::Error::about("create", parent));
        match made.and_then(|()| removal::rename(&whole, &place)) {
            Ok(()) => to = Some(place),
            // The trash may be on another file system; there is another one beside the worktrees.
            Err(fs::Error::CrossDevice { .. }) => {
                clean_output::prune(&folder);
                continue;
            }
            Err(fs::Error::Exists { .. }) => {
                let id = &task.env().id;
                let again = format!("run `groundskeeper clean {id}` to move it");
                return Ok(Some(format!("it was rebuilt during the clean; {again}")));
            }
            Err(error) => return Ok(Some(Fault::from(error).to_string())),
        }
        break;
    }
    let Some(place) = to else {
        return Ok(Some("no trash directory is on its file system".to_owned()));
    };
    point("clean.renamed");
    // After the rename no program can add to it by its old path, so this check is final.
    let Some(why) = holds_repository(&place, task)? else { return Ok(None) };
    match removal::rename(&place, &whole) {
        Ok(()) => Ok(Some(why)),
        Err(error) => {
            let (now, fault) = (place.display(), Fault::from(error));
            Ok(Some(format!("{why}; it is now in {now}, because moving it back failed: {fault}")))
        }
    }
}

/// Returns what is in this clean's folder, whichever attempt moved it there.
fn taken(task: &Task<'_>, target: &Path, left: Vec<NotMoved>) -> Result<Taken, Fault> {
    let mut taken = Taken { left, ..Taken::default() };
    for place in clean_output::places(task, target) {
        let units = clean_output::units(task.world, &place);
        if units.is_empty() {
            clean_output::prune(&place);
            continue;
        }
        for unit in units {
            let mut throttle = Throttle::new(task.cancel);
            let size = disk_usage::of(&place.join(&unit), &mut |_| throttle.throttle());
            task.cancel.check()?;
            add(&mut taken.size, size.unwrap_or_default());
            if taken.paths.len() < NAMED_MAX {
                taken.paths.push(unit.display().to_string());
            }
        }
        taken.trash.get_or_insert_with(|| paths::to_host(&place));
    }
    Ok(taken)
}

/// Adds a size to a total.
pub(in crate::world) fn add(total: &mut Size, size: Size) {
    total.entries += size.entries;
    total.apparent += size.apparent;
    total.allocated += size.allocated;
}

/// Records a directory that stays where it is; bounded by [`NAMED_MAX`].
pub(in crate::world) fn name(left: &mut Vec<NotMoved>, path: &Path, why: String) {
    if left.len() < NAMED_MAX {
        left.push(NotMoved { path: path.display().to_string(), why });
    }
}

/// Performs [`EnvironmentStep::UndoClean`](crate::core::EnvironmentStep::UndoClean).
pub(in crate::world) fn undo(
    task: &crate::world::effects::context::Task<'_>,
) -> Result<EnvironmentOutcome, Fault> {
    let target = proven(task)?;
    let mut done = Returned::default();
    for place in places(task, &target) {
        for unit in units(task.world, &place) {
            task.cancel.check()?;
            match put_back(&target, &place, &unit) {
                Ok(()) if done.paths.len() >= NAMED_MAX => {}
                Ok(()) => done.paths.push(unit.display().to_string()),
                Err(why) => {
                    let mut throttle = Throttle::new(task.cancel);
                    let size = disk_usage::of(&place.join(&unit), &mut |_| throttle.throttle());
                    task.cancel.check()?;
                    add(&mut done.size, size.unwrap_or_default());
                    name(&mut done.left, &unit, why);
                }
            }
            point("clean.returned_one");
        }
        if done.left.is_empty() {
            prune(&place);
        }
    }
    Ok(EnvironmentOutcome::CleanUndone(done))
}

/// Puts one directory back, or returns why it stays in the trash.
fn put_back(target: &Path, place: &Path, unit: &Path) -> Result<(), String> {
    let (from, to) = (place.join(unit), target.join(unit));
    let parent = to.parent().unwrap_or(target);
    // A symlink on the path leads elsewhere; a missing parent folder was
    // removed by another program.
    if parent.canonicalize().ok().as_deref() != Some(parent) {
        let shown = unit.parent().unwrap_or(unit).display().to_string();
        return Err(format!("the directory {shown} no longer exists"));
    }
    match removal::rename(&from, &to) {
        Ok(()) => Ok(()),
        Err(fs::Error::Exists { .. }) => {
            Err("its path exists again: move that away first".to_owned())
        }
        Err(error) => Err(Fault::from(error).to_string()),
    }
}
