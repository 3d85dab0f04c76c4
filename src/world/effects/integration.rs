//! Decides whether the content of a branch is merged, in whatever form: by content, never by name.
//!
//! A squash or a rebase leaves other commits with the same content. Therefore the content is
//! compared: trees first, then patches, then a trial merge. Objects that a comparison needs are
//! written to a scratch folder and never reach the repository.

use std::path::PathBuf;

use crate::core::{Code, Fault};
use crate::world::effects::context::Task;
use crate::world::fs::paths;
use crate::world::git::command::Git;

/// Returns how `tip` is merged into the branch it was based on, or into the default branch; none if
/// it is not, or if that cannot be determined.
///
/// # Errors
/// When git cannot be run.
pub(in crate::world) fn by_content(task: &Task<'_>, tip: &str) -> Result<Option<String>, Fault> {
    let env = task.env();
    let common = paths::from_host(&env.plan.repository.common_dir);
    let git = Git::exact(&common, None, Some(task.lock), task.cancel);
    let scratch = Scratch::new(task, &common)?;
    for target in targets(&git, task)? {
        if let Some(how) = merged_into(&git, &scratch, &target, tip)? {
            return Ok(Some(format!("{how} {target}")));
        }
    }
    Ok(None)
}

/// Returns the branches that work is merged into: the base, its upstream, and the default branch;
/// never the branch itself.
fn targets(git: &Git<'_>, task: &Task<'_>) -> Result<Vec<String>, Fault> {
    let env = task.env();
    let own = format!("refs/heads/{}", env.plan.branch);
    let mut names: Vec<String> = Vec::new();
    if let Some(base) = &env.base {
        names.extend(base.reference.iter().chain(&base.upstream).cloned());
    }
    for symbolic in ["refs/remotes/origin/HEAD", "HEAD"] {
        let found = git.run(["symbolic-ref", "--quiet", symbolic])?;
        names.push(String::from_utf8_lossy(&found.stdout).trim_end().to_owned());
    }
    names.retain(|name| name.starts_with("refs/") && *name != own);
    names.sort();
    names.dedup();
    Ok(names)
}

/// A folder for the objects of comparisons, removed on drop.
struct Scratch {
    objects: PathBuf,
    alternates: PathBuf,
}

impl Scratch {
    fn new(task: &Task<'_>, common: &std::path::Path) -> Result<Self, Fault> {
        let env = task.env();
        let name = format!("{}.{}.objects", env.id, env.incarnation);
        let objects = task.layout().scratch().join(name);
        std::fs::create_dir_all(&objects).map_err(paths::failed("create", &objects))?;
        Ok(Self { objects, alternates: common.join("objects") })
    }

    /// Returns the line that git prints; none if git fails, which means "not merged" here.
    fn line(&self, git: &Git<'_>, args: &[&str]) -> Result<Option<String>, Fault> {
        let mut command = git.command(args);
        command
            .env("GIT_OBJECT_DIRECTORY", &self.objects)
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.alternates)
            .env("GIT_AUTHOR_NAME", "groundskeeper")
            .env("GIT_AUTHOR_EMAIL", "scratch@groundskeeper")
            .env("GIT_COMMITTER_NAME", "groundskeeper")
            .env("GIT_COMMITTER_EMAIL", "scratch@groundskeeper");
        let finished = git.run_command(command)?;
        let text = String::from_utf8_lossy(&finished.stdout).trim_end().to_owned();
        Ok(finished.status.success().then_some(text))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.objects));
    }
}

fn merged_into(
    git: &Git<'_>,
    scratch: &Scratch,
    target: &str,
    tip: &str,
) -> Result<Option<&'static str>, Fault> {
    let tree_of = |commit: &str| {
        let name = format!("{commit}^{{tree}}");
        scratch.line(git, &["rev-parse", "--verify", "--quiet", &name])
    };
    let (Some(theirs), Some(ours)) = (tree_of(target)?, tree_of(tip)?) else { return Ok(None) };
    if theirs == ours {
        return Ok(Some("it has the same tree as"));
    }
    let Some(fork) = scratch.line(git, &["merge-base", target, tip])? else { return Ok(None) };
    // Every commit has a counterpart with the same patch.
    let twins = scratch.line(git, &["cherry", target, tip])?;
    if twins.is_some_and(|list| !list.is_empty() && list.lines().all(|l| l.starts_with('-'))) {
        return Ok(Some("its patches are all in"));
    }
    // All commits together equal one commit of the target: a squash.
    let message = "what a squash would be";
    let squashed = scratch.line(git, &["commit-tree", &ours, "-p", &fork, "-m", message])?;
    if let Some(squashed) = squashed {
        let twin = scratch.line(git, &["cherry", target, &squashed])?;
        if twin.is_some_and(|list| list.starts_with('-')) {
            return Ok(Some("a squash of it is in"));
        }
    }
    // A merge would change nothing.
    let merged = scratch.line(git, &["merge-tree", "--write-tree", target, tip])?;
    if merged.is_some_and(|tree| tree == theirs) {
        return Ok(Some("a merge of it changes nothing in"));
    }
    Ok(None)
}

/// The fault for a repository that no longer exists.
pub(in crate::world) fn repository_is_gone(task: &Task<'_>) -> Fault {
    let place = &task.env().plan.repository.common_dir;
    let message = format!("the repository {place} does not exist");
    let id = &task.env().id;
    let hint =
        format!("restore the repository, or run `groundskeeper rm {id} --force --no-rescue`");
    Fault::new(Code::PathNotFound, message, hint)
}
