//! The data and helpers of a rescue: commits under refs that hold what a worktree has and no branch
//! has, and raw copies of what git would not give back. The steps are in `make_rescue.rs`.
//!
//! The rescue commit's tree is the working tree: tracked files as they are, and untracked ones
//! that git does not ignore. Its parents are HEAD, the index as a commit, and whatever else
//! would be lost: the other side of a merge, the origin of a rebase, stashes of the branch,
//! commits that only the reflog of HEAD or private refs hold. All of it is made through a git
//! directory of our own (`scratch_dir.rs`), so that damage in the worktree's git directory does
//! not matter; no hook runs, nothing is signed. A rescue is complete or lists what it lacks;
//! that is in the trash alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::event::{Plan, Rescue};
use crate::core::{Fault, Life};
use crate::world::effects::collect::Collector;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::names::Names;
use crate::world::fs::paths;
use crate::world::git::command;
use crate::world::git::command::Git;
use crate::world::git::heads::Heads;
use crate::world::git::scratch_dir::ScratchGitDir;
use crate::world::process::cancel::Cancel;

/// Most entries in the list of what a rescue lacks.
pub(in crate::world) const LACKS_MAX: usize = 40;
/// Most parents of one commit; further commits are held through intermediate commits.
pub(in crate::world) const PARENTS_MAX: usize = 32;
/// Most paths passed to one git call.
pub(in crate::world) const ARGUMENTS_MAX: usize = 200;

/// Most lines that are read from a file in [`HELD`].
pub(in crate::world) const NAMED_MAX: usize = 256;
/// Words of a line that are searched for a commit: `fixup -C NAME`.
pub(in crate::world) const WORDS_MAX: usize = 3;
/// Fewest digits to which git abbreviates a commit name.
pub(in crate::world) const ABBREVIATION: usize = 7;
/// Files of a git directory that name commits which nothing else may hold.
pub(in crate::world) const HELD: [(&str, &str); 11] = [
    ("MERGE_HEAD", "the other side of a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("rebase-merge/orig-head", "the original head of a rebase"),
    ("rebase-merge/onto", "the target of a rebase"),
    ("rebase-apply/orig-head", "the original head of a rebase"),
    ("rebase-merge/autostash", "the autostash of a rebase"),
    ("rebase-apply/autostash", "the autostash of a rebase"),
    ("MERGE_AUTOSTASH", "the autostash of a merge"),
    ("sequencer/todo", "the remaining picks of a sequence"),
    ("rebase-merge/git-rebase-todo", "the remaining steps of a rebase"),
];

/// Saves the work of one worktree.
pub(in crate::world) struct Rescuer<'a> {
    pub(in crate::world) log: &'a str,
    pub(in crate::world) life: Life<'a>,
    pub(in crate::world) plan: &'a Plan,
    pub(in crate::world) layout: &'a Layout,
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
    /// The administrative directory, at its present path.
    pub(in crate::world) admin: PathBuf,
    /// The files of the worktree, at their present path.
    pub(in crate::world) target: PathBuf,
    /// The recorded HEAD, for one that cannot be read.
    pub(in crate::world) recorded: Option<String>,
    /// Commits that the worktree started from, in order of preference; the last ones to be tried.
    pub(in crate::world) start: Vec<String>,
    /// An earlier rescue of the same incarnation, which the new one replaces
    /// and therefore must contain.
    pub(in crate::world) before: Option<Rescue>,
}

/// Returns the commits that a file of a git directory names, one a line (alone, or after a verb
/// such as `pick`), as far as they exist.
pub(in crate::world) fn commits_in(git: &Git<'_>, dir: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let is_name = |w: &&str| w.len() >= ABBREVIATION && w.bytes().all(|b| b.is_ascii_hexdigit());
    let named = text.lines().take(NAMED_MAX).filter_map(|line| {
        let mut words = line.split_whitespace().take(WORDS_MAX);
        words.find(is_name)
    });
    let commit = |name: &str| commit_of(git, &format!("{name}^{{commit}}")).ok().flatten();
    named.filter_map(commit).collect()
}

/// Replaces the index by one that holds HEAD and no stat data, so that
/// every file counts as touched.
pub(in crate::world) fn start_over(
    side: &ScratchGitDir,
    collector: &mut Collector<'_>,
    head: Option<&str>,
) -> Result<(), Fault> {
    // A git that was killed may have left the lock; this index is ours alone.
    drop(paths::remove_file_if_any(&side.index()));
    drop(paths::remove_file_if_any(&side.dir.join("index.lock")));
    if let Some(head) = head {
        let _read = collector.git.run_command(collector.command(&["read-tree", head]))?;
    }
    collector.own_index = std::fs::read(side.index()).unwrap_or_default();
    Ok(())
}

