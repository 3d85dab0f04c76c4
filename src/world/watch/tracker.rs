//! The watched trees: which directories belong to each, and when their changes are reported.
//!
//! The tree of a worktree consists of its directories that are not pruned and its own git
//! directory. The refs of a repository are one tree that its worktrees share. Changes are collected
//! until a tree has been quiet for 75 ms, at most for 500 ms. A tree is opened only while the gate
//! permits it, under the same lock under which trees are closed: a released tree stays released.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::core::Environment;
use crate::world::fs::paths;
use crate::world::git::index::format::Hash;
use crate::world::git::{link, marker};
use crate::world::watch::backend::{
    Backend, Failure, Happened, Key, Kinds, Signal, Signals, Sink, TreeId,
};
use crate::world::watch::limits::{self, Budget};
use crate::world::watch::rules::{Rules, walk};
use crate::world::watch::tree::{About, Identity, LOGS, Tree, Worktree};

/// Upper bound of a wait that a notification ends.
const NEVER: Duration = Duration::from_secs(3_600);
/// Directories of one tree that are listed before another tree gets its turn.
const TURN: usize = 64;

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

#[derive(Debug, Default)]
struct Trees {
    by_id: BTreeMap<TreeId, Tree>,
    by_key: BTreeMap<Key, TreeId>,
    by_repository: BTreeMap<PathBuf, TreeId>,
    begun: u64,
    overflows: u64,
    /// Tree that was extended last; the next turn goes to the one after it.
    last_extended: TreeId,
    stop: bool,
}

impl Trees {
    /// Requests a new walk of these worktrees, because their ignore rules have changed.
    fn request_rewalk(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            let tree = self.by_key.get(key).and_then(|id| self.by_id.get_mut(id));
            if let Some(tree) = tree {
                tree.rewalk_wanted = true;
            }
        }
    }
}

/// Owns all watched trees and their backend.
pub struct WatchTracker {
    backend: Box<dyn Backend>,
    trees: Mutex<Trees>,
    wakeup: Condvar,
    gate: Gate,
    signals: Signals,
    budget: Budget,
    heavy: Vec<String>,
}

