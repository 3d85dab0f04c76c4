//! What the parts of the watcher share: the state, the world, the notifications and the counters.
//! It starts no thread and changes no watch.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::clock::now;
use crate::core::{EnvironmentId, State, Time};
use crate::engine::handle::Handle;
use crate::engine::watcher::changes::Changes;
use crate::engine::watcher::data::{Change, Metrics, Options};
use crate::engine::watcher::inbox::Inbox;
use crate::sync::lock_unpoisoned;
use crate::world::World;
use crate::world::watch::backend::Kinds;

/// The parts of the watcher that its threads and its callers share.
#[derive(Debug)]
pub(super) struct WatchContext {
    pub(super) handle: Handle,
    pub(super) world: Arc<World>,
    pub(super) options: Options,
    pub(super) inbox: Arc<Inbox>,
    pub(super) changes: Changes,
    started: (Time, Instant),
    metrics: Mutex<Metrics>,
}

impl WatchContext {
    pub(super) fn new(world: &Arc<World>, handle: Handle, options: Options) -> Self {
        let changes = Changes::new(handle.view(State::seq));
        let world = Arc::clone(world);
        let started = (now(), Instant::now());
        let (inbox, metrics) = (Arc::default(), Mutex::default());
        Self { handle, world, options, inbox, changes, started, metrics }
    }

    /// Returns the counters; they are locked while the result lives.
    pub(super) fn metrics(&self) -> MutexGuard<'_, Metrics> {
        lock_unpoisoned(&self.metrics)
    }

    /// Notifies every receiver of a change.
    pub(super) fn notify(&self, environment: EnvironmentId, incarnation: u32, kinds: Kinds) {
        let seq = self.handle.view(State::seq);
        self.changes.publish(Change { environment, incarnation, kinds, at: now(), seq });
    }

    /// Returns the monotonic time of the retry clock: a clock that is set does not change it.
    pub(super) fn clock(&self) -> Time {
        let (then, since) = self.started;
        then.after(since.elapsed().saturating_mul(self.options.speed))
    }
}
