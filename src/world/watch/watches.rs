//! Sets watches on directories, within the budget. Knows no locks and no states: which tree a watch
//! belongs to is decided in `tracker.rs`.

use std::path::{Path, PathBuf};

use crate::world::watch::backend::{Backend, Failure, TreeId};
use crate::world::watch::limits::Budget;
use crate::world::watch::rules::{Rules, walk};
use crate::world::watch::tree::LOGS;

/// The backend, and the bounds on what it may watch.
pub(super) struct Watches {
    pub(super) backend: Box<dyn Backend>,
    pub(super) budget: Budget,
}

impl Watches {
    /// Watches the places where a repository would be created.
    pub(super) fn watch_bare(&self, id: TreeId, root: &Path) -> Result<(), Failure> {
        self.backend.add(id, root)?;
        match self.backend.add(id, &root.join(".git")) {
            Err(Failure::Absent(_)) => Ok(()),
            added => added,
        }
    }

    fn add(&self, id: TreeId, dir: &Path, count: &mut usize) -> Result<(), Failure> {
        *count += 1;
        if *count > self.budget.tree {
            let message = format!("it has more than {} directories", self.budget.tree);
            return Err(Failure::Limit(message));
        }
        // Counting takes the backend's locks, so it is done for every 256th directory only.
        if count.is_multiple_of(256) || *count == 1 {
            let (watches, _) = self.backend.counts();
            if watches >= self.budget.host {
                let message = format!("the host already watches {watches} directories");
                return Err(Failure::Limit(message));
            }
        }
        self.backend.add(id, dir)
    }

    /// Watches the complete tree of a worktree and its own git directory. Returns how many
    /// directories of the tree are watched.
    pub(super) fn watch_worktree(
        &self,
        id: TreeId,
        rules: &mut Rules,
        root: &Path,
        admin: &Path,
    ) -> Result<usize, Failure> {
        self.backend.add(id, admin)?;
        match self.backend.add(id, &admin.join(LOGS)) {
            // Some repositories keep no reflog.
            Ok(()) | Err(Failure::Absent(_)) => {}
            Err(failure) => return Err(failure),
        }
        let mut count = 0;
        walk(rules, root, &mut |dir| self.add(id, dir, &mut count))?;
        Ok(count)
    }

    /// Watches new directories of a worktree, and adds their number to `count`.
    pub(super) fn watch_new(
        &self,
        id: TreeId,
        rules: &mut Rules,
        new: &[PathBuf],
        count: &mut usize,
    ) -> Result<(), Failure> {
        new.iter().try_for_each(|dir| {
            // Another directory may have had this path before.
            self.backend.forget(id, dir);
            let is_dir = dir.symlink_metadata().is_ok_and(|found| found.is_dir());
            let added = if rules.is_outside(dir) {
                // The reflogs, which git creates with the first move of HEAD.
                self.backend.add(id, dir)
            } else if is_dir && rules.admits(dir) {
                walk(rules, dir, &mut |dir| self.add(id, dir, count))
            } else {
                Ok(())
            };
            // It vanished again, so nothing is lost.
            if matches!(added, Err(Failure::Absent(_))) { Ok(()) } else { added }
        })
    }

    /// Watches the files on which the distance of a repository's worktrees depends.
    pub(super) fn watch_refs(&self, id: TreeId, common: &Path) -> Result<(), Failure> {
        self.backend.add(id, common)?;
        let mut count = 0;
        for part in ["refs", "info", "logs/refs"] {
            match self.add(id, &common.join(part), &mut count) {
                Ok(()) | Err(Failure::Absent(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        for part in ["refs/heads", "refs/remotes"] {
            self.add_all(id, &common.join(part), &mut count)?;
        }
        Ok(())
    }

    /// Watches a directory of refs and everything below it.
    pub(super) fn add_all(&self, id: TreeId, dir: &Path, count: &mut usize) -> Result<(), Failure> {
        match self.add(id, dir, count) {
            // No ref there yet, or all are packed and the directory is removed.
            Err(Failure::Absent(_)) => return Ok(()),
            added => added?,
        }
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                self.add_all(id, &entry.path(), count)?;
            }
        }
        Ok(())
    }
}
