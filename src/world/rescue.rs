//! Saving what a worktree has and no branch has, as commits under one ref; and putting it back.
//!
//! The rescue commit's tree is the working tree: tracked files as they are, and untracked ones
//! that git does not ignore. Ignored files never become objects: they may be secrets. Its parents
//! are HEAD, the index as a commit, and whatever else would be lost: the other side of a merge,
//! where a rebase came from, stashes of the branch. The worktree's own index is not touched; no
//! hook runs and nothing is signed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::exec::Finished;
use super::git::{self, Git};
use super::inspect;
use super::marker::Admin;
use super::{Task, merged, paths, refs};
use crate::core::event::{Plan, Rescue};
use crate::core::{Code, EnvironmentId, Fault, Outcome};
use crate::killpoint::point;

/// Reasons why something is not in a rescue that are kept.
const LACKS_MAX: usize = 40;
/// More parents than this a commit does not get.
const PARENTS_MAX: usize = 32;
/// Paths that one git call gets.
const ARGUMENTS_MAX: usize = 200;

/// Performs [`Step::Rescue`](crate::core::Step::Rescue).
pub(super) fn rescue(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    if !paths::exists(&admin).map_err(paths::failed("look at", &admin))? {
        if env.teardown.as_ref().is_some_and(|t| t.force) {
            return Ok(Outcome::Rescued(None));
        }
        return Err(merged::repository_is_gone(task));
    }
    let there = target.is_dir();
    let git = Git::exact(&admin, there.then_some(target.as_path()), Some(task.lock), task.cancel);
    let life = Life { id: &env.id, incarnation: env.incarnation, plan: &env.plan };
    let index = task.layout().scratch_index_of(&env.id, env.incarnation);
    let git = git.within(git::LONG);
    let head = head(&git)?;
    let saver = Saver { life, index, head, before: None, git, admin, target };
    let rescue = if there { saver.save()? } else { saver.commits_only()? };
    point("rescue.committed");
    let Some(rescue) = rescue else { return Ok(Outcome::Rescued(None)) };
    saver.refer(&rescue)?;
    Ok(Outcome::Rescued(Some(rescue)))
}

/// The name of the ref of one incarnation.
pub(super) fn reference(id: &EnvironmentId, incarnation: u32) -> String {
    format!("refs/groundskeeper/rescue/{id}/{incarnation}")
}

/// The commit that HEAD is at; none when its branch is not there.
pub(super) fn head(git: &Git<'_>) -> Result<Option<String>, Fault> {
    commit_of(git, "HEAD^{commit}")
}

/// The commit that a name is at; none when there is no such name.
pub(super) fn commit_of(git: &Git<'_>, name: &str) -> Result<Option<String>, Fault> {
    let found = git.run(["rev-parse", "--verify", "--quiet", name])?;
    let text = String::from_utf8_lossy(&found.stdout).trim_end().to_owned();
    Ok(found.status.success().then_some(text))
}

/// Whose work it is.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    pub(super) id: &'a EnvironmentId,
    pub(super) incarnation: u32,
    pub(super) plan: &'a Plan,
}

/// What saves the work of one worktree.
pub(super) struct Saver<'a> {
    pub(super) life: Life<'a>,
    /// A private index, made and dropped here.
    pub(super) index: PathBuf,
    /// The commit that HEAD is at, if it is at any.
    pub(super) head: Option<String>,
    /// An earlier rescue that the new one takes the place of, and so has to hold.
    pub(super) before: Option<String>,
    pub(super) git: Git<'a>,
    pub(super) admin: PathBuf,
    pub(super) target: PathBuf,
}

