//! Watches the environments that are served and have a lease or a subscriber.
//!
//! One thread carries out the decisions of `core::watch_machine` for each of them. It follows the
//! state and never leads it: a record states only that watching was given up or resumed. A read
//! starts no watch. An environment that is being torn down or is tombstoned is never watched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::broadcast;

use crate::core::event::WatcherGaveUp;
use crate::core::watch_machine::{Action, Input, Stage, Watch};
use crate::core::{Command, Environment, EnvironmentId, Seq, State, Time};
use crate::engine::handle::Handle;
pub use crate::engine::watch_data::{Change, Metrics, Options};
use crate::engine::watch_data::{input_of, name, reason};
use crate::world::World;
use crate::world::process::cancel::Cancel;
use crate::world::status::types::Status;
use crate::world::watch::backend::{Backend, Failure, Key, Kinds, Signal, Sink};
use crate::world::watch::limits::Budget;
use crate::world::watch::tracker::WatchTracker;

/// Changes kept for subscribers that come back.
const HISTORY_MAX: usize = 1_024;

impl Inbox {
    fn is_empty(&self) -> bool {
        let quiet =
            self.changed.is_empty() && self.broken.is_empty() && self.new_subscriptions.is_empty();
        quiet && !self.is_notified && !self.stop
    }
}

#[derive(Debug, Default)]
struct Inbox {
    /// Changes by incarnation, merged until the thread takes them.
    changed: BTreeMap<Key, Kinds>,
    /// Broken watches. Each had a tree, so there are never many.
    broken: Vec<(Key, Arc<Failure>)>,
    /// Subscriptions by number: to one environment, or to all (none).
    subscriptions: BTreeMap<u64, Option<EnvironmentId>>,
    /// Subscriptions that are new since the last round.
    new_subscriptions: Vec<Option<EnvironmentId>>,
    is_notified: bool,
    stop: bool,
}

/// The watcher of one daemon. No thread ever holds two of its locks at once.
#[derive(Debug)]
pub struct WatchService {
    handle: Handle,
    world: Arc<World>,
    options: Options,
    started: (Time, Instant),
    inbox: Mutex<Inbox>,
    wakeup: Condvar,
    followed: AtomicU64,
    changes: broadcast::Sender<Change>,
    history: Mutex<VecDeque<Change>>,
    /// Changes before this seq may be missing from `history`. Stored only under the lock of
    /// `history`.
    history_since: AtomicU64,
    metrics: Mutex<Metrics>,
    /// State of the polls, which run on a thread of their own.
    polls: Mutex<Polls>,
}

#[derive(Debug, Default)]
struct Polls {
    waiting: BTreeSet<Key>,
    seen: BTreeMap<Key, Arc<Status>>,
    is_running: bool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A subscription to changes. It ends when this value is dropped.
#[derive(Debug)]
pub struct Subscription {
    watching: Arc<WatchService>,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inbox = locked(&self.watching.inbox);
        inbox.subscriptions.remove(&self.number);
        inbox.is_notified = true;
        drop(inbox);
        self.watching.wakeup.notify_all();
    }
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
        let (changes, _) = broadcast::channel(HISTORY_MAX);
        let watching = Arc::new(Self {
            handle: handle.clone(),
            world: Arc::clone(world),
            options,
            started: (now(), Instant::now()),
            inbox: Mutex::default(),
            wakeup: Condvar::new(),
            followed: AtomicU64::new(0),
            changes,
            history: Mutex::default(),
            history_since: AtomicU64::new(handle.view(State::seq).0),
            metrics: Mutex::default(),
            polls: Mutex::default(),
        });
        let gate = move |key: &Key| handle.view(|state| may_be_watched(state, key));
        // Weak: the tracker belongs to the world that `WatchService` holds, so an `Arc` would be a
        // cycle.
        let reference = Arc::downgrade(&watching);
        let signals = move |signal: Signal| {
            if let Some(watching) = reference.upgrade() {
                watching.on_signal(signal);
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
        let running = Arc::clone(&watching);
        let name = "gk-watching".to_owned();
        std::thread::Builder::new().name(name).spawn(move || running.run())?;
        Ok(watching)
    }

    /// Notifies the watcher that the state has changed, or may have.
    pub fn state_changed(&self) {
        locked(&self.inbox).is_notified = true;
        self.wakeup.notify_all();
    }

    /// Stops watching: the thread releases every watch and ends.
    pub fn stop(&self) {
        locked(&self.inbox).stop = true;
        self.wakeup.notify_all();
        if let Some(tracker) = self.world.watch_tracker() {
            tracker.stop();
        }
    }

    /// Subscribes to one environment or to all. They are watched while the subscription lives,
    /// including those whose watching was given up.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, which: Option<EnvironmentId>) -> Subscription {
        let number = self.followed.fetch_add(1, Ordering::Relaxed);
        let mut inbox = locked(&self.inbox);
        inbox.subscriptions.insert(number, which.clone());
        inbox.new_subscriptions.push(which);
        drop(inbox);
        self.wakeup.notify_all();
        Subscription { watching: Arc::clone(self), number }
    }

