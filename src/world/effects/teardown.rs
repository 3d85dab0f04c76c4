//! Removes a worktree: renames it to the trash, unregisters it, settles its branch.
//!
//! Nothing is unlinked here. The directory goes to the trash with one rename, its administrative
//! directory goes to a place in the repository that git does not read, and the branch is deleted
//! only if each of its commits is reachable from elsewhere, or is merged by content or deleted on
//! request while a rescue holds it.

use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::core::model::environment::Teardown;
use crate::core::policy::BranchPolicy;
use crate::core::{BranchOutcome, Code, EnvironmentOutcome, Fault};
use crate::failpoint::kill::point;
use crate::sync::lock_unpoisoned;
use crate::world::effects::context::Task;
use crate::world::effects::{archive, inspect, integration};
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::index::format::Hash;
use crate::world::git::index::racy::{self, Settled};
use crate::world::git::locks::Lock;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::git::ref_changes::{self, Change};
use crate::world::git::{reachability, refs, registration};

/// Performs [`EnvironmentStep::MoveToTrash`](crate::core::EnvironmentStep::MoveToTrash).
pub(in crate::world) fn move_to_trash(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let layout = task.layout();
    let target = paths::from_host(&env.plan.path);
    let name = target.file_name().unwrap_or_default();
    let place = layout.place_of(&env.id);
    let folder = layout.trash_of(env.life());
    // Absent if an earlier attempt moved it: then only the steps after the rename are repeated.
    if let Some(found) = marker::identity(&target)? {
        let admin = Admin::of(task.log_id(), env);
        let marker = Marker::read(&admin.published)?;
        let root = layout.worktrees();
        ownership::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
        // Last check before the rename: the tree must be the one that the removal was agreed for.
        if is_stale(task)? {
            return Ok(EnvironmentOutcome::Outdated);
        }
        removal::no_mounts(&target)?;
        point("trash.proven");
        archive::move_to_trash(task.world, &target, &folder)?;
        point("trash.moved");
    }
    // Files beside the worktree are not ours; they keep the folder where it is.
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    let mut places = layout.trashes().into_iter();
    let found = places.find_map(|trash| {
        let place = trash.join(folder.file_name().unwrap_or_default()).join(name);
        paths::exists(&place).unwrap_or(false).then_some(place)
    });
    // The rename must be on disk before the log records it; the following steps need not wait.
    let (synced, settled) = std::thread::scope(|scope| {
        let synced = scope.spawn(|| found.as_deref().map_or(Ok(()), sync_parents));
        let settled = finish_outside_git(task, found.is_some());
        (synced.join(), settled)
    });
    synced.unwrap_or_else(|_| {
        let hint = "report this defect with the daemon log";
        Err(Fault::new(Code::Defect, "syncing the trash panicked", hint))
    })?;
    Ok(EnvironmentOutcome::Trashed(found.as_deref().map(paths::to_host), settled))
}

/// Syncs the two folders above the moved directory: its new parent, and the trash that holds that.
fn sync_parents(trashed: &Path) -> Result<(), Fault> {
    for dir in trashed.ancestors().skip(1).take(2) {
        groundskeeper_system::portable::sync_dir(dir).map_err(paths::failed("sync", dir))?;
    }
    Ok(())
}

/// Performs the remaining steps at once. A step that fails here is owed later and then retried.
///
/// The registration is hidden now, and is taken out of git's folder later, when the trash entry is
/// measured: a git that is listing worktrees at this moment may still be reading it.
fn finish_outside_git(task: &Task<'_>, is_in_trash: bool) -> Option<BranchOutcome> {
    unregister(task).ok()?;
    let settled = branch(task).ok()?;
    if !is_in_trash {
        registration::archive(&task.owner(), &Admin::of(task.log_id(), task.env())).ok()?;
    }
    Some(settled)
}

/// Returns whether the tree has changed since its inspection, where a daemon was killed in between.
fn is_stale(task: &Task<'_>) -> Result<bool, Fault> {
    let teardown = task.env().teardown.as_ref();
    let Some(teardown) = teardown.filter(|t| t.disturbed && t.fingerprint.is_some()) else {
        return Ok(false);
    };
    match inspect::inspect_worktree(task) {
        Ok(seen) => Ok(seen.fingerprint != teardown.fingerprint),
        // With `--force` the user agreed to lose even what cannot be inspected.
        Err(_) if teardown.force && !task.cancel.is_cancelled() => Ok(false),
        Err(fault) => Err(fault.transient()),
    }
}

/// Performs [`EnvironmentStep::Unregister`](crate::core::EnvironmentStep::Unregister): hides the
/// registration from git.
pub(in crate::world) fn unregister(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    registration::hide(&task.owner(), &Admin::of(task.log_id(), task.env()))?;
    point("unregister.hidden");
    Ok(EnvironmentOutcome::Unregistered)
}

