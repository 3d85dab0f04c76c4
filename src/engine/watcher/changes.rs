//! The notifications of changes: sent to every receiver, and kept for subscribers that come back.
//! It never decides what is a change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::broadcast;

use crate::core::{EnvironmentId, Seq};
use crate::engine::watcher::data::Change;
use crate::sync::lock_unpoisoned;

/// Changes kept for subscribers that come back.
const HISTORY_MAX: usize = 1_024;

/// Sends changes and keeps the latest of them.
#[derive(Debug)]
pub(super) struct Changes {
    sender: broadcast::Sender<Change>,
    history: Mutex<VecDeque<Change>>,
    /// Changes before this seq may be missing from `history`. Stored only under the lock of
    /// `history`.
    history_since: AtomicU64,
}

impl Changes {
    /// Creates it for a log that ends at `head`.
    pub(super) fn new(head: Seq) -> Self {
        let (sender, _) = broadcast::channel(HISTORY_MAX);
        Self { sender, history: Mutex::default(), history_since: AtomicU64::new(head.0) }
    }

    /// Returns a receiver of the changes from now on.
    pub(super) fn receiver(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    /// Returns the changes at or after `seq`, merged per environment. Returns none when some of
    /// them are no longer kept.
    pub(super) fn since(&self, seq: Seq) -> Option<Vec<Change>> {
        let history = self.history();
        if seq.0 < self.history_since.load(Ordering::Acquire) {
            return None;
        }
        let mut last: BTreeMap<&EnvironmentId, Change> = BTreeMap::new();
        for change in history.iter().filter(|c| c.seq >= seq) {
            let before = last.get(&change.environment).map(|c| c.kinds).unwrap_or_default();
            let kinds = change.kinds.and(before);
            last.insert(&change.environment, Change { kinds, ..change.clone() });
        }
        Some(last.into_values().collect())
    }

    /// Keeps a change and sends it to every receiver.
    pub(super) fn publish(&self, change: Change) {
        let mut history = self.history();
        if history.len() == HISTORY_MAX
            && let Some(lost) = history.pop_front()
        {
            self.history_since.store(lost.seq.0 + 1, Ordering::Release);
        }
        history.push_back(change.clone());
        drop(history);
        // An error means only that there is no receiver.
        drop(self.sender.send(change));
    }

    fn history(&self) -> MutexGuard<'_, VecDeque<Change>> {
        lock_unpoisoned(&self.history)
    }
}