impl Saver<'_> {
    /// Makes a rescue of all that is there; none when there is nothing. No ref is on it yet.
    pub(super) fn save(&self) -> Result<Option<Rescue>, Fault> {
        let saved = self.save_with(&self.index, self.head.as_deref());
        for name in ["index", "index.lock", "staged", "staged.lock"] {
            let file = self.index.with_extension(name);
            drop(paths::remove_file_if_any(&file));
        }
        saved
    }

    /// Puts its ref on a rescue, and makes sure that all of it is there.
    pub(super) fn refer(&self, rescue: &Rescue) -> Result<(), Fault> {
        let common = paths::from_host(&self.life.plan.repository.common_dir);
        refs::break_stale(&common, &rescue.reference);
        let args = ["-c", "core.fsync=all", "update-ref", "--create-reflog", "-m", "rescued"];
        self.git.output(args.into_iter().chain([rescue.reference.as_str(), &rescue.commit]))?;
        point("rescue.referenced");
        if let Err(fault) = self.verify(rescue) {
            // A `git gc` took away what it names; its log must not name that for ever. The worktree
            // is where it was, and is saved anew.
            let back = self.before.as_deref();
            drop(match back {
                Some(before) => {
                    self.git.output(["update-ref", &rescue.reference, before]).map(drop)
                }
                None => refs::delete(&self.git, &common, &rescue.reference, None),
            });
            return Err(fault);
        }
        Ok(())
    }

    fn save_with(&self, index: &Path, head: Option<&str>) -> Result<Option<Rescue>, Fault> {
        let own = self.admin.join("index");
        match std::fs::copy(&own, index) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(paths::fault("copy", &own, &e));
            }
            Ok(_) => as_old_as(index, &own)?,
            Err(_) => {}
        }
        let mut holds = Vec::new();
        let staged = self.staged(index)?;
        let lacks = self.add_everything(index)?;
        let working =
            self.line(index, &["write-tree"])?.map_err(|f| git::said("write-tree", &f))?;
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        if clean.as_deref() != Some(working.as_str()) {
            holds.push("the working tree".to_owned());
        }
        let mut parents: Vec<String> = head.map(str::to_owned).into_iter().collect();
        if let Some(staged) = staged.filter(|s| *s != working && Some(s) != clean.as_ref()) {
            let message = format!("index of {}", self.life.id);
            parents.push(self.commit(index, &staged, &parents, &message)?);
            holds.push("the index".to_owned());
        }
        self.others(&mut parents, &mut holds);
        self.finish(index, &working, &parents, holds, lacks)
    }

    /// The index as a tree. Where a merge left conflicts it is none; then those entries are left
    /// out, whose sides are commits that are held below.
    fn staged(&self, index: &Path) -> Result<Option<String>, Fault> {
        if let Ok(tree) = self.line(index, &["write-tree"])? {
            return Ok(Some(tree));
        }
        let second = index.with_extension("staged");
        std::fs::copy(index, &second).map_err(paths::failed("copy", index))?;
        let listed = self.git.run_command(self.command(&second, &["ls-files", "-u", "-z"]))?;
        let unmerged: BTreeSet<&[u8]> = listed
            .stdout
            .split(|b| *b == 0)
            .filter_map(|e| e.splitn(2, |b| *b == b'\t').nth(1))
            .collect();
        let unmerged: Vec<&[u8]> = unmerged.into_iter().collect();
        for some in unmerged.chunks(ARGUMENTS_MAX) {
            let mut command = self.command(&second, &["update-index", "--force-remove", "--"]);
            command.args(some.iter().map(|path| paths::from_bytes(path)));
            self.git.run_command(command)?;
        }
        let tree = self.line(&second, &["write-tree"])?.ok();
        drop(paths::remove_file_if_any(&second));
        Ok(tree)
    }

    /// The directory is gone, but there may be commits, and what was staged.
    fn commits_only(&self) -> Result<Option<Rescue>, Fault> {
        let Some(head) = self.head.clone() else { return Ok(None) };
        let own = self.admin.join("index");
        let (mut parents, mut holds) = (vec![head.clone()], Vec::new());
        let clean = self.tree_of(&head)?;
        let staged = if own.exists() { self.line(&own, &["write-tree"])?.ok() } else { None };
        let tree = staged.unwrap_or_else(|| clean.clone());
        if tree != clean {
            holds.push("the index".to_owned());
        }
        self.others(&mut parents, &mut holds);
        self.finish(&self.admin.join("index"), &tree, &parents, holds, Vec::new())
    }

    fn finish(
        &self,
        index: &Path,
        tree: &str,
        parents: &[String],
        mut holds: Vec<String>,
        lacks: Vec<String>,
    ) -> Result<Option<Rescue>, Fault> {
        let life = self.life;
        if let Some(head) = parents.first() {
            let own = super::teardown::own_commits(&self.git, head, &life.plan.branch)?;
            if own > 0 {
                holds.push(format!("{own} commits"));
            }
        }
        if holds.is_empty() && lacks.is_empty() {
            return Ok(None);
        }
        let message = message(life, &holds);
        let before = self.before.iter().filter(|before| !parents.contains(before));
        let room = PARENTS_MAX - usize::from(self.before.is_some());
        let parents: Vec<String> = parents.iter().take(room).chain(before).cloned().collect();
        let commit = self.commit(index, tree, &parents, &message)?;
        let reference = reference(life.id, life.incarnation);
        Ok(Some(Rescue { reference, commit, holds, lacks }))
    }

    /// Whether everything that was added is there, now that a ref holds it. A prune that ran
    /// meanwhile may have taken a part.
    fn verify(&self, rescue: &Rescue) -> Result<(), Fault> {
        let first = format!("{}^1", rescue.commit);
        let mut args = vec!["rev-list", "--objects", "--quiet", &rescue.commit];
        if self.git.run(["rev-parse", "--verify", "--quiet", &first])?.status.success() {
            args.extend(["--not", &first]);
        }
        self.git.output(args).map(drop)
    }

    pub(super) fn tree_of(&self, commit: &str) -> Result<String, Fault> {
        self.git.line(["rev-parse", "--verify", &format!("{commit}^{{tree}}")])
    }

    /// A git command on the temporary index, signed by nobody but us.
    fn command(&self, index: &Path, args: &[&str]) -> Command {
        let mut command = self.git.command(
            // Flushed: the trash will be unlinked on the strength of it.
            [
                "-c",
                "commit.gpgSign=false",
                "-c",
                "core.safecrlf=false",
                "-c",
                "core.fsync=all",
                "-c",
                "core.fsyncMethod=batch",
            ]
            .iter()
            .chain(args),
        );
        command
            .env("GIT_INDEX_FILE", index)
            .env("GIT_AUTHOR_NAME", "groundskeeper")
            .env("GIT_AUTHOR_EMAIL", "rescue@groundskeeper")
            .env("GIT_COMMITTER_NAME", "groundskeeper")
            .env("GIT_COMMITTER_EMAIL", "rescue@groundskeeper");
        command
    }

    fn line(&self, index: &Path, args: &[&str]) -> Result<Result<String, Finished>, Fault> {
        let finished = self.git.run_command(self.command(index, args))?;
        if !finished.status.success() {
            return Ok(Err(finished));
        }
        Ok(Ok(String::from_utf8_lossy(&finished.stdout).trim_end().to_owned()))
    }

    fn commit(
        &self,
        index: &Path,
        tree: &str,
        parents: &[String],
        message: &str,
    ) -> Result<String, Fault> {
        let mut args = vec!["commit-tree", tree, "-m", message];
        for parent in parents.iter().take(PARENTS_MAX) {
            args.extend(["-p", parent]);
        }
        self.line(index, &args)?.map_err(|f| git::said("git commit-tree", &f))
    }

    /// Puts the working tree into the temporary index; returns what could not be put there.
    fn add_everything(&self, index: &Path) -> Result<Vec<String>, Fault> {
        self.show_hidden(index)?;
        let args = ["-c", "advice.addEmbeddedRepo=false", "add", "--all", "--sparse"];
        let args: Vec<&str> = args.into_iter().chain(["--ignore-errors", "--", "."]).collect();
        let finished = self.git.run_command(self.command(index, &args))?;
        let fault = git::said("git add", &finished);
        if finished.status.success() {
            // What git could not read it only warns of.
            let warned = fault.evidence.into_iter();
            let mut lacks: Vec<String> =
                warned.filter(|l| !l.contains("will be replaced by")).collect();
            lacks.truncate(LACKS_MAX);
            lacks.extend(self.nested(index));
            return Ok(lacks);
        }
        if fault.code == Code::DiskFull || fault.transient {
            return Err(fault);
        }
        // Files that cannot be read are left out, and named; the trash has them.
        let mut lacks = fault.evidence;
        lacks.truncate(LACKS_MAX);
        lacks.extend(self.nested(index));
        Ok(lacks)
    }

    /// What status is told not to show would be left out as well.
    fn show_hidden(&self, index: &Path) -> Result<(), Fault> {
        let listed = self.git.output(["ls-files", "-v", "-z"])?;
        let hidden: Vec<&[u8]> = inspect::hidden(&listed, &self.target).collect();
        if hidden.is_empty() {
            return Ok(());
        }
        for flag in ["--no-skip-worktree", "--no-assume-unchanged"] {
            for some in hidden.chunks(ARGUMENTS_MAX) {
                let mut command = self.command(index, &["update-index", flag, "--"]);
                command.args(some.iter().map(|path| paths::from_bytes(path)));
                let finished = self.git.run_command(command)?;
                if !finished.status.success() {
                    return Err(git::said("git update-index", &finished));
                }
            }
        }
        Ok(())
    }

    /// Repositories inside the worktree: git keeps their commit, and nothing of what is in them.
    fn nested(&self, index: &Path) -> Vec<String> {
        let command = self.command(index, &["ls-files", "--stage", "-z"]);
        let listed = self.git.run_command(command).map(|f| f.stdout).unwrap_or_default();
        let nested = listed.split(|b| *b == 0).filter(|e| e.starts_with(b"160000 "));
        let nested = nested.filter_map(|e| e.splitn(2, |b| *b == b'\t').nth(1));
        let inside = nested.filter(|path| {
            let place = self.target.join(paths::from_bytes(path)).join(".git");
            place.symlink_metadata().is_ok()
        });
        let lines = inside
            .map(|path| format!("{}: a repository of its own", String::from_utf8_lossy(path)));
        lines.take(LACKS_MAX).collect()
    }

    /// Commits that only an operation in progress or a stash holds.
    fn others(&self, parents: &mut Vec<String>, holds: &mut Vec<String>) {
        let mut add = |commits: Vec<String>, what: &str| {
            let before = parents.len();
            for commit in commits {
                if !parents.contains(&commit) && parents.len() < PARENTS_MAX {
                    parents.push(commit);
                }
            }
            if parents.len() > before {
                holds.push(what.to_owned());
            }
        };
        for (name, what) in [
            ("MERGE_HEAD", "the other side of a merge"),
            ("CHERRY_PICK_HEAD", "a cherry-pick"),
            ("REVERT_HEAD", "a revert"),
            ("rebase-merge/orig-head", "where a rebase came from"),
            ("rebase-merge/onto", "where a rebase goes"),
            ("rebase-apply/orig-head", "where a rebase came from"),
            ("rebase-merge/autostash", "what a rebase put aside"),
            ("rebase-apply/autostash", "what a rebase put aside"),
            ("MERGE_AUTOSTASH", "what a merge put aside"),
        ] {
            add(self.commits_in(name), what);
        }
        add(inspect::stashes_of(self.life.plan), "stashes");
        add(self.own_refs(), "refs of the worktree");
        add(self.earlier_heads(), "where HEAD was before");
    }

    /// Refs that only this worktree has, such as those of a bisect.
    fn own_refs(&self) -> Vec<String> {
        let args = ["for-each-ref", "--format=%(objectname) %(objecttype)"];
        let own = ["refs/worktree", "refs/bisect", "refs/rewritten"];
        let listed = self.git.run(args.into_iter().chain(own));
        let listed = listed.map(|f| f.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&listed).into_owned();
        text.lines().filter_map(|l| l.strip_suffix(" commit")).map(str::to_owned).collect()
    }

    /// Commits that only the history of HEAD has: what was amended or reset away.
    fn earlier_heads(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.admin.join("logs/HEAD")).unwrap_or_default();
        let seen: BTreeSet<&str> = log.lines().filter_map(|l| l.split(' ').nth(1)).collect();
        let mut args = vec!["rev-list", "--no-walk=unsorted", "--ignore-missing"];
        args.extend(seen.into_iter().filter(|c| c.len() >= 40).take(ARGUMENTS_MAX));
        args.extend(["--not", "--branches", "--tags", "--remotes", "HEAD"]);
        let found = self.git.run(args).map(|f| f.stdout).unwrap_or_default();
        String::from_utf8_lossy(&found).lines().map(str::to_owned).collect()
    }

    /// The commits that a file of git's names, one a line, as far as they exist.
    fn commits_in(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.admin.join(name)).unwrap_or_default();
        let words = text.lines().filter_map(|l| l.split_whitespace().next());
        let hex = words.filter(|w| w.len() >= 40 && w.bytes().all(|b| b.is_ascii_hexdigit()));
        let exists = |commit: &&str| {
            let name = format!("{commit}^{{commit}}");
            let found = self.git.run(["rev-parse", "--verify", "--quiet", &name]);
            found.is_ok_and(|f| f.status.success())
        };
        hex.filter(exists).map(str::to_owned).collect()
    }
}

