//! What waits for the watcher's thread: changes, broken watches and new subscriptions. It holds the
//! subscriptions as well, since each new or ended one is a reason to wake the thread.
//!
//! It never watches and never notifies; that is the thread's work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::EnvironmentId;
use crate::sync::lock_unpoisoned;
use crate::world::watch::backend::{Failure, Key, Kinds};

/// The environment of a subscription, or none for all.
pub(super) type Which = Option<EnvironmentId>;

/// What the thread takes in one round.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Changes by incarnation, merged until the thread takes them.
    pub(super) changed: BTreeMap<Key, Kinds>,
    /// Broken watches. Each had a tree, so there are never many.
    pub(super) broken: Vec<(Key, Arc<Failure>)>,
    /// Subscriptions that are new since the last round.
    pub(super) new_subscriptions: Vec<Which>,
    is_notified: bool,
    /// Whether the thread must end.
    pub(super) stop: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let quiet =
            self.changed.is_empty() && self.broken.is_empty() && self.new_subscriptions.is_empty();
        quiet && !self.is_notified && !self.stop
    }

    fn add_change(&mut self, key: Key, kinds: Kinds) {
        let before = self.changed.entry(key).or_default();
        *before = before.and(kinds);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// Subscriptions by number.
    subscriptions: BTreeMap<u64, Which>,
}

/// The inbox of the watcher's thread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    wakeup: Condvar,
    /// Number of subscriptions that there have ever been.
    subscribed: AtomicU64,
}

/// A subscription to changes. It ends when this value is dropped.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.put(|waiting| {
            waiting.subscriptions.remove(&self.number);
            waiting.batch.is_notified = true;
        });
    }
}

impl Inbox {
    /// Wakes the thread, which then compares its watches with the state.
    pub(super) fn state_changed(&self) {
        self.put(|waiting| waiting.batch.is_notified = true);
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        self.put(|waiting| waiting.batch.stop = true);
    }

    /// Adds a change of each of these incarnations.
    pub(super) fn add_changes(&self, keys: impl IntoIterator<Item = Key>, kinds: Kinds) {
        self.put(|waiting| keys.into_iter().for_each(|key| waiting.batch.add_change(key, kinds)));
    }

    /// Adds a broken watch.
    pub(super) fn add_broken(&self, key: Key, failure: Arc<Failure>) {
        self.put(|waiting| waiting.batch.broken.push((key, failure)));
    }

    /// Subscribes to one environment or to all.
    pub(super) fn subscribe(self: &Arc<Self>, which: Which) -> Subscription {
        let number = self.subscribed.fetch_add(1, Ordering::Relaxed);
        self.put(|waiting| {
            waiting.subscriptions.insert(number, which.clone());
            waiting.batch.new_subscriptions.push(which);
        });
        Subscription { inbox: Arc::clone(self), number }
    }

    /// Returns what is subscribed to, each once.
    pub(super) fn subscriptions(&self) -> BTreeSet<Which> {
        self.waiting().subscriptions.values().cloned().collect()
    }

    /// Counts the subscriptions.
    pub(super) fn subscription_count(&self) -> usize {
        self.waiting().subscriptions.len()
    }

    /// Takes what waits. Waits at most for `rest` if that is nothing.
    pub(super) fn take(&self, rest: Duration) -> Batch {
        let mut waiting = self.waiting();
        if waiting.batch.is_empty() {
            let waited = self.wakeup.wait_timeout(waiting, rest);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let stop = waiting.batch.stop;
        // The request to stop stays: a thread that missed it would run for ever.
        std::mem::replace(&mut waiting.batch, Batch { stop, ..Batch::default() })
    }

    fn put(&self, add: impl FnOnce(&mut Waiting)) {
        add(&mut self.waiting());
        self.wakeup.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock_unpoisoned(&self.waiting)
    }
}
