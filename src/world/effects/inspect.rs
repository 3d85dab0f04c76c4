//! Collects the evidence on whether a worktree may be removed. Reads only,
//! takes none of git's locks.
//!
//! One inspection lists what a removal would take away: changed, staged, untracked and hidden
//! files, ignored files that no tool rebuilds, commits that nothing else has and that are merged
//! nowhere, operations in progress, foreign locks, submodules. Whatever cannot be determined counts
//! as work: unknown is never safe. The inspection has a fingerprint, so that a later one can tell
//! whether the tree is unchanged.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::core::empty_is_none::non_empty;
use crate::core::{Code, Environment, Fault, Inspection};
use crate::world::effects::collect::Collector;
use crate::world::effects::context::Task;
use crate::world::effects::rebuildable::Folders;
use crate::world::effects::rescuer::Rescuer;
use crate::world::effects::seen::Seen;
use crate::world::effects::{clean_check, hidden_edits, integration, nested_work};
use crate::world::fs::{paths, removal};
use crate::world::git;
use crate::world::git::command::{self, Git};
use crate::world::git::heads::{Heads, stashes_of};
use crate::world::git::index::format::Hash;
use crate::world::git::marker::{self, Admin, Marker};
use crate::world::git::ownership;
use crate::world::process::scope::Scope;
use crate::world::process::subprocess::Finished;
use crate::world::status::included_files::IncludedFiles;
use crate::world::status::query::OPERATIONS;

/// Performs [`EnvironmentStep::Inspect`](crate::core::EnvironmentStep::Inspect).
pub(in crate::world) fn inspect(task: &Task<'_>) -> Result<Inspection, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let marker = Marker::read(&admin)?;
    let Some(found) = marker::identity(&target)? else {
        return inspect_missing(task, &admin, marker.is_some(), &target);
    };
    let common = paths::from_host(&env.plan.repository.common_dir);
    let force = env.teardown.as_ref().is_some_and(|t| t.force);
    let root = task.layout().worktrees();
    if !paths::exists(&common).map_err(paths::failed("inspect", &common))? {
        if force {
            ownership::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
        }
        let line =
            format!("the repository {} is missing: its commits are unknown", common.display());
        let (unsaved, unseen) = (vec![line], true);
        return Ok(Inspection { unsaved, unseen, ..Inspection::default() });
    }
    if marker.is_none() && ownership::is_forgotten(task.log_id(), env, &target, found) {
        let line = format!(
            "{} no longer registers it: its index and the reflog of its HEAD are unknown",
            common.display()
        );
        return Ok(Inspection {
            unsaved: vec![line],
            head: head_of_files(task, &admin),
            rescue: true,
            nested: true,
            ..Inspection::default()
        });
    }
    ownership::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
    if let Some(obstacle) = removal::obstacle(&target) {
        let immovable = Some(Fault { transient: false, ..obstacle.into() });
        return Ok(Inspection { immovable, ..Inspection::default() });
    }
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel);
    match git.check_owner() {
        // The directory belongs to another user now: it is neither read nor
        // saved until that is settled.
        Err(error) if force && !task.cancel.is_cancelled() => {
            let (unsaved, unseen) = (vec![Fault::from(error).to_string()], true);
            return Ok(Inspection { unsaved, unseen, ..Inspection::default() });
        }
        checked => checked?,
    }
    match inspect_worktree(task) {
        Ok(seen) => Ok(seen),
        // With `--force` the user agrees to lose even what cannot be inspected; the directory
        // still goes to the trash.
        Err(fault) if force && !task.cancel.is_cancelled() => {
            let unsaved = vec![format!("could not be inspected: {fault}")];
            let head = head_of_files(task, &admin);
            Ok(Inspection { unsaved, head, rescue: true, ..Inspection::default() })
        }
        Err(fault) => Err(fault.transient()),
    }
}

/// Returns the commit that HEAD names, read without the index; where HEAD is damaged, the tip of
/// the environment's branch. A restore begins there: at the base, a file that only later commits
/// track would be one that git ignores, and the next removal would not save it.
fn head_of_files(task: &Task<'_>, admin: &Path) -> Option<String> {
    let head = Rescuer::of(task).head(&Heads::read(admin));
    head.ok().flatten()
}

