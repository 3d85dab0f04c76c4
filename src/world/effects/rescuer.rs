//! Making a rescue: commits under refs that hold what a worktree has and no branch has, and copies
//! of what git would not give back.
//!
//! The rescue commit's tree is the working tree: tracked files as they are, and untracked ones that
//! git does not ignore. Its parents are HEAD, the index as a commit, and whatever else would be
//! lost: the other side of a merge, where a rebase came from, stashes of the branch, commits that
//! only the history of HEAD or private refs hold. All of it is made through a git directory of our
//! own (`side.rs`), so that damage in the worktree's is in nobody's way; no hook runs, nothing is
//! signed. A rescue is complete or names what it lacks; what it lacks is in the trash alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::event::{Plan, Rescue};
use crate::core::{Fault, Life};
use crate::world::effects::collect::Collector;
use crate::world::fs::data_dir::Layout;
use crate::world::fs::paths;
use crate::world::git::command::Git;
use crate::world::git::scratch_dir::Side;
use crate::world::process::cancel::Cancel;

/// Reasons why something is not in a rescue that are kept.
pub(in crate::world) const LACKS_MAX: usize = 40;
/// More parents than this a commit does not get; more commits are held through one in between.
pub(in crate::world) const PARENTS_MAX: usize = 32;
/// Paths that one git call gets.
pub(in crate::world) const ARGUMENTS_MAX: usize = 200;

/// Lines of such a file that are read.
pub(in crate::world) const NAMED_MAX: usize = 256;
/// Words of a line among which the name of a commit is: `fixup -C NAME`.
pub(in crate::world) const WORDS_MAX: usize = 3;
/// Fewest digits that git shortens the name of a commit to.
pub(in crate::world) const ABBREVIATION: usize = 7;
/// Files of a git directory that name commits which nothing else may hold.
pub(in crate::world) const HELD: [(&str, &str); 11] = [
    ("MERGE_HEAD", "the other side of a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("rebase-merge/orig-head", "where a rebase came from"),
    ("rebase-merge/onto", "where a rebase goes"),
    ("rebase-apply/orig-head", "where a rebase came from"),
    ("rebase-merge/autostash", "what a rebase put aside"),
    ("rebase-apply/autostash", "what a rebase put aside"),
    ("MERGE_AUTOSTASH", "what a merge put aside"),
    ("sequencer/todo", "what is still to be picked"),
    ("rebase-merge/git-rebase-todo", "what is still to be rebased"),
];

/// What saves the work of one worktree.
pub(in crate::world) struct Rescuer<'a> {
    pub(in crate::world) log: &'a str,
    pub(in crate::world) life: Life<'a>,
    pub(in crate::world) plan: &'a Plan,
    pub(in crate::world) layout: &'a Layout,
    pub(in crate::world) lock: &'a File,
    pub(in crate::world) cancel: &'a Cancel,
    /// The administrative directory, wherever it is by now.
    pub(in crate::world) admin: PathBuf,
    /// Where the files are by now.
    pub(in crate::world) target: PathBuf,
    /// What HEAD is taken to be at when it cannot be told: the recorded one, then the base.
    pub(in crate::world) fallback: Vec<String>,
    /// An earlier rescue of the same life that the new one takes the place of, and so has to hold.
    pub(in crate::world) before: Option<Rescue>,
}

/// The commits that a file of a git directory names, one a line (alone, or after what shall be done
/// with it), as far as they exist.
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

/// An index of HEAD and nothing else, which knows nothing of the files yet: each counts as touched.
pub(in crate::world) fn start_over(
    side: &Side,
    collector: &mut Collector<'_>,
    head: Option<&str>,
) -> Result<(), Fault> {
    drop(paths::remove_file_if_any(&side.index()));
    drop(paths::remove_file_if_any(&side.dir.join("index.lock")));
    if let Some(head) = head {
        let _read = collector.git.run_command(collector.command(&["read-tree", head]))?;
    }
    collector.own_index = std::fs::read(side.index()).unwrap_or_default();
    Ok(())
}

/// Lines that a log may grow by are bounded; how many there are is not forgotten.
pub(in crate::world) fn bounded(lacks: &mut Vec<String>) {
    let more = lacks.len().saturating_sub(LACKS_MAX);
    if more > 0 {
        lacks.truncate(LACKS_MAX);
        lacks.push(format!("... and {more} more"));
    }
}

/// Commits of ours are by nobody else.
pub(in crate::world) fn sign(command: &mut Command) {
    command
        .env("GIT_AUTHOR_NAME", "groundskeeper")
        .env("GIT_AUTHOR_EMAIL", "rescue@groundskeeper")
        .env("GIT_COMMITTER_NAME", "groundskeeper")
        .env("GIT_COMMITTER_EMAIL", "rescue@groundskeeper");
}

/// The commit that a name is at; none when there is no such name.
pub(in crate::world) fn commit_of(git: &Git<'_>, name: &str) -> Result<Option<String>, Fault> {
    let found = git.run(["rev-parse", "--verify", "--quiet", name])?;
    let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
    Ok(found.status.success().then_some(text))
}

/// Whether all that a rescue's commit adds to HEAD is there. A prune that ran meanwhile may have
/// taken a part.
pub(in crate::world) fn is_whole(git: &Git<'_>, commit: &str) -> Result<(), Fault> {
    let first = format!("{commit}^1");
    let mut args = vec!["rev-list", "--objects", "--quiet", commit];
    if git.run(["rev-parse", "--verify", "--quiet", &first])?.status.success() {
        args.extend(["--not", &first]);
    }
    git.output(args).map(drop)
}
