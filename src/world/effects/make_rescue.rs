//! Makes a rescue: finds all work that only a worktree has, and saves each part under a ref or as a
//! raw copy beside the log. Only reads the worktree.

use std::collections::BTreeSet;
use std::path::Path;

use crate::core::Fault;
use crate::world::effects::nested_work::{self, NestedRepository};
use crate::world::effects::raw_copies::Copies;
use crate::world::effects::raw_folders;
use crate::world::effects::rescuer::{HELD, RescueParts, Rescuer, SavedWork, commits_in};
use crate::world::fs::paths;
use crate::world::git::heads::{Heads, stashes_of};
use crate::world::git::scratch_dir::ScratchGitDir;
use crate::world::status::query::OPERATIONS;

impl Rescuer<'_> {
    /// Makes a rescue of everything in the worktree; none if there is nothing to save. Sets no ref
    /// for the worktree itself, only those of nested repositories.
    ///
    /// # Errors
    /// When the disk is full, the task is cancelled, or the repository cannot be written at all.
    pub(in crate::world) fn save(&self) -> Result<Option<SavedWork>, Fault> {
        let saved = self.save_once();
        if saved.is_err() {
            // No record names these copies, so no later step would find them.
            let known = self.before.as_ref().and_then(|before| before.raw.as_ref());
            raw_folders::forget_attempt(&self.layout.copies_of(self.life), known);
        }
        saved
    }

    pub(in crate::world) fn save_once(&self) -> Result<Option<SavedWork>, Fault> {
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
            let was = paths::from_host(&self.plan.path);
            nested_work::search(&self.target, &self.admin, &was, self.cancel)?
        } else {
            nested_work::Search::default()
        };
        let copies_dir = self.layout.copies_of(self.life);
        if self.before.as_ref().is_none_or(|before| before.raw.is_none()) {
            // Copies of an attempt that did not finish: no record names them.
            raw_folders::forget(&copies_dir, self.cancel)?;
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

    /// Copies git's files about an operation in progress: how far it is, and what is left to be
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
