//! One environment in the status cache: its last result, and the changes since. Decides whether a
//! result is still valid; computes nothing and waits for nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::core::Fault;
use crate::world::status::incremental::Since;
use crate::world::status::proof::Proof;
use crate::world::status::types::Status;

/// Bound on remembered changed paths; with more, the whole worktree counts as changed.
pub(super) const PATHS_MAX: usize = 64;

pub(super) type Answer = Result<Arc<Status>, Fault>;

/// What a computation may build on.
#[derive(Debug, Clone, Default)]
pub(in crate::world) struct Question {
    /// The last result, and the paths that have changed since, where all of them are known.
    pub(super) since: Option<Since>,
    /// The last result with its proof.
    pub(super) proven: Option<(Arc<Status>, Arc<Proof>)>,
    /// Whether a proof is of use: while a worktree is watched, changes are reported.
    pub(super) wants_proof: bool,
}

/// The result of a computation.
#[derive(Debug)]
pub(in crate::world) struct Computed {
    pub(super) status: Arc<Status>,
    pub(super) proof: Option<Arc<Proof>>,
    /// Whether it is the last result, which was proven to hold.
    pub(super) is_proven: bool,
}

#[derive(Debug, Default)]
pub(super) struct CacheEntry {
    pub(super) state: Mutex<EntryState>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct EntryState {
    /// Incarnation that the last result describes.
    pub(super) incarnation: u32,
    /// Number of changes seen so far.
    pub(super) version: u64,
    /// Version of the last change whose path is not known.
    pub(super) unknown: u64,
    /// Files changed since then, each with the version of its last change; bounded by `PATHS_MAX`.
    pub(super) paths: BTreeMap<Vec<u8>, u64>,
    pub(super) is_watched: bool,
    pub(super) is_running: bool,
    pub(super) last: Option<CachedResult>,
}

#[derive(Debug, Clone)]
pub(super) struct CachedResult {
    pub(super) answer: Answer,
    /// The proof of the answer, where there is one.
    pub(super) proof: Option<Arc<Proof>>,
    /// Version at the start of the computation: a change during it makes the result stale.
    pub(super) version: u64,
    pub(super) begun: Instant,
}

impl EntryState {
    /// Returns the last result if it answers a question of this time.
    pub(super) fn valid(&self, incarnation: u32, asked: Instant) -> Option<&CachedResult> {
        let last = self.last.as_ref().filter(|_| self.incarnation == incarnation)?;
        let unchanged = last.version == self.version;
        // A failed query is repeated, even if the worktree is watched.
        let held = self.is_watched && last.answer.is_ok();
        (unchanged && (held || last.begun >= asked)).then_some(last)
    }

    /// Returns what a computation may build on.
    pub(super) fn question(&self, incarnation: u32) -> Question {
        let last = self.last.as_ref().filter(|_| self.incarnation == incarnation);
        let proven = last.and_then(|last| {
            let status = last.answer.as_ref().ok()?;
            Some((Arc::clone(status), last.proof.clone()?))
        });
        let since = self.changes_since(incarnation);
        Question { since, proven, wants_proof: !self.is_watched }
    }

    /// Returns what has changed since the last result, if all changed paths are known.
    fn changes_since(&self, incarnation: u32) -> Option<Since> {
        let last = self.last.as_ref().filter(|_| self.incarnation == incarnation)?;
        let before = last.answer.as_ref().ok().filter(|_| self.is_watched)?;
        if last.version < self.unknown || last.version == self.version {
            return None;
        }
        let changed = self.paths.iter().filter(|(_, at)| **at > last.version);
        let paths = changed.map(|(path, _)| path.clone()).collect();
        Some(Since { before: Arc::clone(before), paths })
    }

    pub(super) fn record_change(&mut self, path: Option<&[u8]>) {
        self.version += 1;
        match path {
            Some(path) if self.is_watched && self.paths.len() < PATHS_MAX => {
                self.paths.insert(path.to_vec(), self.version);
            }
            _ => {
                self.unknown = self.version;
                self.paths.clear();
            }
        }
    }
}