    /// Returns a receiver of the changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns the changes at or after `seq`, merged per environment. Returns none when some of
    /// them are no longer kept.
    #[must_use]
    pub fn since(&self, seq: Seq) -> Option<Vec<Change>> {
        let history = locked(&self.history);
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

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let subscriptions = locked(&self.inbox).subscriptions.len();
        Metrics { subscriptions, ..locked(&self.metrics).clone() }
    }

    /// Takes a signal from the tracker, on the tracker's threads: cached status becomes stale at
    /// once, the rest is left to the watcher's thread.
    fn on_signal(&self, signal: Signal) {
        let status_cache = self.world.status_cache();
        match signal {
            Signal::Touched((id, _), path) => {
                return status_cache.record_change(&id, path.as_deref());
            }
            Signal::RefsTouched(common, refs) => {
                for key in self.dependents(&common, Some(&refs)) {
                    status_cache.record_change(&key.0, None);
                }
                return;
            }
            Signal::Changed(key, kinds) => {
                let mut inbox = locked(&self.inbox);
                let before = inbox.changed.entry(key).or_default();
                *before = before.and(kinds);
            }
            Signal::Refs(common, refs) => {
                let keys = self.dependents(&common, refs.as_deref());
                let mut inbox = locked(&self.inbox);
                for key in keys {
                    let before = inbox.changed.entry(key).or_default();
                    *before = before.and(Kinds::REFS);
                }
            }
            Signal::Broken(key, failure) => {
                status_cache.set_watched(&key.0, false);
                locked(&self.inbox).broken.push((key, failure));
            }
        }
        self.wakeup.notify_all();
    }

    /// Returns the incarnations whose distance depends on one of these refs, or may depend on it.
    fn dependents(&self, common: &Path, refs: Option<&[String]>) -> Vec<Key> {
        let here = crate::world::fs::paths::to_host(common);
        let depends = |env: &&Environment| {
            let status = self.world.status_cache().unchanged(&env.id, env.incarnation);
            let (Some(refs), Some(status)) = (refs, status) else { return true };
            let base = env.base.as_ref().map_or("", |b| b.reference.as_str());
            let upstream = status.changes.upstream.as_deref().unwrap_or_default();
            let branch = status.changes.branch.as_deref().unwrap_or_default();
            refs.iter().any(|name| {
                let short = name.strip_prefix("refs/heads/").unwrap_or_default();
                let remote = name.strip_prefix("refs/remotes/").unwrap_or_default();
                name == base || short == branch || short == upstream || remote == upstream
            })
        };
        self.handle.view(|state| {
            let served = state.environments().filter(|e| e.is_served());
            let members = served.filter(|e| e.plan.repository.common_dir == here);
            members.filter(depends).map(|e| (e.id.clone(), e.incarnation)).collect()
        })
    }

    fn notify(&self, environment: EnvironmentId, incarnation: u32, kinds: Kinds) {
        let seq = self.handle.view(State::seq);
        let change = Change { environment, incarnation, kinds, at: now(), seq };
        let mut history = locked(&self.history);
        if history.len() == HISTORY_MAX
            && let Some(lost) = history.pop_front()
        {
            self.history_since.store(lost.seq.0 + 1, Ordering::Release);
        }
        history.push_back(change.clone());
        drop(history);
        // An error means only that there is no receiver.
        drop(self.changes.send(change));
    }

    /// Returns the monotonic time of the retry clock: a clock that is set does not change it.
    fn clock(&self) -> Time {
        let (then, since) = self.started;
        then.after(since.elapsed().saturating_mul(self.options.speed))
    }