/// Inspects an environment whose directory is not at its path. If it is gone, the teardown goes on;
/// if it was moved, it is not ours to forget.
fn inspect_missing(
    task: &Task<'_>,
    admin: &Path,
    registered: bool,
    target: &Path,
) -> Result<Inspection, Fault> {
    let moved = |place: String| {
        let message = format!("the worktree of {} is not at {}", task.env().id, target.display());
        let hint = "move it back to that path, or remove it manually; nothing was changed";
        Err(Fault::new(Code::NotOurs, message, hint).with_evidence([place]))
    };
    if let Some(inspection) = in_trash_already(task, target) {
        return Ok(inspection);
    }
    // A moved data directory makes every worktree seem gone; none of them may be forgotten then.
    if !target.starts_with(task.layout().place_of(&task.env().id)) {
        return moved("the data directory has been moved".into());
    }
    let mut seen = Seen::default();
    beside(task, target, &mut seen);
    if registered {
        let pointer = std::fs::read(admin.join("gitdir")).unwrap_or_default();
        let pointer = paths::from_bytes(pointer.trim_ascii_end());
        if !pointer.as_os_str().is_empty() && pointer.exists() {
            return moved(format!("git has it registered at {}", pointer.display()));
        }
        in_progress(admin, &mut seen);
        let git = Git::exact(admin, None, Some(task.lock), task.cancel);
        let head = git.run(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
        seen.head = non_empty(String::from_utf8_lossy(&head.stdout).trim_end().to_owned());
        commits(task, admin, &mut seen)?;
        // Exit status 1: something is staged that no commit has.
        let staged = git.run(["diff-index", "--cached", "--quiet", "HEAD"])?;
        if staged.status.code() == Some(1) {
            seen.rescue("staged changes, and the files are missing".to_owned());
        }
    }
    let quiet = spares_used(task.env()) && is_unused(task)?;
    Ok(Inspection { quiet, ..seen.finish(false) })
}

/// Returns the agreed inspection if a daemon was killed after it had moved the directory to
/// the trash and before it could record that: the agreed removal is done, and there is
/// nothing new to agree to.
fn in_trash_already(task: &Task<'_>, target: &Path) -> Option<Inspection> {
    let env = task.env();
    let (teardown, made) = (env.teardown.as_ref()?, env.worktree.as_ref()?);
    let folder = task.layout().trash_of(env.life());
    let place = Path::new(folder.file_name()?).join(target.file_name()?);
    let mut places = task.layout().trashes().into_iter().map(|trash| trash.join(&place));
    let is_it = |place: PathBuf| matches!(marker::identity(&place), Ok(Some(found)) if found.inode == made.inode);
    let was_inspected = teardown.fingerprint.is_some();
    (was_inspected && places.any(is_it)).then(|| Inspection {
        unsaved: teardown.unsaved.clone(),
        fingerprint: teardown.fingerprint.clone(),
        head: teardown.head.clone(),
        quiet: false,
        ..Inspection::default()
    })
}

/// Reports what lies beside the worktree in its folder: it is not ours and is not moved.
fn beside(task: &Task<'_>, target: &Path, seen: &mut Seen) {
    let place = task.layout().place_of(&task.env().id);
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if Some(entry.file_name().as_os_str()) != target.file_name() {
            seen.push(format!("beside the worktree: {}", entry.path().display()));
        }
    }
}

/// Returns whether the teardown comes from the live set, which spares an environment in use.
fn spares_used(env: &Environment) -> bool {
    env.teardown
        .as_ref()
        .is_some_and(|t| t.options.reason == crate::core::event::TeardownReason::Reconcile)
}

/// Inspects a worktree that is at its path.
pub(in crate::world) fn inspect_worktree(task: &Task<'_>) -> Result<Inspection, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(command::LONG);
    let hook = env.teardown.as_ref().and_then(|t| t.options.hook_path.as_ref());
    let has_hook = hook.is_some_and(|hook| target.join(hook).symlink_metadata().is_ok());
    let wanted = env.teardown.as_ref().is_some_and(|t| !t.quiet) && !has_hook || spares_used(env);
    let mut seen = Seen::default();
    // The three are independent of each other.
    let (by_git_result, quiet, inner) = std::thread::scope(|scope| {
        let quiet = wanted.then(|| scope.spawn(|| is_unused(task)));
        let inner = scope.spawn(|| nested_work::search(&target, &admin, &target, task.cancel));
        let by_git_result = match clean_check::untouched(task, &admin, &target) {
            Some(head) => {
                seen.at(&head);
                Ok(())
            }
            None => by_git(task, &git, &admin, &target, &mut seen),
        };
        let inner = inner.join().unwrap_or_else(|_| {
            let message = "the search for nested repositories panicked";
            Err(Fault::new(Code::Defect, message, "report this defect with the daemon log"))
        });
        // A panic in the search, too, means that the worktree may be in use.
        let quiet = quiet.map_or(Ok(false), |quiet| quiet.join().unwrap_or(Ok(false)));
        (by_git_result, quiet, inner)
    });
    by_git_result?;
    let quiet = quiet?;
    seen.inner(&inner?, &target);
    // These files change with work that the tree itself does not show, such as a commit.
    for name in ["index", "HEAD", "logs/HEAD", "COMMIT_EDITMSG"] {
        let age = admin.join(name).metadata().map_or(0, |found| found.mtime());
        seen.last_change = seen.last_change.max(age);
    }
    in_progress(&admin, &mut seen);
    foreign_lock(env, &admin, &mut seen);
    beside(task, &target, &mut seen);
    stashes(env, &mut seen);
    commits(task, &admin, &mut seen)?;
    Ok(Inspection { quiet, ..seen.finish(has_hook) })
}