/// Bounds a list that goes into the log; the number of omitted lines is kept.
pub(in crate::world) fn bounded(lacks: &mut Vec<String>) {
    let more = lacks.len().saturating_sub(LACKS_MAX);
    if more > 0 {
        lacks.truncate(LACKS_MAX);
        lacks.push(format!("... and {more} more"));
    }
}

/// Sets author and committer, so that commits of ours are attributed to no user.
pub(in crate::world) fn sign(command: &mut Command) {
    command
        .env("GIT_AUTHOR_NAME", "groundskeeper")
        .env("GIT_AUTHOR_EMAIL", "rescue@groundskeeper")
        .env("GIT_COMMITTER_NAME", "groundskeeper")
        .env("GIT_COMMITTER_EMAIL", "rescue@groundskeeper");
}

/// Returns the commit that a name resolves to; none if it does not exist.
pub(in crate::world) fn commit_of(git: &Git<'_>, name: &str) -> Result<Option<String>, Fault> {
    let found = git.run(["rev-parse", "--verify", "--quiet", name])?;
    let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
    Ok(found.status.success().then_some(text))
}

/// Checks that every object that a rescue's commit adds to HEAD exists. A concurrent
/// prune may have deleted some.
pub(in crate::world) fn is_whole(git: &Git<'_>, commit: &str) -> Result<(), Fault> {
    let first = format!("{commit}^1");
    let mut args = vec!["rev-list", "--objects", "--quiet", commit];
    if git.run(["rev-parse", "--verify", "--quiet", &first])?.status.success() {
        args.extend(["--not", &first]);
    }
    git.output(args)?;
    Ok(())
}

impl<'a> Rescuer<'a> {
    pub(in crate::world) fn names(&self) -> Names<'a> {
        Names::of(self.log, self.life)
    }

    pub(in crate::world) fn common(&self) -> PathBuf {
        paths::from_host(&self.plan.repository.common_dir)
    }

    /// git on the repository alone, without a working tree.
    pub(in crate::world) fn repository(&self) -> Git<'a> {
        Git::exact(&self.common(), None, Some(self.lock), self.cancel).within(command::LONG)
    }

    /// Returns the commit that HEAD is at, or is assumed to be at; none if no candidate exists.
    pub(in crate::world) fn head(&self, heads: &Heads) -> Result<Option<String>, Fault> {
        let git = self.repository();
        let branch = heads.branch.as_ref().map(|name| format!("refs/heads/{name}"));
        let named = branch.into_iter().chain(heads.detached.clone());
        // A HEAD that cannot be read is assumed to be on the environment's branch, unless the user
        // has moved that branch elsewhere since. One that names a branch without a commit can be
        // read: nothing of any other commit is checked out then.
        let assumed = match (&heads.branch, &heads.detached, self.start.first()) {
            (None, None, Some(start)) => self.branch_since(&git, start)?,
            _ => None,
        };
        let names = named.chain(self.recorded.clone()).chain(assumed);
        for name in names.chain(self.start.iter().cloned()) {
            if let Some(commit) = commit_of(&git, &format!("{name}^{{commit}}"))? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Returns the environment's branch if it contains the commit `start`.
    fn branch_since(&self, git: &Git<'_>, start: &str) -> Result<Option<String>, Fault> {
        let branch = format!("refs/heads/{}", self.plan.branch);
        let known = git.run(["merge-base", "--is-ancestor", start, &branch])?;
        Ok(known.status.success().then_some(branch))
    }
}

/// The parts of the rescue commit, as they are collected.
#[derive(Default)]
pub(in crate::world) struct RescueParts {
    /// The tree of the commit; none if git could make none.
    pub(super) tree: Option<String>,
    /// Its parents: HEAD first, if there is one.
    pub(super) parents: Vec<String>,
    /// What the rescue holds, for the user. Nothing is rescued if this and `lacks` are empty.
    pub(super) holds: Vec<String>,
    /// What could not be saved, and why.
    pub(super) lacks: Vec<String>,
}

/// A rescue that is complete and not yet under a ref.
pub(in crate::world) struct SavedWork {
    pub(in crate::world) rescue: Rescue,
    /// Whether it holds commits alone: no file, no index, no copy.
    pub(in crate::world) only_commits: bool,
}
