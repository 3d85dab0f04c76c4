//! The watched trees: which directories belong to each, and when their changes are reported.
//!
//! The tree of a worktree consists of its directories that are not pruned and its own git
//! directory. The refs of a repository are one tree that its worktrees share. Changes are collected
//! until a tree has been quiet for 75 ms, at most for 500 ms. A tree is opened only while the gate
//! permits it, under the same lock under which trees are closed: a released tree stays released.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::core::Environment;
use crate::sync::lock_unpoisoned;
use crate::world::fs::paths;
use crate::world::git::index::format::Hash;
use crate::world::watch::backend::{
    Backend, Failure, Happened, Key, Kinds, Signal, Signals, Sink, TreeId,
};
use crate::world::watch::limits::Budget;
use crate::world::watch::registry::{Counts, Gate, Registry, identity};
use crate::world::watch::rules::Rules;
use crate::world::watch::tree::{About, Tree, Worktree};
use crate::world::watch::watches::Watches;

/// Upper bound of a wait that a notification ends.
const NEVER: Duration = Duration::from_secs(3_600);
/// Directories of one tree that are listed before another tree gets its turn.
const TURN: usize = 64;

/// Owns all watched trees and their backend.
pub struct WatchTracker {
    registry: Registry,
    wakeup: Condvar,
    signals: Signals,
    heavy: Vec<String>,
}

impl std::fmt::Debug for WatchTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchTracker")
            .field("backend", &self.registry.watches.backend)
            .finish_non_exhaustive()
    }
}

impl WatchTracker {
    /// Starts a tracker without trees. `make` creates its backend.
    ///
    /// # Errors
    /// When the backend's or the tracker's thread cannot be started.
    pub fn start(
        make: impl FnOnce(Sink) -> Box<dyn Backend>,
        budget: Budget,
        heavy: Vec<String>,
        gate: Gate,
        signals: Signals,
    ) -> std::io::Result<Arc<Self>> {
        // Weak references: the backend and the thread must not keep the tracker alive.
        let weak: Arc<Mutex<Weak<Self>>> = Arc::default();
        let reference = Arc::clone(&weak);
        let sink: Sink = Arc::new(move |tree, happened| {
            let tracker = lock_unpoisoned(&reference).upgrade();
            if let Some(tracker) = tracker {
                tracker.on_event(tree, &happened);
            }
        });
        let watches = Watches { backend: make(sink), budget };
        let registry = Registry { watches, trees: Mutex::default(), gate };
        let wakeup = Condvar::new();
        let tracker = Arc::new(Self { registry, wakeup, signals, heavy });
        *lock_unpoisoned(&weak) = Arc::downgrade(&tracker);
        let working = Arc::downgrade(&tracker);
        let run = move || while working.upgrade().is_some_and(|tracker| tracker.run_round()) {};
        std::thread::Builder::new().name("gk-watch".to_owned()).spawn(run)?;
        Ok(tracker)
    }

    /// Stops the tracker's own thread.
    pub fn stop(&self) {
        self.registry.locked().stop = true;
        self.wakeup.notify_all();
    }

