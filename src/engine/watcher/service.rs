//! The watcher as the rest of the daemon sees it: start, stop, subscribe, read. It takes the
//! tracker's signals and leaves the work to the watcher's thread.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::core::{Environment, EnvironmentId, Seq, State};
use crate::engine::handle::Handle;
use crate::engine::watcher::context::WatchContext;
use crate::engine::watcher::data::{Change, Metrics, Options};
use crate::engine::watcher::inbox::Subscription;
use crate::engine::watcher::watch_loop::WatchLoop;
use crate::world::World;
use crate::world::watch::backend::{Backend, Key, Kinds, Signal, Sink};
use crate::world::watch::limits::Budget;
use crate::world::watch::tracker::WatchTracker;

/// The watcher of one daemon.
#[derive(Debug)]
pub struct WatchService {
    context: Arc<WatchContext>,
}

impl WatchService {
    /// Starts watching with the backend that `make` returns.
    ///
    /// # Errors
    /// When the backend or a thread cannot be started.
    pub fn start(
        world: &Arc<World>,
        handle: Handle,
        options: Options,
        make: impl FnOnce(Sink) -> Box<dyn Backend>,
    ) -> std::io::Result<Arc<Self>> {
        let context = Arc::new(WatchContext::new(world, handle.clone(), options));
        let gate = move |key: &Key| handle.view(|state| may_be_watched(state, key));
        // Weak: the tracker belongs to the world that the context holds, so an `Arc` would be a
        // cycle.
        let reference = Arc::downgrade(&context);
        let signals = move |signal: Signal| {
            if let Some(context) = reference.upgrade() {
                on_signal(&context, signal);
            }
        };
        let tracker = WatchTracker::start(
            make,
            Budget::of_system(),
            world.rebuildable().to_vec(),
            Box::new(gate),
            Box::new(signals),
        )?;
        world.set_watch_tracker(tracker);
        let watch_loop = WatchLoop::new(&context);
        let name = "gk-watching".to_owned();
        std::thread::Builder::new().name(name).spawn(move || watch_loop.run())?;
        Ok(Arc::new(Self { context }))
    }

    /// Notifies the watcher that the state has changed, or may have.
    pub fn state_changed(&self) {
        self.context.inbox.state_changed();
    }

    /// Stops watching: the thread releases every watch and ends.
    pub fn stop(&self) {
        self.context.inbox.stop();
        if let Some(tracker) = self.context.world.watch_tracker() {
            tracker.stop();
        }
    }

    /// Subscribes to one environment or to all. They are watched while the subscription lives,
    /// including those whose watching was given up.
    #[must_use]
    pub fn subscribe(&self, which: Option<EnvironmentId>) -> Subscription {
        self.context.inbox.subscribe(which)
    }

    /// Returns a receiver of the changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.context.changes.receiver()
    }

    /// Returns the changes at or after `seq`, merged per environment. Returns none when some of
    /// them are no longer kept.
    #[must_use]
    pub fn since(&self, seq: Seq) -> Option<Vec<Change>> {
        self.context.changes.since(seq)
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let subscriptions = self.context.inbox.subscription_count();
        Metrics { subscriptions, ..self.context.metrics().clone() }
    }
}

/// The condition of every watch: this incarnation is served. The tracker asks it before it watches.
fn may_be_watched(state: &State, (id, incarnation): &Key) -> bool {
    state.environment(id).is_some_and(|e| e.incarnation == *incarnation && e.is_served())
}

/// Takes a signal from the tracker, on the tracker's threads: cached status becomes stale at once,
/// the rest is left to the watcher's thread.
fn on_signal(context: &WatchContext, signal: Signal) {
    let status_cache = context.world.status_cache();
    match signal {
        Signal::Touched((id, _), path) => status_cache.record_change(&id, path.as_deref()),
        Signal::RefsTouched(common, refs) => {
            for key in dependents(context, &common, Some(&refs)) {
                status_cache.record_change(&key.0, None);
            }
        }
        Signal::Changed(key, kinds) => context.inbox.add_changes([key], kinds),
        Signal::Refs(common, refs) => {
            let keys = dependents(context, &common, refs.as_deref());
            context.inbox.add_changes(keys, Kinds::REFS);
        }
        Signal::Broken(key, failure) => {
            status_cache.set_watched(&key.0, false);
            context.inbox.add_broken(key, failure);
        }
    }
}

/// Returns the incarnations whose distance depends on one of these refs, or may depend on it.
fn dependents(context: &WatchContext, common: &Path, refs: Option<&[String]>) -> Vec<Key> {
    let here = crate::world::fs::paths::to_host(common);
    let depends = |env: &&Environment| {
        let status = context.world.status_cache().unchanged(&env.id, env.incarnation);
        let (Some(refs), Some(status)) = (refs, status) else { return true };
        let base = env.base.as_ref().and_then(|b| b.reference.as_deref());
        let upstream = status.changes.upstream.as_deref().unwrap_or_default();
        let branch = status.changes.branch.as_deref().unwrap_or_default();
        refs.iter().any(|name| {
            let short = name.strip_prefix("refs/heads/").unwrap_or_default();
            let remote = name.strip_prefix("refs/remotes/").unwrap_or_default();
            Some(name.as_str()) == base
                || short == branch
                || short == upstream
                || remote == upstream
        })
    };
    context.handle.view(|state| {
        let served = state.environments().filter(|e| e.is_served());
        let members = served.filter(|e| e.plan.repository.common_dir == here);
        members.filter(depends).map(|e| (e.id.clone(), e.incarnation)).collect()
    })
}