    fn run(self: Arc<Self>) {
        let mut watch_loop = WatchLoop { watching: &self, watches: BTreeMap::new() };
        loop {
            let deadline = watch_loop.watches.values().filter_map(|(_, w)| w.deadline()).min();
            let mut inbox = locked(&self.inbox);
            if inbox.is_empty() {
                let rest = deadline.map_or(Duration::from_secs(3_600), |at| at.since(self.clock()));
                let rest = rest / self.options.speed.max(1);
                let waited = self.wakeup.wait_timeout(inbox, rest);
                inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            inbox.is_notified = false;
            let stop = inbox.stop;
            let broken = std::mem::take(&mut inbox.broken);
            let changed = std::mem::take(&mut inbox.changed);
            let new_subscriptions = std::mem::take(&mut inbox.new_subscriptions);
            drop(inbox);
            if stop {
                return watch_loop.end();
            }
            for (key, failure) in broken {
                watch_loop.on_broken(&key, &failure);
            }
            for (key, kinds) in changed {
                watch_loop.on_changed(key, kinds);
            }
            watch_loop.follow_state(&new_subscriptions);
            watch_loop.tick();
            watch_loop.publish();
        }
    }

    fn run_polls(&self) {
        loop {
            let mut polls = locked(&self.polls);
            let Some(key) = polls.waiting.pop_first() else {
                polls.is_running = false;
                return;
            };
            drop(polls);
            // A panic in one poll must not stop the polls of the other environments.
            let poll = std::panic::AssertUnwindSafe(|| self.poll_one(&key));
            if std::panic::catch_unwind(poll).is_err() {
                tracing::error!(environment = %key.0, "a poll panicked; please report this");
            }
        }
    }

    fn poll_one(&self, key: &Key) {
        locked(&self.metrics).polls += 1;
        let env = self.handle.view(|state| {
            let env = state.environment(&key.0);
            env.filter(|e| e.incarnation == key.1 && e.is_served()).cloned()
        });
        let (Some(env), Ok(cancel)) = (env, Cancel::new()) else {
            locked(&self.polls).seen.remove(key);
            return;
        };
        self.world.status_cache().record_change(&key.0, None);
        let Ok(found) = self.world.status(&env, &cancel) else { return };
        let before = locked(&self.polls).seen.insert(key.clone(), Arc::clone(&found));
        if before.is_some_and(|before| *before != *found) {
            self.notify(key.0.clone(), key.1, Kinds::ANYTHING);
        }
    }

    fn is_wanted(
        &self,
        subscriptions: &BTreeSet<Option<EnvironmentId>>,
        id: &EnvironmentId,
    ) -> bool {
        self.options.always
            || subscriptions.contains(&None)
            || subscriptions.contains(&Some(id.clone()))
    }
}

/// The condition of every watch: this incarnation is served. The tracker asks it before it watches.
fn may_be_watched(state: &State, (id, incarnation): &Key) -> bool {
    state.environment(id).is_some_and(|e| e.incarnation == *incarnation && e.is_served())
}

/// State of the watcher's thread.
struct WatchLoop<'a> {
    watching: &'a Arc<WatchService>,
    watches: BTreeMap<EnvironmentId, (u32, Watch)>,
}

