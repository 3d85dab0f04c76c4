//! The output that cleans moved to the trash: restores it to its worktree, or unlinks it for good.
//!
//! Each clean has a folder of its own, named after the environment and the log record. Inside
//! it, the directories have the paths that they had in the worktree. Nothing replaces an
//! existing path, and nothing that holds a repository is unlinked. Both operations can be
//! interrupted at any point.

use std::path::{Path, PathBuf};

use crate::core::{
    CleanedOutput, Code, EnvironmentId, EnvironmentStep, Fault, OutputOutcome, Subject,
};
use crate::failpoint::kill::point;
use crate::world::effects::archive::Throttle;
use crate::world::effects::context::World;
use crate::world::fs::{paths, removal, remove_tree};
use crate::world::git::marker;
use crate::world::git::nested::{self, Limits, NestedRepositories};
use crate::world::process::cancel::Cancel;
use crate::world::process::scope::{Scope, Ties};

/// Most levels below the folder of a clean that are searched for moved directories.
const DEPTH_MAX: usize = 64;

/// Work on the output of one clean.
pub(in crate::world) struct Task<'a> {
    pub(in crate::world) world: &'a World,
    pub(in crate::world) output: &'a CleanedOutput,
    pub(in crate::world) cancel: &'a Cancel,
}

impl Task<'_> {
    /// Performs [`OutputStep::Purge`](crate::core::OutputStep::Purge).
    pub(in crate::world) fn purge(&self) -> Result<OutputOutcome, Fault> {
        self.clean_is_over()?;
        let (id, life) = (&self.output.id, self.output.incarnation);
        let mut count = 0;
        for folder in self.world.layout.cleaned_of(id, self.output.clean) {
            if marker::identity(&folder)?.is_none() {
                continue;
            }
            prove(&folder)?;
            let hint = "end the processes that use it; the step is retried";
            not_in_use(self.world, (id, life), &folder, hint)?;
            removal::no_mounts(&folder)?;
            self.no_repository(&folder)?;
            point("clean.proven");
            let mut throttle = Throttle::new(self.cancel);
            count += remove_tree::tree(&folder, &mut |_| {
                point("clean.unlinked_one");
                throttle.throttle()
            })?;
        }
        point("clean.unlinked");
        Ok(OutputOutcome::Purged(count))
    }

    /// Waits for a clean that was cancelled and may still be running: it holds the environment's
    /// lock while it runs, and checks for the cancellation before each move.
    fn clean_is_over(&self) -> Result<(), Fault> {
        if !self.world.layout.lock_of(&self.output.id).exists() {
            return Ok(());
        }
        let subject = Subject::Environment(self.output.id.clone());
        self.world.lock(&subject, self.cancel).map(drop)
    }

    /// Refuses if the folder holds, or may hold, a repository: that is work,
    /// whatever its directory's name.
    fn no_repository(&self, folder: &Path) -> Result<(), Fault> {
        let found = nested::find(folder, Limits::ANY, &mut |_| self.cancel.check())?;
        let Some(why) = repository(&found, folder) else { return Ok(()) };
        let message = format!("cannot delete {}: it {why}", folder.display());
        let id = &self.output.id;
        let hint =
            format!("inspect it and move it away, then run `groundskeeper trash empty {id}`");
        let code = if found.repositories.is_empty() { Code::Io } else { Code::NotOurs };
        Err(Fault::new(code, message, hint))
    }
}

/// Proves that the folder is where its name says: no symlink leads there.
fn prove(folder: &Path) -> Result<(), Fault> {
    let real = folder.canonicalize().map_err(paths::failed("find", folder))?;
    if real == folder {
        return Ok(());
    }
    let message = format!("{} is not the directory that the clean created", folder.display());
    let hint = "inspect it, and delete it manually if it is not needed; nothing was changed";
    Err(Fault::new(Code::NotOurs, message, hint).because("its real path is not in the trash"))
}

/// Returns why a directory is no mere tool output, from a search for repositories in it.
pub(in crate::world) fn repository(found: &NestedRepositories, root: &Path) -> Option<String> {
    let shown = |path: &Path| match path.strip_prefix(root) {
        Ok(inside) if !inside.as_os_str().is_empty() => format!(" ({})", inside.display()),
        _ => String::new(),
    };
    if let Some(path) = found.repositories.first() {
        return Some(format!("holds a repository{}", shown(path)));
    }
    let (path, why) = found.unknown.first()?;
    Some(format!("may hold a repository{}: {why}", shown(path)))
}

/// Refuses while any process runs from the directory or writes there, whichever program started it.
pub(in crate::world) fn not_in_use(
    world: &World,
    (id, incarnation): (&EnvironmentId, u32),
    path: &Path,
    hint: &str,
) -> Result<(), Fault> {
    let scope = Scope {
        id,
        incarnation,
        roots: vec![path.to_owned()],
        recorded: Vec::new(),
        requester: 0,
        with_bystanders: true,
        ties: Ties::Place,
        requests: Vec::new(),
        cgroups: &world.cgroups,
    };
    let users = scope.scan()?.inside;
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("{} is in use", path.display());
    let lines = users.iter().map(|p| format!("{} {} ({})", p.pid, p.name, p.why));
    Err(Fault::new(Code::EnvironmentBusy, message, hint).with_evidence(lines))
}

/// Returns where the directories of a clean are or would be: in the trash, and beside the worktrees
/// in case the trash is on another file system.
pub(in crate::world) fn places(
    task: &crate::world::effects::context::Task<'_>,
    target: &Path,
) -> Vec<PathBuf> {
    let owed = task.env().owed.as_ref();
    // The record that began the clean names its folder, so that a repeated
    // attempt finds the same one.
    let begun = owed.filter(|o| o.step == EnvironmentStep::Clean).map(|o| o.entered);
    let clean = begun.or(task.env().undoing).unwrap_or_default();
    let folders = task.layout().cleaned_of(&task.env().id, clean);
    let name = target.file_name().unwrap_or_default();
    folders.into_iter().map(|folder| folder.join(name)).collect()
}

/// Returns what was moved into a place, relative to it: directories with a rebuildable
/// name, and directories with files, in case the list no longer has their name.
/// Directories above are only path.
pub(in crate::world) fn units(world: &World, place: &Path) -> Vec<PathBuf> {
    let mut units = Vec::new();
    below(world, place, Path::new(""), 0, &mut units);
    units.sort();
    units
}

fn below(world: &World, place: &Path, path: &Path, depth: usize, units: &mut Vec<PathBuf>) {
    let listed = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| world.rebuildable.iter().any(|known| known == name))
    };
    let entries = std::fs::read_dir(place.join(path)).into_iter().flatten().flatten();
    let (mut folders, mut files) = (Vec::new(), false);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(path.join(entry.file_name())),
            _ => files = true,
        }
    }
    if depth > 0 && (files || depth >= DEPTH_MAX) {
        return units.push(path.to_owned());
    }
    for folder in folders {
        if listed(&folder) {
            units.push(folder);
        } else {
            below(world, place, &folder, depth + 1, units);
        }
    }
}

/// Removes a place and the folder around it, as far as they contain only empty directories.
pub(in crate::world) fn prune(place: &Path) {
    prune_below(place, 0);
    if let Some(folder) = place.parent() {
        drop(paths::remove_dir_if_empty(folder));
    }
}

fn prune_below(path: &Path, depth: usize) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if depth < DEPTH_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            prune_below(&entry.path(), depth + 1);
        }
    }
    // Fails if a file was created meanwhile, and then the directory stays.
    drop(paths::remove_dir_if_empty(path));
}
