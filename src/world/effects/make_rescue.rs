//! Makes a rescue: finds all work that only a worktree has, and saves each part under a ref or as a
//! raw copy beside the log. Only reads the worktree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::event::Rescue;
use crate::core::{Code, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::collect::Collector;
use crate::world::effects::conflicts;
use crate::world::effects::nested_work::{self, NestedRepository};
use crate::world::effects::raw_copies::{self, Copies};
use crate::world::effects::rescuer::{
    ARGUMENTS_MAX, HELD, PARENTS_MAX, Rescuer, bounded, commit_of, commits_in, is_whole, sign,
    start_over,
};
use crate::world::fs::names::Names;
use crate::world::fs::paths;
use crate::world::git::command::{self, Git};
use crate::world::git::heads::{Heads, stashes_of};
use crate::world::git::index::format::Hash;
use crate::world::git::marker;
use crate::world::git::ref_changes::{self, Change};
use crate::world::git::scratch_dir::ScratchGitDir;
use crate::world::process::subprocess::Finished;
use crate::world::status::query::OPERATIONS;

/// The parts of the rescue commit, as they are collected.
#[derive(Default)]
pub(in crate::world) struct RescueParts {
    /// The tree of the commit; none if git could make none.
    tree: Option<String>,
    /// Its parents: HEAD first, if there is one.
    parents: Vec<String>,
    /// What the rescue holds, for the user. Nothing is rescued if this and `lacks` are empty.
    holds: Vec<String>,
    /// What could not be saved, and why.
    lacks: Vec<String>,
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
        for name in named.chain(self.fallback.iter().cloned()).filter(|name| !name.is_empty()) {
            if let Some(commit) = commit_of(&git, &format!("{name}^{{commit}}"))? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Makes a rescue of everything in the worktree; none if there is nothing to save. Sets no ref
    /// for the worktree itself, only those of nested repositories.
    ///
    /// # Errors
    /// When the disk is full, the task is cancelled, or the repository cannot be written at all.
    pub(in crate::world) fn save(&self) -> Result<Option<Rescue>, Fault> {
        let saved = self.save_once();
        if saved.is_err() {
            // No record names these copies, so no later step would find them.
            let known = self.before.as_ref().and_then(|before| before.raw.as_ref());
            raw_copies::forget_attempt(&self.layout.copies_of(self.life), known);
        }
        saved
    }

    pub(in crate::world) fn save_once(&self) -> Result<Option<Rescue>, Fault> {
        let heads = Heads::read(&self.admin);
        let heads = heads.with_history_of(&self.common(), &self.plan.branch);
        let head = self.head(&heads)?;
        let folder = format!("{}.{}.side", self.life.id, self.life.incarnation);
        let place = self.layout.scratch().join(folder);
        let common = self.common();
        // All git commands below work in a directory of ours: a damaged index or HEAD in the
        // worktree's own git directory cannot stop them, and nothing of the user's is written.
        let side = ScratchGitDir::make(place, &self.admin, &common, head.as_deref(), self.cancel)?;
        let there = self.target.is_dir();
        let inner = if there || self.admin.join("modules").exists() {
            {
                let was = paths::from_host(&self.plan.path);
                nested_work::search(&self.target, &self.admin, &was, self.cancel)?
            }
        } else {
            nested_work::Search::default()
        };
        let copies_dir = self.layout.copies_of(self.life);
        if self.before.as_ref().is_none_or(|before| before.raw.is_none()) {
            // Copies of an attempt that did not finish: no record names them.
            raw_copies::forget(&copies_dir, self.cancel)?;
        }
        let mut copies = Copies::new(copies_dir, self.cancel);
        let mut parts = RescueParts::default();
        parts.parents.extend(head.clone());
        parts.lacks.extend(inner.unknown.iter().cloned());
        if there {
            self.files(&side, head.as_deref(), &inner.found, &mut parts, &mut copies)?;
            self.passed_over(&inner.passed_over, &mut parts, &mut copies)?;
        } else {
            self.index_alone(&side, head.as_deref(), &mut parts)?;
        }
        self.others(&heads, head.as_deref(), &mut parts)?;
        self.in_progress(&mut copies)?;
        let nested = self.inner(&inner.found, &mut parts, &mut copies)?;
        self.finish(&heads, parts, nested, copies)
    }

    /// Saves the paths that git takes for its own directory on a case-insensitive repository, and
    /// therefore never shows or adds.
    pub(in crate::world) fn passed_over(
        &self,
        paths: &[PathBuf],
        parts: &mut RescueParts,
        copies: &mut Copies<'_>,
    ) -> Result<(), Fault> {
        for path in paths {
            if self.target.join(path).symlink_metadata().is_ok_and(|found| found.is_dir()) {
                copies.tree(&self.target, path, &|_| false)?;
            } else {
                copies.add(&self.target, path)?;
            }
        }
        let line = |first: &PathBuf| {
            format!("{} and {} more that git does not list", first.display(), paths.len() - 1)
        };
        parts.holds.extend(paths.first().map(line));
        Ok(())
    }

    /// Saves the files of the worktree: through git where it accepts them, else as raw copies.
    pub(in crate::world) fn files(
        &self,
        side: &ScratchGitDir,
        head: Option<&str>,
        inner: &[NestedRepository],
        parts: &mut RescueParts,
        copies: &mut Copies<'_>,
    ) -> Result<(), Fault> {
        let git = Git::exact(&side.dir, Some(&self.target), Some(self.lock), self.cancel);
        let git = git.within(command::LONG);
        let nested: Vec<PathBuf> =
            inner.iter().filter(|i| !i.path.starts_with(".git")).map(|i| i.path.clone()).collect();
        let mut collector = Collector {
            git: &git,
            index: &side.index(),
            target: &self.target,
            own_index: std::fs::read(self.admin.join("index")).unwrap_or_default(),
            hash: Hash::named(&self.plan.repository.object_format),
            made_at: marker::made_at(&self.admin),
            nested: &nested,
            scratch: side.dir.join("look"),
            careful: false,
        };
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        let mut first = None;
        if side.copy_index(&self.admin, collector.hash) {
            collector.flatten();
            first = self.collect(&collector, clean.as_deref(), parts)?;
            // A second attempt flushes each object separately: then git reports the
            // one that it cannot write.
            collector.careful = true;
            if first.is_none() && side.copy_index(&self.admin, collector.hash) {
                collector.flatten();
                first = self.collect(&collector, clean.as_deref(), parts)?;
            }
        }
        collector.careful = true;
        let working = if first.is_some() {
            first
        } else {
            // git cannot use the index: the files are saved relative to HEAD's commit instead.
            if self.admin.join("index").exists() {
                copies.within(Path::new(".git"));
                let copied = copies.add(&self.admin, Path::new("index"));
                copies.within(Path::new(""));
                copied?;
                parts.holds.push("the damaged index, as a file".to_owned());
            }
            start_over(side, &mut collector, head)?;
            self.collect(&collector, clean.as_deref(), &mut RescueParts::default())?
        };
        if working.is_some() && working != clean {
            parts.holds.push("the working tree".to_owned());
        }
        if working.is_none() {
            // No tree could be written to the repository: everything that differs is copied raw.
            start_over(side, &mut collector, head)?;
        }
        let whole = working.as_ref().and(head);
        collector.copy_the_rest(whole.or(head), copies)?;
        parts.tree = working.or(clean);
        Ok(())
    }

    /// Returns the tree of all files that git accepts; none if it cannot make one from this index.
    pub(in crate::world) fn collect(
        &self,
        collector: &Collector<'_>,
        clean: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<Option<String>, Fault> {
        let staged = self.staged(collector)?;
        let sides = conflicts::tree(collector)?;
        match collector.add() {
            // A full disk or a cancellation must not lead to a smaller
            // rescue; every other error does.
            Err(fault) if fault.code == Code::DiskFull || self.cancel.is_cancelled() => {
                return Err(fault);
            }
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        let Ok(working) = self.line(collector.command(&["write-tree"]))? else { return Ok(None) };
        // An index equal to the working tree or to HEAD holds no content of its own.
        let own = staged.filter(|s| *s != working && Some(s.as_str()) != clean);
        if let Some(staged) = own {
            let message = format!("index of {}", self.life.id);
            parts.parents.push(self.commit(&staged, &parts.parents, &message)?);
            parts.holds.push("the index".to_owned());
        }
        if let Some(sides) = sides {
            let message = format!("sides of the conflicts in {}", self.life.id);
            parts.parents.push(self.commit(&sides, &[], &message)?);
            parts.holds.push("the sides of its conflicts".to_owned());
        }
        Ok(Some(working))
    }

    /// Returns the index as a tree. An index with unmerged entries is not one, so they are left
    /// out; their sides are saved as a commit of their own.
    pub(in crate::world) fn staged(
        &self,
        collector: &Collector<'_>,
    ) -> Result<Option<String>, Fault> {
        if let Ok(tree) = self.line(collector.command(&["write-tree"]))? {
            return Ok(Some(tree));
        }
        // On a copy: the index itself still has to keep its unmerged entries.
        let second = collector.index.with_extension("staged");
        std::fs::copy(collector.index, &second).map_err(paths::failed("copy", collector.index))?;
        let on = |args: &[&str]| {
            let mut command = collector.command(args);
            command.env("GIT_INDEX_FILE", &second);
            command
        };
        let listed = self.repository().run_command(on(&["ls-files", "-u", "-z"]))?;
        let unmerged: BTreeSet<&[u8]> = listed
            .stdout
            .split(|b| *b == 0)
            .filter_map(|e| e.splitn(2, |b| *b == b'\t').nth(1))
            .collect();
        let unmerged: Vec<&[u8]> = unmerged.into_iter().collect();
        for some in unmerged.chunks(ARGUMENTS_MAX) {
            let mut command = on(&["update-index", "--force-remove", "--"]);
            command.args(some.iter().map(|path| paths::from_bytes(path)));
            self.repository().run_command(command)?;
        }
        let tree = self.line(on(&["write-tree"]))?.ok();
        drop(paths::remove_file_if_any(&second));
        Ok(tree)
    }

    /// Saves the index alone: the directory is gone, but staged content and commits may remain.
    pub(in crate::world) fn index_alone(
        &self,
        side: &ScratchGitDir,
        head: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<(), Fault> {
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        let hash = Hash::named(&self.plan.repository.object_format);
        let taken = side.copy_index(&self.admin, hash);
        let git = Git::exact(&side.dir, None, Some(self.lock), self.cancel);
        let staged = if taken {
            let mut command = git.command(["write-tree"]);
            command.env("GIT_INDEX_FILE", side.index());
            self.line(command)?.ok()
        } else {
            None
        };
        if staged.is_some() && staged != clean {
            parts.holds.push("the index".to_owned());
        }
        parts.tree = staged.or(clean);
        Ok(())
    }

    /// Saves the nested repositories that hold work of their own.
    pub(in crate::world) fn inner(
        &self,
        found: &[NestedRepository],
        parts: &mut RescueParts,
        copies: &mut Copies<'_>,
    ) -> Result<Vec<crate::core::event::NestedRescue>, Fault> {
        let mut saved = Vec::new();
        for inner in found.iter().filter(|inner| inner.work.is_some()) {
            saved.push(crate::world::effects::nested_rescue::save(self, inner, copies)?);
            parts.holds.push(format!("repository {}", inner.path.display()));
        }
        Ok(saved)
    }

    /// Makes the rescue commit from its parts, and completes the raw copies;
    /// none if nothing was found.
    pub(in crate::world) fn finish(
        &self,
        heads: &Heads,
        mut parts: RescueParts,
        mut nested: Vec<crate::core::event::NestedRescue>,
        mut copies: Copies<'_>,
    ) -> Result<Option<Rescue>, Fault> {
        if let Some(head) = parts.parents.first() {
            match heads.unpushed(&self.repository(), std::slice::from_ref(head)) {
                Ok(0) => {}
                Ok(own) => parts.holds.push(format!("{own} commits")),
                Err(fault) if self.cancel.is_cancelled() => return Err(fault),
                // One broken ref anywhere makes git fail. The commits are held in any case.
                Err(_) => parts.holds.push("its commits".to_owned()),
            }
        }
        // This rescue replaces the earlier one, so it has to contain what the earlier one saved.
        if let Some(earlier) = self.before.as_ref().and_then(|before| before.raw.as_ref()) {
            copies.carry(earlier, &self.target)?;
        }
        let (raw, lacks) = copies.finish()?;
        parts.lacks.extend(lacks);
        if let Some(raw) = &raw {
            parts.holds.push(format!("{} files as raw copies in the data directory", raw.files));
        }
        if parts.holds.is_empty() && parts.lacks.is_empty() {
            return Ok(None);
        }
        self.keep_nested(&mut nested);
        bounded(&mut parts.lacks);
        let (mut reference, mut commit) = (String::new(), String::new());
        if let Some(tree) = &parts.tree {
            let earlier = self.earlier_commit()?.filter(|c| !parts.parents.contains(c));
            parts.parents.extend(earlier);
            let parents = self.gathered(tree, std::mem::take(&mut parts.parents))?;
            match self.commit(tree, &parents, &self.message(&parts.holds)) {
                Ok(made) => (reference, commit) = (self.names().rescue(), made),
                Err(fault) if fault.code == Code::DiskFull || raw.is_none() => return Err(fault),
                // With raw copies the rescue is still worth having; it
                // lists the commits as lacking.
                Err(fault) => parts.lacks.push(format!("commits: {}", fault.message)),
            }
        }
        let RescueParts { holds, lacks, .. } = parts;
        Ok(Some(Rescue { reference, commit, holds, lacks, raw, nested }))
    }

    /// Adds what an earlier rescue of this incarnation saved of nested repositories
    /// that are no longer whole.
    pub(in crate::world) fn keep_nested(&self, nested: &mut Vec<crate::core::event::NestedRescue>) {
        let before = self.before.iter().flat_map(|before| &before.nested);
        for known in before.filter(|known| !known.commit.is_empty()) {
            let lost = |now: &&mut crate::core::event::NestedRescue| now.path == known.path;
            match nested.iter_mut().find(lost) {
                Some(now) if !now.commit.is_empty() => {}
                Some(now) => known.clone_into(now),
                None => nested.push(known.clone()),
            }
        }
    }

    /// Returns the commit of an earlier rescue of this incarnation: the recorded one, or one that a
    /// daemon made and was killed before recording.
    pub(in crate::world) fn earlier_commit(&self) -> Result<Option<String>, Fault> {
        let known = self.before.as_ref().map(|rescue| rescue.commit.clone());
        let own = commit_of(&self.repository(), &self.names().rescue())?;
        Ok(own.or(known).filter(|commit| !commit.is_empty()))
    }

    /// Bounds the parents of a commit: more than [`PARENTS_MAX`] are held
    /// through intermediate commits.
    pub(in crate::world) fn gathered(
        &self,
        tree: &str,
        parents: Vec<String>,
    ) -> Result<Vec<String>, Fault> {
        let mut parents = parents;
        while parents.len() > PARENTS_MAX {
            // The positions of the first two are significant: HEAD and the index.
            let rest = parents.split_off(2);
            for some in rest.chunks(PARENTS_MAX - 2) {
                parents.push(self.commit(tree, some, "commits that a rescue holds")?);
            }
        }
        Ok(parents)
    }

    /// The message of the rescue commit: what it holds, and where it came from.
    pub(in crate::world) fn message(&self, holds: &[String]) -> String {
        let life = self.life;
        let head = format!("rescue of {}, incarnation {}", life.id, life.incarnation);
        let list = holds.iter().fold(String::new(), |list, h| list + &format!("holds: {h}\n"));
        format!(
            "{head}\n\n{list}branch: {}\npath: {}\n\nThe first parent is HEAD. The tree is the \
             working tree, without what git ignores.\n",
            self.plan.branch, self.plan.path
        )
    }

    /// Sets the ref of a rescue, and verifies that every object exists before and after.
    ///
    /// # Errors
    /// Those of git; no ref then names a missing object.
    pub(in crate::world) fn refer(&self, rescue: &Rescue) -> Result<(), Fault> {
        if !rescue.commit.is_empty() {
            self.hold(&rescue.reference, &rescue.commit)?;
        }
        point("rescue.referenced");
        Ok(())
    }

    /// Sets a ref of this incarnation to a commit: creates it, or replaces what
    /// this incarnation had there.
    pub(in crate::world) fn hold(&self, reference: &str, commit: &str) -> Result<(), Fault> {
        let (common, git) = (self.common(), self.repository());
        ref_changes::break_stale(&common, reference);
        // A concurrent `git gc` may have pruned the objects; the ref must not be created then.
        is_whole(&git, commit)?;
        let before = commit_of(&git, reference)?;
        // All zeros: git refuses the update if another process has created the ref meanwhile.
        let old = before.clone().unwrap_or_else(|| "0".repeat(commit.len()));
        let args = ["-c", "core.fsync=all", "update-ref", "--create-reflog", "-m", "rescued"];
        git.output(args.into_iter().chain([reference, commit, old.as_str()]))?;
        if let Err(fault) = is_whole(&git, commit) {
            // A concurrent `git gc` pruned objects between the check and the ref. The
            // ref and its reflog must not name them for ever. The worktree is still in
            // place, and is saved again.
            drop(match before {
                Some(before) => git.output(["update-ref", reference, &before]).map(drop),
                None => Change::of(&git, &common, reference).delete(Some(commit)),
            });
            return Err(fault);
        }
        Ok(())
    }

    pub(in crate::world) fn tree_of(&self, commit: &str) -> Result<String, Fault> {
        self.repository().line(["rev-parse", "--verify", &format!("{commit}^{{tree}}")])
    }

    /// Runs git and returns its single line of output. The inner error is a failure that the caller
    /// may work around; a full disk is an error of its own, because nothing else can succeed then.
    pub(in crate::world) fn line(
        &self,
        command: Command,
    ) -> Result<Result<String, Finished>, Fault> {
        let finished = self.repository().run_command(command)?;
        if !finished.status.success() {
            let fault = command::git_error("git", &finished);
            return if fault.code == Code::DiskFull { Err(fault) } else { Ok(Err(finished)) };
        }
        Ok(Ok(String::from_utf8_lossy(&finished.stdout).trim_end().to_owned()))
    }

    /// Creates a commit with the given tree and parents. Flushes it to disk: the worktree is
    /// removed on the strength of it.
    pub(in crate::world) fn commit(
        &self,
        tree: &str,
        parents: &[String],
        message: &str,
    ) -> Result<String, Fault> {
        let mut args = vec!["-c", "commit.gpgSign=false", "-c", "core.fsync=all"];
        args.extend(["-c", "core.fsyncMethod=batch", "commit-tree", tree, "-m", message]);
        for parent in parents {
            args.extend(["-p", parent]);
        }
        let mut command = self.repository().command(&args);
        sign(&mut command);
        self.line(command)?.map_err(|f| command::git_error("git commit-tree", &f))
    }

    /// Copies git's files about an operation in progress: how far it is, and what remains to be
    /// done. A user may need them; they are never put back.
    pub(in crate::world) fn in_progress(&self, copies: &mut Copies<'_>) -> Result<(), Fault> {
        let there = |name: &str| self.admin.join(name).symlink_metadata().is_ok();
        if !OPERATIONS.iter().any(|(name, ..)| there(name)) {
            return Ok(());
        }
        for name in ["rebase-merge", "rebase-apply", "sequencer"].into_iter().filter(|n| there(n)) {
            copies.tree_as(&self.admin.join(name), &Path::new(".git").join(name), &|_| false)?;
        }
        copies.within(Path::new(".git"));
        let copied = ["MERGE_MSG", "MERGE_MODE", "MERGE_HEAD", "SQUASH_MSG"]
            .into_iter()
            .try_for_each(|name| copies.add(&self.admin, Path::new(name)));
        copies.within(Path::new(""));
        copied
    }

    /// Adds the commits that only an operation in progress, a stash or the reflog of HEAD holds.
    pub(in crate::world) fn others(
        &self,
        heads: &Heads,
        head: Option<&str>,
        parts: &mut RescueParts,
    ) -> Result<(), Fault> {
        let RescueParts { parents, holds, .. } = parts;
        let mut add = |commits: Vec<String>, what: &str| {
            let before = parents.len();
            parents.extend(commits);
            let mut seen = BTreeSet::new();
            parents.retain(|commit| seen.insert(commit.clone()));
            if parents.len() > before {
                holds.push(what.to_owned());
            }
        };
        for (name, what) in HELD {
            add(commits_in(&self.repository(), &self.admin, name), what);
        }
        add(stashes_of(self.plan), "stashes");
        let known: BTreeSet<&str> = head.into_iter().collect();
        let alone = heads.held_here_alone(&self.repository(), &known)?;
        add(alone, "commits that only its reflogs or own refs hold");
        Ok(())
    }
}