/// git compares times to see whether a file may have changed since it was added; a copy that is
/// younger than its original would hide a change of the same second.
fn as_old_as(copy: &Path, original: &Path) -> Result<(), Fault> {
    let found = original.metadata().and_then(|m| m.modified());
    let time = found.map_err(paths::failed("look at", original))?;
    let times = std::fs::FileTimes::new().set_modified(time);
    let file = std::fs::File::options().write(true).open(copy);
    file.and_then(|file| file.set_times(times)).map_err(paths::failed("date", copy))
}

fn message(life: Life<'_>, holds: &[String]) -> String {
    let head = format!("rescue of {}, incarnation {}", life.id, life.incarnation);
    let list = holds.iter().fold(String::new(), |list, h| list + &format!("holds: {h}\n"));
    format!(
        "{head}\n\n{list}branch: {}\npath: {}\n\nThe first parent is HEAD. The tree is the working \
         tree, without what git ignores.\n",
        life.plan.branch, life.plan.path
    )
}

/// Performs [`Step::ApplyRescue`](crate::core::Step::ApplyRescue): working tree and index of a
/// fresh worktree become those that the rescue holds.
pub(super) fn apply(task: &Task<'_>) -> Result<Outcome, Fault> {
    let env = task.env();
    let from = env.restore.clone().unwrap_or_default();
    let target = paths::from_host(&env.plan.path);
    let admin = Admin::of(task.log_id(), env).published;
    let git = Git::exact(&admin, Some(&target), Some(task.lock), task.cancel).within(git::LONG);
    let read = |what: &str| git.output(["read-tree", "--reset", "-u", what]);
    // Done again it ends in the same place: nobody has worked here yet.
    read(&from.rescue)?;
    point("rescue.applied");
    // The index as it was: the second parent's, when that is the index, else that of HEAD.
    let second = format!("{}^2", from.rescue);
    let subject = git.run(["log", "-1", "--format=%s", &second])?;
    let is_index = subject.status.success() && subject.stdout.starts_with(b"index of ");
    let index = if is_index { second } else { from.head.clone() };
    git.output(["read-tree", "--reset", &index])?;
    // So that a status need not read every file.
    let _refreshed = git.run(["update-index", "-q", "--refresh"])?;
    Ok(Outcome::Applied)
}