/// Performs [`EnvironmentStep::SettleBranch`](crate::core::EnvironmentStep::SettleBranch), and
/// takes the registration out of git's folder: by now no git still reads it.
pub(in crate::world) fn settle_branch(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let admin = Admin::of(task.log_id(), task.env());
    let settled = branch(task)?;
    registration::archive(&task.owner(), &admin)?;
    Ok(EnvironmentOutcome::BranchSettled(settled))
}

/// Deletes the branch if that loses no commit. Returns whether it was deleted, and why or why not.
fn branch(task: &Task<'_>) -> Result<BranchOutcome, Fault> {
    let env = task.env();
    let plan = &env.plan;
    let teardown = env.teardown.clone().unwrap_or_default();
    let kept = |reason: String| Ok(BranchOutcome { deleted: false, reason });
    if plan.reuse_branch {
        return kept("it existed before the environment".into());
    }
    if teardown.options.branch == BranchPolicy::Keep {
        return kept("the branch policy is keep".into());
    }
    let common = paths::from_host(&plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        return kept("the repository does not exist".into());
    }
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let reference = format!("refs/heads/{}", plan.branch);
    // A daemon that was killed right after the deletion leaves its locks on a ref that is gone.
    ref_changes::break_stale(&common, &reference);
    let tip = match tip_of(&git, &common, &reference) {
        Err(fault) if task.cancel.is_cancelled() => return Err(fault),
        Err(fault) => return kept(format!("git cannot resolve it: {fault}")),
        Ok(None) => return kept("it was deleted before".into()),
        Ok(Some(tip)) => tip,
    };
    if let Some(reason) = reason_to_keep(task, &common, &reference, &tip) {
        return kept(reason);
    }
    // Held until the branch is deleted: another removal must not count on this branch meanwhile.
    let _alone = lock_unpoisoned(&task.world.branches);
    let base = env.base.as_ref().and_then(|b| b.reference.as_deref()).unwrap_or_default();
    let own = if refs::is_held(&common, &tip, base, &reference) {
        0
    } else {
        match count_own_commits(task, &git, &tip, &reference)? {
            Ok(own) => own,
            Err(why) => return kept(why),
        }
    };
    let why = match own {
        0 => "all its commits are reachable elsewhere".to_owned(),
        own => match reason_to_delete(task, &git, &teardown, &tip)? {
            Some(why) => why,
            None => {
                return kept(format!("{own} commits are on no other branch, tag or remote"));
            }
        },
    };
    let attempts = task.attempts();
    let change = Change { attempts, ..Change::of(&git, &common, &reference) };
    // A lock that will never be released must not hold up the removal.
    if let Some(left) = change.delete_unless_locked(&tip)? {
        return kept(left);
    }
    point("branch.deleted");
    Ok(BranchOutcome { deleted: true, reason: why })
}

/// Returns why a branch must stay, whatever commits it has: it leads elsewhere, is in use, or is
/// not proven to be ours.
fn reason_to_keep(task: &Task<'_>, common: &Path, reference: &str, tip: &str) -> Option<String> {
    if refs::tip(common, reference).as_deref() != Some(tip) {
        return Some("it is a symbolic ref to another ref".into());
    }
    if let Some(place) = registration::checked_out(common, reference) {
        return Some(format!("it is checked out in {place}"));
    }
    let is_ours = refs::is_made_by(common, reference, task.env(), task.log_id());
    (!is_ours).then(|| "its reflog does not prove that groundskeeper created it".into())
}

/// Returns how many commits only this branch has; or why that is unknown, which keeps the branch.
fn count_own_commits(
    task: &Task<'_>,
    git: &Git<'_>,
    tip: &str,
    reference: &str,
) -> Result<Result<u64, String>, Fault> {
    let branch = &task.env().plan.branch;
    let asked = reachability::count_alone(git, &[tip], &[branch])
        // A symbolic ref to the branch holds nothing by itself: it would break with the deletion.
        .and_then(|own| {
            Ok((own, if own == 0 { symbolic_refs_to(git, reference)? } else { Vec::new() }))
        });
    match asked {
        Err(error) if task.cancel.is_cancelled() => Err(error.into()),
        Err(error) => {
            let fault = Fault::from(error);
            let cause = fault.causes.first().cloned().unwrap_or(fault.message);
            Ok(Err(format!("git cannot tell whether other refs hold its commits: {cause}")))
        }
        Ok((own, names)) if names.is_empty() => Ok(Ok(own)),
        Ok((_, names)) => Ok(Err(format!("{} is a symbolic ref to it", names.join(", ")))),
    }
}

