//! Taking a worktree away: look, rename to the trash, unregister, settle the branch.
//!
//! Nothing is unlinked here. The directory goes to the trash with one rename, its administrative
//! directory to a place in the repository that git does not look at, and the branch is deleted
//! only if every commit of it is reachable from somewhere else.

use super::git::{self, Git};
use super::marker::{self, Admin, Marker};
use super::{Task, paths, registration, removal};
use crate::core::{Code, Fault, Outcome};
use crate::killpoint::point;

/// Performs [`Step::MoveToTrash`](crate::core::Step::MoveToTrash).
pub(super) fn move_to_trash(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let layout = task.layout();
    let target = paths::from_host(&env.plan.path);
    let trash = layout.trash_of(&env.id, env.incarnation);
    let name = target.file_name().unwrap_or_default();
    let place = layout.place_of(&env.id);
    if let Some(found) = marker::identity(&target)? {
        let admin = Admin::of(task.log_id(), env);
        let marker = Marker::read(&admin.published)?;
        let root = layout.worktrees();
        marker::prove(&root, &target, found, marker.as_ref(), task.log_id(), env)?;
        removal::no_mounts(&target)?;
        point("trash.proven");
        removal::move_into(&target, &trash)?;
        point("trash.moved");
        for dir in [place.as_path(), trash.as_path(), &layout.trash()] {
            paths::sync_dir(dir).map_err(paths::failed("sync", dir))?;
        }
    }
    // What somebody put beside the worktree is not ours and keeps the folder where it is.
    paths::remove_dir_if_empty(&place).map_err(paths::failed("remove", &place))?;
    let trashed = trash.join(name);
    let there = paths::exists(&trashed).map_err(paths::failed("look at", &trashed))?;
    Ok(Outcome::Trashed(there.then(|| paths::to_host(&trashed))))
}

/// Performs [`Step::Unregister`](crate::core::Step::Unregister): git does not know it any more.
pub(super) fn unregister(task: &Task<'_>) -> Result<Outcome, Fault> {
    registration::hide(task, &Admin::of(task.log_id(), task.env()))?;
    point("unregister.hidden");
    Ok(Outcome::Unregistered)
}

/// Performs [`Step::SettleBranch`](crate::core::Step::SettleBranch), and puts the registration
/// away, which by now nobody reads any more.
pub(super) fn settle_branch(task: &Task<'_>) -> Result<Outcome, Fault> {
    let admin = Admin::of(task.log_id(), task.env());
    // Once it is put away, git no longer counts the worktree's HEAD as a reason to keep commits.
    let rescue = rescue_head(task, &admin)?;
    let (deleted, reason) = branch(task)?;
    registration::put_away(task, &admin)?;
    Ok(Outcome::BranchSettled(deleted, reason, rescue))
}

/// A ref on the commit of a detached HEAD that nothing else holds.
pub(super) fn rescue_head(task: &Task<'_>, admin: &Admin) -> Result<Vec<String>, Fault> {
    let env = task.env();
    let head = std::fs::read_to_string(admin.published.join("HEAD")).unwrap_or_default();
    let head = head.trim_end();
    if head.is_empty() || head.starts_with("ref: ") {
        return Ok(Vec::new());
    }
    let common = paths::from_host(&env.plan.repository.common_dir);
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let args = ["rev-list", "--count", head, "--not", "--branches", "--tags", "--remotes"];
    if git.line(args)? == "0" {
        return Ok(Vec::new());
    }
    let name = format!("refs/groundskeeper/rescue/{}/{}", env.id, env.incarnation);
    git.output(["update-ref", "-m", "groundskeeper: rescued", &name, head])?;
    Ok(vec![name])
}

fn branch(task: &Task<'_>) -> Result<(bool, String), Fault> {
    let env = task.env();
    let plan = &env.plan;
    let settled = |deleted: bool, why: String| Ok((deleted, why));
    if plan.reuse_branch {
        return settled(false, "it was there before".into());
    }
    let common = paths::from_host(&plan.repository.common_dir);
    if !paths::exists(&common).map_err(paths::failed("look at", &common))? {
        return settled(false, "the repository is gone".into());
    }
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let reference = format!("refs/heads/{}", plan.branch);
    let tip = git.run(["rev-parse", "--verify", "--quiet", &reference])?;
    if !tip.status.success() {
        return settled(false, "it was gone already".into());
    }
    let tip = String::from_utf8_lossy(&tip.stdout).trim_end().to_owned();
    if let Some(place) = registration::checked_out(&common, &reference) {
        return settled(false, format!("it is checked out in {place}"));
    }
    let own = own_commits(&git, &tip, &plan.branch)?;
    if own > 0 {
        return settled(false, format!("{own} commits are on no other branch, tag or remote"));
    }
    git.output(["update-ref", "-d", &reference, &tip])?;
    settled(true, "all its commits are reachable elsewhere".into())
}

/// How many commits of `tip` no branch but `branch`, no tag and no remote has.
pub(super) fn own_commits(git: &Git<'_>, tip: &str, branch: &str) -> Result<u64, Fault> {
    let exclude = format!("--exclude={branch}");
    let args = ["rev-list", "--count", tip, "--not", &exclude, "--branches", "--tags", "--remotes"];
    let text = git.line(args)?;
    text.parse().map_err(|_| {
        let message = format!("git rev-list --count printed {text:?}");
        Fault::new(Code::GitFailed, message, "see the cause")
    })
}

/// Performs [`Step::RefreshIndex`](crate::core::Step::RefreshIndex): one status that may write the
/// index, so that later ones need not read the files. An index that somebody holds is left alone.
pub(super) fn refresh_index(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let admin = Admin::of(task.log_id(), env).published;
    let target = paths::from_host(&env.plan.path);
    if admin.join("index.lock").exists() {
        return Ok(Outcome::Refreshed(false));
    }
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(git::LONG);
    let mut command = git.command(["status", "--porcelain", "--untracked-files=no"]);
    command.env("GIT_OPTIONAL_LOCKS", "1");
    let finished = git.run_command(command)?;
    Ok(Outcome::Refreshed(finished.status.success()))
}
