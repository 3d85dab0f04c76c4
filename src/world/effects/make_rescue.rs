//! Makes a rescue: looks for all that only a worktree has, and puts each under a ref or beside the
//! log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::core::event::Rescue;
use crate::core::{Code, Fault};
use crate::failpoint::kill::point;
use crate::world::effects::collect::Collector;
use crate::world::effects::conflicts;
use crate::world::effects::nested_work::{self, Inner};
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
use crate::world::git::scratch_dir::Side;
use crate::world::process::subprocess::Finished;
use crate::world::status::query::OPERATIONS;

/// What the new commit is made of.
#[derive(Default)]
pub(in crate::world) struct Parts {
    tree: Option<String>,
    parents: Vec<String>,
    holds: Vec<String>,
    lacks: Vec<String>,
}

impl<'a> Rescuer<'a> {
    pub(in crate::world) fn names(&self) -> Names<'a> {
        Names::of(self.log, self.life)
    }

    pub(in crate::world) fn common(&self) -> PathBuf {
        paths::from_host(&self.plan.repository.common_dir)
    }

    /// git on the repository alone.
    pub(in crate::world) fn repository(&self) -> Git<'a> {
        Git::exact(&self.common(), None, Some(self.lock), self.cancel).within(command::LONG)
    }

    /// The commit that HEAD is at, or is taken to be at; none when there is none.
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

    /// Makes a rescue of all that is there; none when there is nothing. No ref is on it yet, but
    /// on what was inside.
    ///
    /// # Errors
    /// When there is no room, somebody wants to stop, or the repository cannot be written at all.
    pub(in crate::world) fn save(&self) -> Result<Option<Rescue>, Fault> {
        let saved = self.save_once();
        if saved.is_err() {
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
        let side = Side::make(place, &self.admin, &common, head.as_deref(), self.cancel)?;
        let there = self.target.is_dir();
        let inner = if there || self.admin.join("modules").exists() {
            {
                let was = paths::from_host(&self.plan.path);
                nested_work::search(&self.target, &self.admin, &was, self.cancel)?
            }
        } else {
            nested_work::Search::default()
        };
        let home = self.layout.copies_of(self.life);
        if self.before.as_ref().is_none_or(|before| before.raw.is_none()) {
            // Those of an attempt that came to no end: nobody knows of them.
            raw_copies::forget(&home, self.cancel)?;
        }
        let mut copies = Copies::new(home, self.cancel);
        let mut parts = Parts::default();
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

    /// What git takes for its own, though nothing but its name says so.
    pub(in crate::world) fn passed_over(
        &self,
        paths: &[PathBuf],
        parts: &mut Parts,
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
            format!("{} and {} more that git passes over", first.display(), paths.len() - 1)
        };
        parts.holds.extend(paths.first().map(line));
        Ok(())
    }

    /// The files of the worktree, by git as far as it takes them.
    pub(in crate::world) fn files(
        &self,
        side: &Side,
        head: Option<&str>,
        inner: &[Inner],
        parts: &mut Parts,
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
        if side.take_index(&self.admin, collector.hash) {
            collector.flatten();
            first = self.collect(&collector, clean.as_deref(), parts)?;
            collector.careful = true;
            if first.is_none() && side.take_index(&self.admin, collector.hash) {
                collector.flatten();
                first = self.collect(&collector, clean.as_deref(), parts)?;
            }
        }
        collector.careful = true;
        let working = if first.is_some() {
            first
        } else {
            // An index that git cannot use: the files are saved against the commit instead.
            if self.admin.join("index").exists() {
                copies.within(Path::new(".git"));
                let copied = copies.add(&self.admin, Path::new("index"));
                copies.within(Path::new(""));
                copied?;
                parts.holds.push("the damaged index, as a file".to_owned());
            }
            start_over(side, &mut collector, head)?;
            self.collect(&collector, clean.as_deref(), &mut Parts::default())?
        };
        if working.is_some() && working != clean {
            parts.holds.push("the working tree".to_owned());
        }
        if working.is_none() {
            // Nothing can be written to the repository: then all that differs is copied.
            start_over(side, &mut collector, head)?;
        }
        let whole = working.as_ref().and(head);
        collector.copy_the_rest(whole.or(head), copies)?;
        parts.tree = working.or(clean);
        Ok(())
    }

    /// The tree of all files that git takes; none when it cannot make one from this index.
    pub(in crate::world) fn collect(
        &self,
        collector: &Collector<'_>,
        clean: Option<&str>,
        parts: &mut Parts,
    ) -> Result<Option<String>, Fault> {
        let staged = self.staged(collector)?;
        let sides = conflicts::tree(collector)?;
        match collector.add() {
            Err(fault) if fault.code == Code::DiskFull || self.cancel.is_cancelled() => {
                return Err(fault);
            }
            Err(_) => return Ok(None),
            Ok(()) => {}
        }
        let Ok(working) = self.line(collector.command(&["write-tree"]))? else { return Ok(None) };
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

    /// The index as a tree. Where a merge left conflicts it is none; then those entries are left
    /// out, whose sides are commits that are held below.
    pub(in crate::world) fn staged(
        &self,
        collector: &Collector<'_>,
    ) -> Result<Option<String>, Fault> {
        if let Ok(tree) = self.line(collector.command(&["write-tree"]))? {
            return Ok(Some(tree));
        }
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

    /// The directory is gone, but there may be commits, and what was staged.
    pub(in crate::world) fn index_alone(
        &self,
        side: &Side,
        head: Option<&str>,
        parts: &mut Parts,
    ) -> Result<(), Fault> {
        let clean = head.map(|h| self.tree_of(h)).transpose()?;
        let hash = Hash::named(&self.plan.repository.object_format);
        let taken = side.take_index(&self.admin, hash);
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

    /// Repositories inside that hold work of their own.
    pub(in crate::world) fn inner(
        &self,
        found: &[Inner],
        parts: &mut Parts,
        copies: &mut Copies<'_>,
    ) -> Result<Vec<crate::core::event::NestedRescue>, Fault> {
        let mut saved = Vec::new();
        for inner in found.iter().filter(|inner| inner.work.is_some()) {
            saved.push(crate::world::effects::nested_rescue::save(self, inner, copies)?);
            parts.holds.push(format!("repository {}", inner.path.display()));
        }
        Ok(saved)
    }

    pub(in crate::world) fn finish(
        &self,
        heads: &Heads,
        mut parts: Parts,
        mut nested: Vec<crate::core::event::NestedRescue>,
        mut copies: Copies<'_>,
    ) -> Result<Option<Rescue>, Fault> {
        if let Some(head) = parts.parents.first() {
            match heads.unpushed(&self.repository(), std::slice::from_ref(head)) {
                Ok(0) => {}
                Ok(own) => parts.holds.push(format!("{own} commits")),
                Err(fault) if self.cancel.is_cancelled() => return Err(fault),
                // A bad ref anywhere stops git from telling; they are held all the same.
                Err(_) => parts.holds.push("its commits".to_owned()),
            }
        }
        if let Some(earlier) = self.before.as_ref().and_then(|before| before.raw.as_ref()) {
            copies.carry(earlier, &self.target)?;
        }
        let (raw, lacks) = copies.finish()?;
        parts.lacks.extend(lacks);
        if let Some(raw) = &raw {
            parts.holds.push(format!("{} files as they are, beside the log", raw.files));
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
                Err(fault) => parts.lacks.push(format!("commits: {}", fault.message)),
            }
        }
        let Parts { holds, lacks, .. } = parts;
        Ok(Some(Rescue { reference, commit, holds, lacks, raw, nested }))
    }

    /// What an earlier rescue of this life had of repositories that are not there as a whole any
    /// more.
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

    /// The commit of an earlier rescue of this life: the one that the log knows, or one that a
    /// daemon made and died before it could say so.
    pub(in crate::world) fn earlier_commit(&self) -> Result<Option<String>, Fault> {
        let known = self.before.as_ref().map(|rescue| rescue.commit.clone());
        let own = commit_of(&self.repository(), &self.names().rescue())?;
        Ok(own.or(known).filter(|commit| !commit.is_empty()))
    }

    /// As many parents as a commit may have: what is more is held by commits in between.
    pub(in crate::world) fn gathered(
        &self,
        tree: &str,
        parents: Vec<String>,
    ) -> Result<Vec<String>, Fault> {
        let mut parents = parents;
        while parents.len() > PARENTS_MAX {
            // The first ones mean something: HEAD and the index.
            let rest = parents.split_off(2);
            for some in rest.chunks(PARENTS_MAX - 2) {
                parents.push(self.commit(tree, some, "commits that a rescue holds")?);
            }
        }
        Ok(parents)
    }

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

    /// Puts its ref on a rescue, and makes sure that all of it is there.
    ///
    /// # Errors
    /// What git says; no ref names anything that is not there.
    pub(in crate::world) fn refer(&self, rescue: &Rescue) -> Result<(), Fault> {
        if !rescue.commit.is_empty() {
            self.hold(&rescue.reference, &rescue.commit)?;
        }
        point("rescue.referenced");
        Ok(())
    }

    /// Puts a ref of this life on a commit: a new one, or in place of what this life had there.
    pub(in crate::world) fn hold(&self, reference: &str, commit: &str) -> Result<(), Fault> {
        let (common, git) = (self.common(), self.repository());
        ref_changes::break_stale(&common, reference);
        // A `git gc` that runs meanwhile must not find a ref to what it has just taken away.
        is_whole(&git, commit)?;
        let before = commit_of(&git, reference)?;
        let old = before.clone().unwrap_or_else(|| "0".repeat(commit.len()));
        let args = ["-c", "core.fsync=all", "update-ref", "--create-reflog", "-m", "rescued"];
        git.output(args.into_iter().chain([reference, commit, old.as_str()]))?;
        if let Err(fault) = is_whole(&git, commit) {
            // A `git gc` took away what it names; its log must not name that for ever. The worktree
            // is where it was, and is saved anew.
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

    pub(in crate::world) fn line(
        &self,
        command: Command,
    ) -> Result<Result<String, Finished>, Fault> {
        let finished = self.repository().run_command(command)?;
        if !finished.status.success() {
            let fault = command::said("git", &finished);
            return if fault.code == Code::DiskFull { Err(fault) } else { Ok(Err(finished)) };
        }
        Ok(Ok(String::from_utf8_lossy(&finished.stdout).trim_end().to_owned()))
    }

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
        self.line(command)?.map_err(|f| command::said("git commit-tree", &f))
    }

    /// What git notes of an operation in progress: how far it is, what is still to be done. A
    /// person may want it; nothing puts it back.
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

    /// Commits that only an operation in progress, a stash or the history of HEAD holds.
    pub(in crate::world) fn others(
        &self,
        heads: &Heads,
        head: Option<&str>,
        parts: &mut Parts,
    ) -> Result<(), Fault> {
        let Parts { parents, holds, .. } = parts;
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
        add(alone, "commits that only its own history has");
        Ok(())
    }
}