/// Returns why a branch with commits of its own may be deleted, if it may: a rescue holds them, and
/// they are merged by content or the user wants the branch deleted.
fn reason_to_delete(
    task: &Task<'_>,
    git: &Git<'_>,
    teardown: &Teardown,
    tip: &str,
) -> Result<Option<String>, Fault> {
    let Some(rescue) = &teardown.rescue else { return Ok(None) };
    let (Some(reference), Some(commit)) = (&rescue.reference, &rescue.commit) else {
        return Ok(None);
    };
    let held = git.run(["merge-base", "--is-ancestor", tip, commit])?;
    if !held.status.success() {
        return Ok(None);
    }
    if teardown.options.branch == BranchPolicy::Delete {
        return Ok(Some(format!("its commits are held by {reference}")));
    }
    integration::by_content(task, tip)
}

/// Returns the symbolic refs that point to this ref: its deletion would break them.
fn symbolic_refs_to(git: &Git<'_>, reference: &str) -> Result<Vec<String>, git::Error> {
    let listed = git.output(["for-each-ref", "--format=%(symref) %(refname)"])?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let named = listed.lines().filter_map(|line| line.split_once(' '));
    Ok(named.filter(|(to, _)| *to == reference).map(|(_, name)| name.to_owned()).collect())
}

/// Returns the commit of a branch. Reads a loose ref directly; otherwise asks git.
fn tip_of(git: &Git<'_>, common: &Path, reference: &str) -> Result<Option<String>, Fault> {
    if let Some(commit) = refs::loose(common, reference) {
        return Ok(Some(commit));
    }
    let found = git.run(["rev-parse", "--verify", "--quiet", reference])?;
    // Exit status 1: it does not exist. Any other failure proves nothing.
    if !found.status.success() && found.status.code() != Some(1) {
        return Err(git::Error::failed("git rev-parse", &found).into());
    }
    let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
    Ok(found.status.success().then_some(text))
}

/// Performs [`EnvironmentStep::RefreshIndex`](crate::core::EnvironmentStep::RefreshIndex): updates
/// the index so that later inspections need not read the files. An index that is locked is left
/// alone; one that cannot be proven here is left to a status that may write it.
pub(in crate::world) fn refresh_index(task: &Task<'_>) -> Result<EnvironmentOutcome, Fault> {
    let env = task.env();
    let admin = Admin::of(task.log_id(), env).published;
    let target = paths::from_host(&env.plan.path);
    if let Some(hash) = Hash::named(&env.plan.repository.object_format) {
        match racy::settle(&admin, &target, hash, task.cancel) {
            Ok(Settled::Done) => return Ok(EnvironmentOutcome::Refreshed(true)),
            Ok(Settled::LeftAlone) => return Ok(EnvironmentOutcome::Refreshed(false)),
            Ok(Settled::Unproven) => {}
            Err(e) => tracing::debug!(error = %e, env = %env.id, "git refreshes the index"),
        }
    }
    refresh_by_git(task, &admin, &target).map(EnvironmentOutcome::Refreshed)
}

/// Lets git refresh a copy of the index and installs the copy, so that no git of ours holds the
/// lock of an index that agents write. Returns false if another process wrote the index meanwhile.
fn refresh_by_git(task: &Task<'_>, admin: &Path, target: &Path) -> Result<bool, Fault> {
    let env = task.env();
    let index = admin.join("index");
    let copy = task.layout().scratch().join(format!("{}.{}.index", env.id, env.incarnation));
    let before = index.metadata().map_err(paths::failed("inspect", &index))?;
    copy_dated(&index, &copy).map_err(paths::failed("copy", &index))?;
    let git = Git::exact(admin, Some(target), Some(task.lock), task.cancel).within(command::LONG);
    let mut command = git.command(["status", "--porcelain", "--untracked-files=no"]);
    command.env("GIT_OPTIONAL_LOCKS", "1").env("GIT_INDEX_FILE", &copy);
    let refreshed = git.run_command(command).map(|finished| finished.status.success());
    let install = || -> io::Result<bool> {
        // Held only for the check and the rename, between which git must not write the index.
        let Ok(_lock) = Lock::take(&index) else { return Ok(false) };
        if !is_same_file(&before, &index.metadata()?) {
            return Ok(false);
        }
        let fresh = admin.join("index.groundskeeper");
        copy_dated(&copy, &fresh)?;
        paths::rename(&fresh, &index).map(|()| true)
    };
    let installed = match refreshed {
        Ok(true) => install().map_err(paths::failed("write", &index)),
        refreshed => refreshed.map_err(Fault::from),
    };
    paths::remove_file_if_any(&copy).map_err(paths::failed("remove", &copy))?;
    installed
}

/// Copies a file with its modification time, by which git tells which files may have changed since.
fn copy_dated(from: &Path, to: &Path) -> io::Result<()> {
    let time = from.metadata()?.modified()?;
    std::fs::copy(from, to)?;
    let file = File::options().write(true).open(to)?;
    file.set_times(FileTimes::new().set_modified(time))
}

fn is_same_file(a: &Metadata, b: &Metadata) -> bool {
    let of = |m: &Metadata| (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec());
    of(a) == of(b)
}
