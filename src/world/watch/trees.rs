//! All watched trees: by id, by environment and by repository, and which of them is due. Holds no
//! watch and never waits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::world::watch::backend::{Key, Signal, TreeId};
use crate::world::watch::tree::{About, Tree};

#[derive(Debug, Default)]
pub(super) struct Trees {
    pub(super) by_id: BTreeMap<TreeId, Tree>,
    pub(super) by_key: BTreeMap<Key, TreeId>,
    pub(super) by_repository: BTreeMap<PathBuf, TreeId>,
    pub(super) begun: u64,
    pub(super) overflows: u64,
    /// Tree that was extended last; the next turn goes to the one after it.
    pub(super) last_extended: TreeId,
    pub(super) stop: bool,
}

impl Trees {
    /// Requests a new walk of these worktrees, because their ignore rules have changed.
    pub(super) fn request_rewalk(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            let tree = self.by_key.get(key).and_then(|id| self.by_id.get_mut(id));
            if let Some(tree) = tree {
                tree.rewalk_wanted = true;
            }
        }
    }

    /// Adds a tree, and returns its id, which no earlier tree had.
    pub(super) fn insert(&mut self, about: About) -> TreeId {
        self.begun += 1;
        self.by_id.insert(self.begun, Tree::new(about));
        self.begun
    }

    /// Takes the signals of the trees that have been quiet for long enough.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Signal> {
        let due = |(_, t): &(&TreeId, &mut Tree)| t.due().is_some_and(|due| due <= now);
        self.by_id.iter_mut().filter(due).filter_map(|(_, tree)| tree.take_signal()).collect()
    }

    /// Returns the growing tree whose turn it is: round-robin, so that none starves.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<TreeId> {
        let grows = |(_, t): &(&TreeId, &Tree)| t.extension_due(now).is_some_and(|at| at <= now);
        let growing: Vec<TreeId> = self.by_id.iter().filter(grows).map(|(id, _)| *id).collect();
        let turn = growing.iter().find(|id| **id > self.last_extended).or(growing.first()).copied();
        self.last_extended = turn.unwrap_or(0);
        turn
    }

    /// Returns how long nothing is due; `None` while no tree awaits anything.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let times = self.by_id.values().flat_map(|t| [t.due(), t.extension_due(now)]).flatten();
        times.min().map(|at| at.saturating_duration_since(now))
    }
}