impl std::fmt::Debug for WatchTracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchTracker").field("backend", &self.backend).finish_non_exhaustive()
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
            let tracker = reference.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
            if let Some(tracker) = tracker {
                tracker.on_event(tree, &happened);
            }
        });
        let backend = make(sink);
        let (trees, wakeup) = (Mutex::default(), Condvar::new());
        let tracker = Arc::new(Self { backend, trees, wakeup, gate, signals, budget, heavy });
        *weak.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&tracker);
        let working = Arc::downgrade(&tracker);
        let run = move || while working.upgrade().is_some_and(|tracker| tracker.run_round()) {};
        std::thread::Builder::new().name("gk-watch".to_owned()).spawn(run)?;
        Ok(tracker)
    }

    /// Stops the tracker's own thread.
    pub fn stop(&self) {
        self.locked().stop = true;
        self.wakeup.notify_all();
    }

    /// Returns the name of the backend.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Returns the bounds on watched directories.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Waits until all past events are reported. Returns the worktrees for which that is not
    /// certain: those whose trees still grow, or all of them after a timeout.
    pub fn sync(&self) -> Vec<Key> {
        if self.locked().by_key.is_empty() {
            return Vec::new();
        }
        let is_synced = self.backend.sync();
        let trees = self.locked();
        let open = |id: &TreeId| trees.by_id.get(id).is_some_and(|tree| !tree.is_settled());
        let unsure = trees.by_key.iter().filter(|(_, id)| !is_synced || open(id));
        unsure.map(|(key, _)| key.clone()).collect()
    }

    /// Reports whether a tree of this incarnation is open.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.locked().by_key.contains_key(key)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (watches, instances) = self.backend.counts();
        let trees = self.locked();
        Counts {
            worktrees: trees.by_key.len(),
            watches,
            instances,
            begun: trees.begun,
            overflows: trees.overflows,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Trees> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
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
        if !limits::is_local(&root) {
            let message = "its file system does not report changes of other hosts".to_owned();
            return Err(Failure::Limit(message));
        }
        let hash = Hash::named(&env.plan.repository.object_format);
        let rules = Rules::new(&root, &admin, &common, hash, &self.heavy);
        let about = About::Worktree(Worktree { key: key.clone(), root, admin, common, identity });
        let id = self.open_tree(&key, about)?;
        let armed = match identity.repository {
            Some(_) => self.watch_tree(id, rules).and_then(|()| self.join_refs(&key, env)),
            // Without a repository, only its creation is of interest.
            None => self.watch_bare(id, &paths::from_host(&env.plan.path)),
        };
        if armed.is_err() {
            self.close_tree(&mut self.locked(), &key);
        }
        armed
    }

    /// Opens a tree in place of an earlier one, if the gate permits it.
    fn open_tree(&self, key: &Key, about: About) -> Result<TreeId, Failure> {
        let mut trees = self.locked();
        if !(self.gate)(key) {
            return Err(Failure::Refused);
        }
        self.close_tree(&mut trees, key);
        let id = Self::insert_tree(&mut trees, about);
        if let Err(failure) = self.backend.open(id) {
            trees.by_id.remove(&id);
            return Err(failure);
        }
        trees.by_key.insert(key.clone(), id);
        Ok(id)
    }

    fn insert_tree(trees: &mut Trees, about: About) -> TreeId {
        trees.begun += 1;
        trees.by_id.insert(trees.begun, Tree::new(about));
        trees.begun
    }

    /// Watches the places where a repository would be created.
    fn watch_bare(&self, id: TreeId, root: &Path) -> Result<(), Failure> {
        self.backend.add(id, root)?;
        match self.backend.add(id, &root.join(".git")) {
            Err(Failure::Absent(_)) => Ok(()),
            added => added,
        }
    }

    /// Watches the complete tree of a worktree, and stores its rules for later events.
    fn watch_tree(&self, id: TreeId, mut rules: Rules) -> Result<(), Failure> {
        let (root, admin, identity_then) = {
            let trees = self.locked();
            let Some(Tree { about: About::Worktree(w), .. }) = trees.by_id.get(&id) else {
                return Err(Failure::Refused);
            };
            (w.root.clone(), w.admin.clone(), w.identity)
        };
        self.backend.add(id, &admin)?;
        match self.backend.add(id, &admin.join(LOGS)) {
            // Some repositories keep no reflog.
            Ok(()) | Err(Failure::Absent(_)) => {}
            Err(failure) => return Err(failure),
        }
        let mut count = 0;
        walk(&mut rules, &root, &mut |dir| self.add(id, dir, &mut count))?;
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
        self.wakeup.notify_all();
        Ok(())
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

    /// Joins the tree of the repository's refs, or opens it.
    fn join_refs(&self, key: &Key, env: &Environment) -> Result<(), Failure> {
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
            let id = Self::insert_tree(&mut trees, About::Refs(common.clone(), members));
            if let Err(failure) = self.backend.open(id) {
                trees.by_id.remove(&id);
                return Err(failure);
            }
            trees.by_repository.insert(common.clone(), id);
            id
        };
        self.watch_refs(id, &common)
    }

    /// Watches the files on which the distance of a repository's worktrees depends.
    fn watch_refs(&self, id: TreeId, common: &Path) -> Result<(), Failure> {
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
    fn add_all(&self, id: TreeId, dir: &Path, count: &mut usize) -> Result<(), Failure> {
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

    /// Closes an environment's tree, whatever its incarnation. Nothing of it is reported after the
    /// return, until the gate permits a new one.
    pub fn release(&self, id: &crate::core::EnvironmentId) {
        let mut trees = self.locked();
        let incarnations: Vec<Key> =
            trees.by_key.keys().filter(|(of, _)| of == id).cloned().collect();
        for key in incarnations {
            self.close_tree(&mut trees, &key);
        }
    }

    fn close_tree(&self, trees: &mut Trees, key: &Key) {
        let Some(id) = trees.by_key.remove(key) else { return };
        self.backend.close(id);
        let Some(Tree { about: About::Worktree(gone), .. }) = trees.by_id.remove(&id) else {
            return;
        };
        let Some(refs) = trees.by_repository.get(&gone.common).copied() else { return };
        if let Some(Tree { about: About::Refs(_, members), .. }) = trees.by_id.get_mut(&refs) {
            members.remove(key);
            if members.is_empty() {
                self.backend.close(refs);
                trees.by_id.remove(&refs);
                trees.by_repository.remove(&gone.common);
            }
        }
    }

    /// Handles one event of the backend.
    fn on_event(&self, id: TreeId, happened: &Happened) {
        let mut trees = self.locked();
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
        let mut trees = self.locked();
        if trees.stop {
            return false;
        }
        // Reports go first: a growing tree must not delay the others.
        let now = Instant::now();
        let due = |(_, t): &(&TreeId, &mut Tree)| t.due().is_some_and(|due| due <= now);
        let signals: Vec<Signal> =
            trees.by_id.iter_mut().filter(due).filter_map(|(_, tree)| tree.take_signal()).collect();
        let grows = |(_, t): &(&TreeId, &Tree)| t.extension_due(now).is_some_and(|at| at <= now);
        // Round-robin, so that no growing tree starves.
        let growing: Vec<TreeId> = trees.by_id.iter().filter(grows).map(|(id, _)| *id).collect();
        let turn =
            growing.iter().find(|id| **id > trees.last_extended).or(growing.first()).copied();
        trees.last_extended = turn.unwrap_or(0);
        if signals.is_empty() && turn.is_none() {
            let times =
                trees.by_id.values().flat_map(|t| [t.due(), t.extension_due(now)]).flatten();
            let rest = times.min().map_or(NEVER, |at| at.saturating_duration_since(now));
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
        let mut trees = self.locked();
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
            None if is_refs && rewalk => self.watch_refs(id, &place),
            None if is_refs => {
                let mut count = 0;
                new.iter().try_for_each(|dir| self.add_all(id, dir, &mut count))
            }
            None => Ok(()),
            Some(rules) if rewalk => self.rewalk(id, &place, rules),
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
        let mut trees = self.locked();
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

    fn rewalk(&self, id: TreeId, root: &Path, rules: Rules) -> Result<(), Failure> {
        // Directories that are pruned by the new rules must not be reported any longer.
        self.backend.forget(id, root);
        self.watch_tree(id, rules)
    }

    fn extend(
        &self,
        id: TreeId,
        mut rules: Rules,
        new: &[PathBuf],
        mut count: usize,
        recheck: bool,
    ) -> Result<(), Failure> {
        let extended = new.iter().try_for_each(|dir| {
            // Another directory may have had this path before.
            self.backend.forget(id, dir);
            let is_dir = dir.symlink_metadata().is_ok_and(|found| found.is_dir());
            let added = if rules.is_outside(dir) {
                // The reflogs, which git creates with the first move of HEAD.
                self.backend.add(id, dir)
            } else if is_dir && rules.admits(dir) {
                walk(&mut rules, dir, &mut |dir| self.add(id, dir, &mut count))
            } else {
                Ok(())
            };
            // It vanished again, so nothing is lost.
            if matches!(added, Err(Failure::Absent(_))) { Ok(()) } else { added }
        });
        rules.settle();
        // Other tracked files may lie in ignored directories, which then need watches.
        let rewalk = recheck && rules.exempt();
        let mut trees = self.locked();
        if let Some(tree) = trees.by_id.get_mut(&id) {
            tree.rules = Some(rules);
            tree.directories = count;
            tree.rewalk_wanted |= rewalk;
        }
        extended
    }

    fn fail_tree(&self, id: TreeId, key: &Key, failure: &Arc<Failure>) {
        let mut trees = self.locked();
        let own = trees.by_key.get(key) == Some(&id);
        let shared = trees.by_id.get(&id).is_some_and(|t| matches!(t.about, About::Refs(..)));
        if !own && !shared {
            // It was closed meanwhile, and possibly opened anew.
            return;
        }
        self.close_tree(&mut trees, key);
        drop(trees);
        (self.signals)(Signal::Broken(key.clone(), Arc::clone(failure)));
    }

    /// Reports whether a watch still covers what it should. If the worktree is missing or was
    /// replaced, the watch ends with a `Broken` signal, and the result is true. If its repository
    /// appeared, vanished or was created anew, the result is false: the watch must be set up again.
    pub fn is_intact(&self, key: &Key) -> bool {
        let (id, root, admin, before) = {
            let trees = self.locked();
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

fn identity(root: &Path, admin: &Path) -> Result<Identity, Failure> {
    let Ok(Some(found)) = marker::identity(root) else {
        return Err(Failure::Absent(root.to_owned()));
    };
    let link = marker::identity(&root.join(".git")).unwrap_or_default();
    Ok(Identity { root: found, link, repository: link::repository(root, admin) })
}
