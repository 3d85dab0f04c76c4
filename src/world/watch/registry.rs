//! The watched trees together with their watches: opens and closes both under one lock, so that a
//! released tree stays released. Waits for nothing, and reports no change.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::core::Environment;
use crate::sync::lock_unpoisoned;
use crate::world::fs::paths;
use crate::world::git::{link, marker};
use crate::world::watch::backend::{Failure, Key, TreeId};
use crate::world::watch::rules::Rules;
use crate::world::watch::tree::{About, Identity, Tree};
use crate::world::watch::trees::Trees;
use crate::world::watch::watches::Watches;

/// Decides whether an incarnation may be watched right now.
pub type Gate = Box<dyn Fn(&Key) -> bool + Send + Sync>;

/// Counters of what is watched, and of losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Number of watched worktrees.
    pub worktrees: usize,
    /// Number of watches on directories, as the system counts them.
    pub watches: usize,
    /// Number of the system's instances in use.
    pub instances: usize,
    /// Number of trees opened since the start.
    pub begun: u64,
    /// Number of overflow events, one per affected tree.
    pub overflows: u64,
}

/// All watched trees, the watches of each, and the gate that they have to pass.
pub(super) struct Registry {
    pub(super) watches: Watches,
    pub(super) trees: Mutex<Trees>,
    pub(super) gate: Gate,
}

impl Registry {
    pub(super) fn locked(&self) -> MutexGuard<'_, Trees> {
        lock_unpoisoned(&self.trees)
    }

    /// Waits until all past events are reported. Returns the worktrees for which that is not
    /// certain: those whose trees still grow, or all of them after a timeout.
    pub(super) fn sync(&self) -> Vec<Key> {
        if self.locked().by_key.is_empty() {
            return Vec::new();
        }
        let is_synced = self.watches.backend.sync();
        let trees = self.locked();
        let open = |id: &TreeId| trees.by_id.get(id).is_some_and(|tree| !tree.is_settled());
        let unsure = trees.by_key.iter().filter(|(_, id)| !is_synced || open(id));
        unsure.map(|(key, _)| key.clone()).collect()
    }

    /// Reports whether a tree of this incarnation is open.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.locked().by_key.contains_key(key)
    }

    /// Returns the counters.
    pub(super) fn counts(&self) -> Counts {
        let (watches, instances) = self.watches.backend.counts();
        let trees = self.locked();
        Counts {
            worktrees: trees.by_key.len(),
            watches,
            instances,
            begun: trees.begun,
            overflows: trees.overflows,
        }
    }

    /// Opens a tree in place of an earlier one, if the gate permits it.
    pub(super) fn open_tree(&self, key: &Key, about: About) -> Result<TreeId, Failure> {
        let mut trees = self.locked();
        if !(self.gate)(key) {
            return Err(Failure::Refused);
        }
        self.close_tree(&mut trees, key);
        let id = trees.insert(about);
        if let Err(failure) = self.watches.backend.open(id) {
            trees.by_id.remove(&id);
            return Err(failure);
        }
        trees.by_key.insert(key.clone(), id);
        Ok(id)
    }

    /// Watches the complete tree of a worktree, and stores its rules for later events. Its caller
    /// then wakes the thread that extends trees.
    pub(super) fn watch_tree(&self, id: TreeId, mut rules: Rules) -> Result<(), Failure> {
        let (root, admin, identity_then) = {
            let trees = self.locked();
            let Some(Tree { about: About::Worktree(w), .. }) = trees.by_id.get(&id) else {
                return Err(Failure::Refused);
            };
            (w.root.clone(), w.admin.clone(), w.identity)
        };
        let count = self.watches.watch_worktree(id, &mut rules, &root, &admin)?;
        // The worktree was replaced during the walk: its watches are spread over two directories.
        if identity(&root, &admin)? != identity_then {
            return Err(Failure::Absent(root));
        }
        rules.exempt_anew();
        let mut trees = self.locked();
        let tree = trees.by_id.get_mut(&id).ok_or(Failure::Refused)?;
        tree.rules = Some(rules);
        tree.directories = count;
        tree.walked_at = Some(Instant::now());
        Ok(())
    }

    /// Joins the tree of the repository's refs, or opens it.
    pub(super) fn join_refs(&self, key: &Key, env: &Environment) -> Result<(), Failure> {
        let common = paths::from_host(&env.plan.repository.common_dir);
        let id = {
            let mut trees = self.locked();
            if !trees.by_key.contains_key(key) {
                return Err(Failure::Refused);
            }
            if let Some(id) = trees.by_repository.get(&common).copied() {
                if let Some(Tree { about: About::Refs(_, members), .. }) = trees.by_id.get_mut(&id)
                {
                    members.insert(key.clone());
                }
                return Ok(());
            }
            let members = BTreeSet::from([key.clone()]);
            let id = trees.insert(About::Refs(common.clone(), members));
            if let Err(failure) = self.watches.backend.open(id) {
                trees.by_id.remove(&id);
                return Err(failure);
            }
            trees.by_repository.insert(common.clone(), id);
            id
        };
        self.watches.watch_refs(id, &common)
    }

    /// Closes an environment's tree, whatever its incarnation. Nothing of it is reported after the
    /// return, until the gate permits a new one.
    pub(super) fn release(&self, id: &crate::core::EnvironmentId) {
        let mut trees = self.locked();
        let incarnations: Vec<Key> =
            trees.by_key.keys().filter(|(of, _)| of == id).cloned().collect();
        for key in incarnations {
            self.close_tree(&mut trees, &key);
        }
    }

    pub(super) fn close_tree(&self, trees: &mut Trees, key: &Key) {
        let Some(id) = trees.by_key.remove(key) else { return };
        self.watches.backend.close(id);
        let Some(Tree { about: About::Worktree(gone), .. }) = trees.by_id.remove(&id) else {
            return;
        };
        let Some(refs) = trees.by_repository.get(&gone.common).copied() else { return };
        if let Some(Tree { about: About::Refs(_, members), .. }) = trees.by_id.get_mut(&refs) {
            members.remove(key);
            if members.is_empty() {
                self.watches.backend.close(refs);
                trees.by_id.remove(&refs);
                trees.by_repository.remove(&gone.common);
            }
        }
    }
}

pub(super) fn identity(root: &Path, admin: &Path) -> Result<Identity, Failure> {
    let Ok(Some(found)) = marker::identity(root) else {
        return Err(Failure::Absent(root.to_owned()));
    };
    let link = marker::identity(&root.join(".git")).unwrap_or_default();
    Ok(Identity { root: found, link, repository: link::repository(root, admin) })
}