/// Reads git's status of the working tree, and the edits that status is told to hide.
fn by_git(
    task: &Task<'_>,
    git: &Git<'_>,
    admin: &Path,
    target: &Path,
    seen: &mut Seen,
) -> Result<(), Fault> {
    let env = task.env();
    let status = status_of(git, seen)?;
    // git's stderr is no evidence: traces, ambiguous names, unreadable settings. A directory that
    // cannot be listed is found by the search for nested repositories.
    let source = env.plan.repository.source.as_ref().map(paths::borrowed);
    let ours = IncludedFiles::new(source, target, admin);
    let entries = status.stdout.split(|b| *b == 0).filter(|e| !e.is_empty());
    let folders = Folders::of(task.world, git, entries.clone())?;
    for entry in entries {
        seen.take(&folders, &ours, target, entry);
    }
    let collector = Collector {
        git,
        index: &admin.join("index"),
        target,
        own_index: std::fs::read(admin.join("index")).unwrap_or_default(),
        hash: Hash::named(&env.plan.repository.object_format),
        made_at: marker::made_at(admin),
        nested: &[],
        scratch: PathBuf::new(),
        careful: false,
    };
    seen.rescue |= collector.may_hide_bytes()?;
    for path in hidden_edits::edits(task, git, admin, target)? {
        seen.rescue(format!("hidden from status: {}", String::from_utf8_lossy(&path)));
        seen.stat(&target.join(paths::from_bytes(&path)), 0);
    }
    Ok(())
}

/// Runs `git status`. It fails as a whole if one submodule has a git directory that is missing, as
/// `git reset` with `submodule.recurse` leaves it in a worktree. Then the submodules are left to
/// the search for nested repositories, and the rest is read without them.
fn status_of(git: &Git<'_>, seen: &mut Seen) -> Result<Finished, Fault> {
    let args = [
        "status",
        "--porcelain=v2",
        "-z",
        "--branch",
        "--untracked-files=all",
        "--ignored=matching",
        "--no-renames",
    ];
    let status = git.run(args)?;
    if status.status.success() {
        return Ok(status);
    }
    let without = git.run(args.into_iter().chain(["--ignore-submodules=all"]))?;
    if !without.status.success() {
        return Err(git::Error::failed("git status", &status).into());
    }
    seen.rescue("a submodule that git cannot read".to_owned());
    Ok(without)
}

/// Returns whether no process uses the worktree; then none has to be ended.
fn is_unused(task: &Task<'_>) -> Result<bool, Fault> {
    let found = Scope::of(task.env(), &task.world.cgroups).scan()?;
    Ok(found.inside.is_empty() && found.bystanders.is_empty())
}

fn in_progress(admin: &Path, seen: &mut Seen) {
    let there = |name: &str| admin.join(name).symlink_metadata().is_ok();
    if let Some((_, _, what)) = OPERATIONS.iter().find(|(name, ..)| there(name)) {
        seen.rescue(format!("in progress: {what}"));
    }
}

/// Reports the lock reason if another program locked the worktree.
fn foreign_lock(env: &Environment, admin: &Path, seen: &mut Seen) {
    let Ok(reason) = std::fs::read_to_string(admin.join("locked")) else { return };
    if reason != crate::world::git::registration::lock_reason(env) {
        seen.push(format!("locked: {}", reason.trim_end()));
    }
}

/// Stashes belong to the whole repository and outlive the worktree. The rescue also holds those
/// made on the worktree's branch, because later their origin is unknown.
fn stashes(env: &Environment, seen: &mut Seen) {
    let found = stashes_of(&env.plan);
    seen.rescue |= !found.is_empty();
    for commit in found {
        seen.sum.update(commit.as_bytes());
    }
}

/// Reports commits that nothing else has. Commits whose content is merged somewhere are no loss,
/// but a rescue holds them nevertheless, as it does those that only the reflog of HEAD holds.
fn commits(task: &Task<'_>, admin: &Path, seen: &mut Seen) -> Result<(), Fault> {
    let env = task.env();
    let common = paths::from_host(&env.plan.repository.common_dir);
    let mut heads = Heads::read(admin).with_history_of(&common, &env.plan.branch);
    seen.branch = heads.branch.clone().and_then(non_empty);
    heads.branches.insert(env.plan.branch.clone());
    let base = env.base.as_ref().map(|b| b.commit.as_str());
    let mut tips = heads.tips(&common);
    tips.extend(seen.head.clone());
    tips.retain(|tip| Some(tip.as_str()) != base);
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    for tip in &tips {
        let own = heads.unpushed(&git, std::slice::from_ref(tip))?;
        if own == 0 {
            continue;
        }
        seen.rescue = true;
        if integration::by_content(task, tip)?.is_none() {
            let branch = heads.branch.as_deref().unwrap_or(&env.plan.branch);
            seen.push(format!("unpushed: {own} commits that only {branch} has (at {tip})"));
        }
    }
    let known: BTreeSet<&str> =
        tips.iter().map(String::as_str).chain(base).chain(env.start()).collect();
    let alone = heads.held_here_alone(&git, &known)?;
    if !alone.is_empty() {
        seen.rescue = true;
        let count = alone.len();
        seen.noted
            .push(format!("{count} commits that only its reflogs or own refs hold are rescued"));
        for commit in &alone {
            seen.sum.update(commit.as_bytes());
        }
    }
    Ok(())
}