impl WatchLoop<'_> {
    /// Begins and ends watches according to the state, the leases and the subscriptions.
    fn follow_state(&mut self, new_subscriptions: &[Option<EnvironmentId>]) {
        let inbox = locked(&self.watching.inbox);
        let subscriptions: BTreeSet<Option<EnvironmentId>> =
            inbox.subscriptions.values().cloned().collect();
        drop(inbox);
        let wanted: BTreeMap<EnvironmentId, (u32, bool)> = self.watching.handle.view(|state| {
            let leased: BTreeSet<&EnvironmentId> =
                state.leases().map(|(_, lease)| &lease.environment).collect();
            let served = state.environments().filter(|e| e.is_served() && e.worktree.is_some());
            let wanted = served.filter(|e| {
                leased.contains(&e.id) || self.watching.is_wanted(&subscriptions, &e.id)
            });
            wanted.map(|e| (e.id.clone(), (e.incarnation, e.unwatched.is_some()))).collect()
        });
        let over: Vec<EnvironmentId> = self
            .watches
            .iter()
            .filter(|(id, (life, _))| wanted.get(id).is_none_or(|(now, _)| now != life))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.step_watch(&id, Input::Unwanted, None);
            self.watches.remove(&id);
            locked(&self.watching.polls).seen.retain(|(of, _), _| *of != id);
        }
        for (id, (incarnation, given_up)) in wanted {
            let again =
                new_subscriptions.contains(&None) || new_subscriptions.contains(&Some(id.clone()));
            let new = || {
                let stage = if given_up { Stage::GaveUp } else { Stage::Off };
                (incarnation, Watch { stage, ..Watch::default() })
            };
            let watch = self.watches.entry(id.clone()).or_insert_with(new).1;
            let key = (id.clone(), incarnation);
            let tracker = self.watching.world.watch_tracker();
            if matches!(watch.stage, Stage::On(_))
                && tracker.is_none_or(|tracker| !tracker.holds(&key))
            {
                // A refused teardown has released the tree between two rounds of this thread.
                self.step_watch(&id, Input::Unwanted, None);
            }
            if again && given_up {
                let command = Command::WatchAgain { environment: id.clone() };
                drop(self.watching.handle.submit_blocking(command));
            }
            self.step_watch(&id, if again { Input::WantedAgain } else { Input::Wanted }, None);
        }
    }

    fn on_changed(&mut self, key: Key, kinds: Kinds) {
        if self.watches.get(&key.0).is_none_or(|(life, _)| *life != key.1) {
            return;
        }
        if let Some(tracker) = self.watching.world.watch_tracker()
            && (kinds.has(Kinds::ANYTHING) || kinds.has(Kinds::HEAD))
            && !tracker.is_intact(&key)
        {
            self.arm(&key.0);
        }
        self.watching.notify(key.0, key.1, kinds);
    }

    fn on_broken(&mut self, key: &Key, failure: &Failure) {
        if self.watches.get(&key.0).is_some_and(|(life, _)| *life == key.1) {
            self.step_watch(&key.0, input_of(failure), Some(failure));
            self.watching.notify(key.0.clone(), key.1, Kinds::ANYTHING);
        }
    }

    fn tick(&mut self) {
        let now = self.watching.clock();
        let due = |(_, (_, watch)): &(&EnvironmentId, &(u32, Watch))| {
            watch.deadline().is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<EnvironmentId> =
            self.watches.iter().filter(due).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.step_watch(&id, Input::Tick, None);
        }
    }

    fn step_watch(&mut self, id: &EnvironmentId, input: Input, why: Option<&Failure>) {
        let Some((incarnation, watch)) = self.watches.get_mut(id) else { return };
        let (next, actions) = watch.step(self.watching.clock(), input);
        *watch = next;
        let incarnation = *incarnation;
        for action in actions {
            self.act(id, incarnation, action, why);
        }
    }

    fn act(&mut self, id: &EnvironmentId, incarnation: u32, action: Action, why: Option<&Failure>) {
        let world = &self.watching.world;
        let reason = why.map(reason).unwrap_or_default();
        match action {
            Action::Arm => self.arm(id),
            Action::Drop => {
                if let Some(tracker) = world.watch_tracker() {
                    tracker.release(id);
                }
                world.status_cache().set_watched(id, false);
            }
            Action::Poll => self.poll(id, incarnation),
            Action::GiveUp => {
                let attempts = crate::core::watch_machine::ATTEMPTS_MAX;
                tracing::warn!(environment = %id, attempts, reason, "watching was given up");
                locked(&self.watching.metrics).give_ups += 1;
                let environment = id.clone();
                let gave_up = WatcherGaveUp { environment, incarnation, attempts, reason };
                drop(self.watching.handle.submit_blocking(Command::WatchGaveUp(gave_up)));
            }
            Action::Degrade => {
                tracing::warn!(environment = %id, reason, "polled instead of watched");
                locked(&self.watching.metrics).degraded += 1;
            }
        }
    }

    fn arm(&mut self, id: &EnvironmentId) {
        let watching = Arc::clone(self.watching);
        let env = watching.handle.view(|state| state.environment(id).cloned());
        let (Some(env), Some(tracker)) = (env, watching.world.watch_tracker()) else {
            return;
        };
        match tracker.arm(&env) {
            Ok(()) => {
                // Every later change is notified; a status that was cached before is stale.
                watching.world.status_cache().set_watched(id, true);
                self.step_watch(id, Input::Confirmed, None);
                // Earlier changes were not seen: subscribers since then get one notification.
                watching.notify(id.clone(), env.incarnation, Kinds::ANYTHING);
            }
            Err(failure) => {
                tracing::debug!(environment = %id, reason = reason(&failure), "cannot watch");
                self.step_watch(id, input_of(&failure), Some(&failure));
            }
        }
    }

    /// Queues a poll of an environment that cannot be watched. Polls run one after the other, on a
    /// thread that is allowed to block.
    fn poll(&self, id: &EnvironmentId, incarnation: u32) {
        let watching = Arc::clone(self.watching);
        let mut polls = locked(&watching.polls);
        polls.waiting.insert((id.clone(), incarnation));
        if std::mem::replace(&mut polls.is_running, true) {
            return;
        }
        drop(polls);
        let run = {
            let watching = Arc::clone(&watching);
            move || watching.run_polls()
        };
        if std::thread::Builder::new().name("gk-poll".to_owned()).spawn(run).is_err() {
            locked(&watching.polls).is_running = false;
        }
    }

    fn publish(&self) {
        let mut stages = BTreeMap::new();
        for (_, watch) in self.watches.values() {
            *stages.entry(name(watch.stage)).or_default() += 1;
        }
        locked(&self.watching.metrics).stages = stages;
    }

    fn end(&mut self) {
        let ids: Vec<EnvironmentId> = self.watches.keys().cloned().collect();
        for id in ids {
            self.step_watch(&id, Input::Unwanted, None);
        }
    }
}