    /// Returns the name of the backend.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.registry.watches.backend.name()
    }

    /// Returns the bounds on watched directories.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.registry.watches.budget
    }

    /// Waits until all past events are reported. Returns the worktrees for which that is not
    /// certain: those whose trees still grow, or all of them after a timeout.
    pub fn sync(&self) -> Vec<Key> {
        self.registry.sync()
    }

    /// Reports whether a tree of this incarnation is open.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.registry.holds(key)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.registry.counts()
    }

    /// Closes an environment's tree, whatever its incarnation. Nothing of it is reported after the
    /// return, until the gate permits a new one.
    pub fn release(&self, id: &crate::core::EnvironmentId) {
        self.registry.release(id);
    }

    /// Watches the worktree of an environment. Every change after the return is reported.
    ///
    /// # Errors
    /// It is missing, must not be watched, or a limit is reached; then nothing of it is watched.
    pub fn arm(&self, env: &Environment) -> Result<(), Failure> {
        let key = (env.id.clone(), env.incarnation);
        let root = paths::from_host(&env.plan.path);
        let Some(found) = &env.worktree else { return Err(Failure::Absent(root)) };
        let admin = paths::from_host(&found.admin_dir);
        let common = paths::from_host(&env.plan.repository.common_dir);
        let identity = identity(&root, &admin)?;
        if !groundskeeper_system::linux_calls::is_local(&root) {
            let message = "its file system does not report changes of other hosts".to_owned();
            return Err(Failure::Limit(message));
        }
        let hash = Hash::named(&env.plan.repository.object_format);
        let rules = Rules::new(&root, &admin, &common, hash, &self.heavy);
        let about = About::Worktree(Worktree { key: key.clone(), root, admin, common, identity });
        let id = self.registry.open_tree(&key, about)?;
        let armed = match identity.repository {
            Some(_) => self.watch_tree(id, rules).and_then(|()| self.registry.join_refs(&key, env)),
            // Without a repository, only its creation is of interest.
            None => self.registry.watches.watch_bare(id, &paths::from_host(&env.plan.path)),
        };
        if armed.is_err() {
            self.registry.close_tree(&mut self.registry.locked(), &key);
        }
        armed
    }

    /// Watches a worktree's tree, and wakes the thread that extends it.
    fn watch_tree(&self, id: TreeId, rules: Rules) -> Result<(), Failure> {
        self.registry.watch_tree(id, rules)?;
        self.wakeup.notify_all();
        Ok(())
    }

    /// Handles one event of the backend.
    fn on_event(&self, id: TreeId, happened: &Happened) {
        let mut trees = self.registry.locked();
        if *happened == Happened::Overflow {
            trees.overflows += 1;
        }
        let Some(tree) = trees.by_id.get_mut(&id) else { return };
        if !tree.note(happened) {
            return;
        }
        let was_quiet = tree.mark_changed();
        let grows = !tree.pending.is_empty();
        match &tree.about {
            About::Worktree(w) => {
                self.signal_touched(&w.key, tree.file_of(happened));
            }
            About::Refs(common, members) => {
                match tree.named_refs() {
                    Some(refs) => (self.signals)(Signal::RefsTouched(common.clone(), refs)),
                    None => members.iter().for_each(|m| self.signal_touched(m, None)),
                }
                if tree.exclude {
                    let members = members.clone();
                    trees.request_rewalk(&members);
                }
            }
        }
        if was_quiet || grows {
            self.wakeup.notify_all();
        }
    }

    /// Runs one round of the tracker's own thread: reports the trees that became quiet, extends one
    /// tree, or waits. Returns false after `stop`.
    fn run_round(&self) -> bool {
        let mut trees = self.registry.locked();
        if trees.stop {
            return false;
        }
        // Reports go first: a growing tree must not delay the others.
        let now = Instant::now();
        let signals = trees.take_due(now);
        let turn = trees.next_turn(now);
        if signals.is_empty() && turn.is_none() {
            let rest = trees.rest(now).unwrap_or(NEVER);
            drop(self.wakeup.wait_timeout(trees, rest));
            return true;
        }
        drop(trees);
        for signal in signals {
            (self.signals)(signal);
        }
        if let Some(id) = turn {
            self.extend_next(id);
        }
        true
    }

    /// Adds a bounded number of new directories to a tree; or walks the whole tree again.
    fn extend_next(&self, id: TreeId) {
        let mut trees = self.registry.locked();
        let Some(tree) = trees.by_id.get_mut(&id) else { return };
        let rewalk = std::mem::take(&mut tree.rewalk_wanted);
        let recheck = std::mem::take(&mut tree.recheck);
        let share = if rewalk { tree.pending.len() } else { tree.pending.len().min(TURN) };
        let new: Vec<PathBuf> = tree.pending.drain(..share).collect();
        let count = tree.directories;
        tree.walked_at = rewalk.then(Instant::now).or(tree.walked_at);
        let rules = tree.rules.take();
        let (keys, place) = match &tree.about {
            About::Worktree(w) => (vec![w.key.clone()], w.root.clone()),
            About::Refs(common, members) => (members.iter().cloned().collect(), common.clone()),
        };
        let is_refs = matches!(tree.about, About::Refs(..));
        drop(trees);
        let extended = match rules {
            None if is_refs && rewalk => self.registry.watches.watch_refs(id, &place),
            None if is_refs => {
                let mut count = 0;
                new.iter().try_for_each(|dir| self.registry.watches.add_all(id, dir, &mut count))
            }
            None => Ok(()),
            Some(rules) if rewalk => {
                // Directories that the new rules prune must not be reported any longer.
                self.registry.watches.backend.forget(id, &place);
                self.watch_tree(id, rules)
            }
            Some(rules) => self.extend(id, rules, &new, count, recheck),
        };
        match extended {
            Ok(()) => self.report_added(id, &new, rewalk),
            Err(failure) => {
                let failure = Arc::new(failure);
                for key in keys {
                    self.fail_tree(id, &key, &failure);
                }
            }
        }
    }

    fn signal_touched(&self, key: &Key, path: Option<Vec<u8>>) {
        (self.signals)(Signal::Touched(key.clone(), path));
    }

    /// Reports everything created inside before the watches stood: no event reported it.
    fn report_added(&self, id: TreeId, new: &[PathBuf], rewalk: bool) {
        let mut trees = self.registry.locked();
        let has_added = rewalk || !new.is_empty();
        let Some(tree) = trees.by_id.get_mut(&id).filter(|_| has_added) else { return };
        match &tree.about {
            About::Worktree(w) if rewalk => self.signal_touched(&w.key, None),
            About::Worktree(w) => {
                for dir in new {
                    self.signal_touched(&w.key, w.file(dir));
                }
            }
            About::Refs(_, members) => {
                for member in members {
                    self.signal_touched(member, None);
                }
            }
        }
        let is_refs = matches!(tree.about, About::Refs(..));
        tree.mark(if is_refs { Kinds::REFS.and(Kinds::ANYTHING) } else { Kinds::FILES });
        tree.mark_changed();
    }

    fn extend(
        &self,
        id: TreeId,
        mut rules: Rules,
        new: &[PathBuf],
        mut count: usize,
        recheck: bool,
    ) -> Result<(), Failure> {
        let extended = self.registry.watches.watch_new(id, &mut rules, new, &mut count);
        rules.settle();
        // Other tracked files may lie in ignored directories, which then need watches.
        let rewalk = recheck && rules.exempt();
        let mut trees = self.registry.locked();
        if let Some(tree) = trees.by_id.get_mut(&id) {
            tree.rules = Some(rules);
            tree.directories = count;
            tree.rewalk_wanted |= rewalk;
        }
        extended
    }

    fn fail_tree(&self, id: TreeId, key: &Key, failure: &Arc<Failure>) {
        let mut trees = self.registry.locked();
        let own = trees.by_key.get(key) == Some(&id);
        let shared = trees.by_id.get(&id).is_some_and(|t| matches!(t.about, About::Refs(..)));
        if !own && !shared {
            // It was closed meanwhile, and possibly opened anew.
            return;
        }
        self.registry.close_tree(&mut trees, key);
        drop(trees);
        (self.signals)(Signal::Broken(key.clone(), Arc::clone(failure)));
    }

    /// Reports whether a watch still covers what it should. If the worktree is missing or was
    /// replaced, the watch ends with a `Broken` signal, and the result is true. If its repository
    /// appeared, vanished or was created anew, the result is false: the watch must be set up again.
    pub fn is_intact(&self, key: &Key) -> bool {
        let (id, root, admin, before) = {
            let trees = self.registry.locked();
            let Some(id) = trees.by_key.get(key).copied() else { return true };
            let tree = trees.by_id.get(&id);
            let Some(Tree { about: About::Worktree(w), .. }) = tree else { return true };
            (id, w.root.clone(), w.admin.clone(), w.identity)
        };
        match identity(&root, &admin) {
            Ok(now) if now.root == before.root => now == before,
            _ => {
                self.fail_tree(id, key, &Arc::new(Failure::Absent(root)));
                true
            }
        }
    }
}

impl Drop for WatchTracker {
    fn drop(&mut self) {
        self.stop();
    }
}
