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

use crate::core::watch_machine::{Action, Input, Stage, Watch};
use crate::core::{Command, Environment, EnvironmentId, Seq, State, Time};
use crate::engine::handle::Handle;
use crate::world::World;
use crate::world::process::cancel::Cancel;
use crate::world::status::types::Status;
use crate::world::watch::backend::{Backend, Failure, Key, Kinds, Signal, Sink};
use crate::world::watch::limits::Budget;
use crate::world::watch::tracker::Hub;

/// Changes kept for subscribers that come back.
const KEPT: usize = 1_024;

/// A notification that an environment has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The environment that changed.
    pub environment: EnvironmentId,
    /// Its incarnation at that time.
    pub incarnation: u32,
    /// Kinds of the changes, merged.
    pub kinds: Kinds,
    /// Time of the notification.
    pub at: Time,
    /// Last committed record at that time.
    pub seq: Seq,
}

/// Counters for users and for monitoring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Environments by watch stage: `arming`, `on`, `polling`, `waiting`, `gave_up`, `absent`.
    pub stages: BTreeMap<&'static str, usize>,
    /// Number of polls of environments that cannot be watched.
    pub polls: u64,
    /// Number of watches that were given up.
    pub give_ups: u64,
    /// Number of switches from watching to polling.
    pub degraded: u64,
    /// Number of subscriptions now.
    pub followers: usize,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        let quiet = self.changed.is_empty() && self.broken.is_empty() && self.asked.is_empty();
        quiet && !self.rung && !self.stop
    }
}

#[derive(Debug, Default)]
struct Inbox {
    /// Changes by incarnation, merged until the thread takes them.
    changed: BTreeMap<Key, Kinds>,
    /// Broken watches. Each had a tree, so there are never many.
    broken: Vec<(Key, Arc<Failure>)>,
    /// Subscriptions by number: to one environment, or to all (none).
    followers: BTreeMap<u64, Option<EnvironmentId>>,
    /// Subscriptions that are new since the last round.
    asked: Vec<Option<EnvironmentId>>,
    rung: bool,
    stop: bool,
}

/// Options of watching.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether environments without a subscriber are watched too.
    pub always: bool,
    /// Speed of the retry clock: 1; tests use more to pass half an hour quickly.
    pub speed: u32,
}

/// The watcher of one daemon. No thread ever holds two of its locks at once.
#[derive(Debug)]
pub struct Watching {
    handle: Handle,
    world: Arc<World>,
    options: Options,
    started: (Time, Instant),
    inbox: Mutex<Inbox>,
    bell: Condvar,
    followed: AtomicU64,
    changes: broadcast::Sender<Change>,
    kept: Mutex<VecDeque<Change>>,
    /// Changes before this seq may be missing from `kept`. Stored only under the lock of `kept`.
    kept_since: AtomicU64,
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
    watching: Arc<Watching>,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inbox = locked(&self.watching.inbox);
        inbox.followers.remove(&self.number);
        inbox.rung = true;
        drop(inbox);
        self.watching.bell.notify_all();
    }
}

impl Watching {
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
        let (changes, _) = broadcast::channel(KEPT);
        let watching = Arc::new(Self {
            handle: handle.clone(),
            world: Arc::clone(world),
            options,
            started: (now(), Instant::now()),
            inbox: Mutex::default(),
            bell: Condvar::new(),
            followed: AtomicU64::new(0),
            changes,
            kept: Mutex::default(),
            kept_since: AtomicU64::new(handle.view(State::seq).0),
            metrics: Mutex::default(),
            polls: Mutex::default(),
        });
        let gate = move |key: &Key| handle.view(|state| may_be_watched(state, key));
        // Weak: the hub belongs to the world that `Watching` holds, so an `Arc` would be a cycle.
        let told = Arc::downgrade(&watching);
        let signals = move |signal: Signal| {
            if let Some(watching) = told.upgrade() {
                watching.hear(signal);
            }
        };
        let hub = Hub::start(
            make,
            Budget::of_system(),
            world.rebuildable().to_vec(),
            Box::new(gate),
            Box::new(signals),
        )?;
        world.watch_by(hub);
        let running = Arc::clone(&watching);
        let name = "gk-watching".to_owned();
        std::thread::Builder::new().name(name).spawn(move || running.run())?;
        Ok(watching)
    }

    /// Notifies the watcher that the state has changed, or may have.
    pub fn ring(&self) {
        locked(&self.inbox).rung = true;
        self.bell.notify_all();
    }

    /// Stops watching: the thread releases every watch and ends.
    pub fn stop(&self) {
        locked(&self.inbox).stop = true;
        self.bell.notify_all();
        if let Some(hub) = self.world.hub() {
            hub.stop();
        }
    }

    /// Subscribes to one environment or to all. They are watched while the subscription lives,
    /// including those whose watching was given up.
    #[must_use]
    pub fn follow(self: &Arc<Self>, which: Option<EnvironmentId>) -> Subscription {
        let number = self.followed.fetch_add(1, Ordering::Relaxed);
        let mut inbox = locked(&self.inbox);
        inbox.followers.insert(number, which.clone());
        inbox.asked.push(which);
        drop(inbox);
        self.bell.notify_all();
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
        let kept = locked(&self.kept);
        if seq.0 < self.kept_since.load(Ordering::Acquire) {
            return None;
        }
        let mut last: BTreeMap<&EnvironmentId, Change> = BTreeMap::new();
        for change in kept.iter().filter(|c| c.seq >= seq) {
            let before = last.get(&change.environment).map(|c| c.kinds).unwrap_or_default();
            let kinds = change.kinds.and(before);
            last.insert(&change.environment, Change { kinds, ..change.clone() });
        }
        Some(last.into_values().collect())
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let followers = locked(&self.inbox).followers.len();
        Metrics { followers, ..locked(&self.metrics).clone() }
    }

    /// Takes a signal from the hub, on the hub's threads: cached status becomes stale at once, the
    /// rest is left to the watcher's thread.
    fn hear(&self, signal: Signal) {
        let book = self.world.book();
        match signal {
            Signal::Touched((id, _), path) => return book.touch(&id, path.as_deref()),
            Signal::RefsTouched(common, refs) => {
                for key in self.depending(&common, Some(&refs)) {
                    book.touch(&key.0, None);
                }
                return;
            }
            Signal::Changed(key, kinds) => {
                let mut inbox = locked(&self.inbox);
                let before = inbox.changed.entry(key).or_default();
                *before = before.and(kinds);
            }
            Signal::Refs(common, refs) => {
                let keys = self.depending(&common, refs.as_deref());
                let mut inbox = locked(&self.inbox);
                for key in keys {
                    let before = inbox.changed.entry(key).or_default();
                    *before = before.and(Kinds::REFS);
                }
            }
            Signal::Broken(key, failure) => {
                book.watched(&key.0, false);
                locked(&self.inbox).broken.push((key, failure));
            }
        }
        self.bell.notify_all();
    }

    /// Returns the incarnations whose distance depends on one of these refs, or may depend on it.
    fn depending(&self, common: &Path, refs: Option<&[String]>) -> Vec<Key> {
        let here = crate::world::fs::paths::to_host(common);
        let depends = |env: &&Environment| {
            let status = self.world.book().current(&env.id, env.incarnation);
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

    fn tell(&self, environment: EnvironmentId, incarnation: u32, kinds: Kinds) {
        let seq = self.handle.view(State::seq);
        let change = Change { environment, incarnation, kinds, at: now(), seq };
        let mut kept = locked(&self.kept);
        if kept.len() == KEPT
            && let Some(lost) = kept.pop_front()
        {
            self.kept_since.store(lost.seq.0 + 1, Ordering::Release);
        }
        kept.push_back(change.clone());
        drop(kept);
        // An error means only that there is no receiver.
        drop(self.changes.send(change));
    }

    /// Returns the monotonic time of the retry clock: a clock that is set does not change it.
    fn clock(&self) -> Time {
        let (then, since) = self.started;
        then.after(since.elapsed().saturating_mul(self.options.speed))
    }

    fn run(self: Arc<Self>) {
        let mut round = Round { watching: &self, watches: BTreeMap::new() };
        loop {
            let deadline = round.watches.values().filter_map(|(_, w)| w.deadline()).min();
            let mut inbox = locked(&self.inbox);
            if inbox.is_empty() {
                let rest = deadline.map_or(Duration::from_secs(3_600), |at| at.since(self.clock()));
                let rest = rest / self.options.speed.max(1);
                let waited = self.bell.wait_timeout(inbox, rest);
                inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            inbox.rung = false;
            let stop = inbox.stop;
            let broken = std::mem::take(&mut inbox.broken);
            let changed = std::mem::take(&mut inbox.changed);
            let asked = std::mem::take(&mut inbox.asked);
            drop(inbox);
            if stop {
                return round.end();
            }
            for (key, failure) in broken {
                round.broken(&key, &failure);
            }
            for (key, kinds) in changed {
                round.changed(key, kinds);
            }
            round.follow_state(&asked);
            round.tick();
            round.publish();
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
            let look = std::panic::AssertUnwindSafe(|| self.poll_one(&key));
            if std::panic::catch_unwind(look).is_err() {
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
        self.world.book().touch(&key.0, None);
        let Ok(found) = self.world.status(&env, &cancel) else { return };
        let before = locked(&self.polls).seen.insert(key.clone(), Arc::clone(&found));
        if before.is_some_and(|before| *before != *found) {
            self.tell(key.0.clone(), key.1, Kinds::ANYTHING);
        }
    }

    fn is_wanted(&self, followers: &BTreeSet<Option<EnvironmentId>>, id: &EnvironmentId) -> bool {
        self.options.always || followers.contains(&None) || followers.contains(&Some(id.clone()))
    }
}

/// The condition of every watch: this incarnation is served. The hub asks it before it watches.
fn may_be_watched(state: &State, (id, incarnation): &Key) -> bool {
    state.environment(id).is_some_and(|e| e.incarnation == *incarnation && e.is_served())
}

/// State of the watcher's thread.
struct Round<'a> {
    watching: &'a Arc<Watching>,
    watches: BTreeMap<EnvironmentId, (u32, Watch)>,
}

impl Round<'_> {
    /// Begins and ends watches according to the state, the leases and the subscriptions.
    fn follow_state(&mut self, asked: &[Option<EnvironmentId>]) {
        let inbox = locked(&self.watching.inbox);
        let followers: BTreeSet<Option<EnvironmentId>> =
            inbox.followers.values().cloned().collect();
        drop(inbox);
        let wanted: BTreeMap<EnvironmentId, (u32, bool)> = self.watching.handle.view(|state| {
            let leased: BTreeSet<&EnvironmentId> =
                state.leases().map(|(_, lease)| &lease.environment).collect();
            let served = state.environments().filter(|e| e.is_served() && e.worktree.is_some());
            let wanted = served
                .filter(|e| leased.contains(&e.id) || self.watching.is_wanted(&followers, &e.id));
            wanted.map(|e| (e.id.clone(), (e.incarnation, e.unwatched.is_some()))).collect()
        });
        let over: Vec<EnvironmentId> = self
            .watches
            .iter()
            .filter(|(id, (life, _))| wanted.get(id).is_none_or(|(now, _)| now != life))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.input(&id, Input::Unwanted, None);
            self.watches.remove(&id);
            locked(&self.watching.polls).seen.retain(|(of, _), _| *of != id);
        }
        for (id, (incarnation, given_up)) in wanted {
            let again = asked.contains(&None) || asked.contains(&Some(id.clone()));
            let new = || {
                let stage = if given_up { Stage::GaveUp } else { Stage::Off };
                (incarnation, Watch { stage, ..Watch::default() })
            };
            let watch = self.watches.entry(id.clone()).or_insert_with(new).1;
            let key = (id.clone(), incarnation);
            let hub = self.watching.world.hub();
            if matches!(watch.stage, Stage::On(_)) && hub.is_none_or(|hub| !hub.holds(&key)) {
                // A refused teardown has released the tree between two rounds of this thread.
                self.input(&id, Input::Unwanted, None);
            }
            if again && given_up {
                let command = Command::WatchAgain { environment: id.clone() };
                drop(self.watching.handle.submit_blocking(command));
            }
            self.input(&id, if again { Input::WantedAgain } else { Input::Wanted }, None);
        }
    }

    fn changed(&mut self, key: Key, kinds: Kinds) {
        if self.watches.get(&key.0).is_none_or(|(life, _)| *life != key.1) {
            return;
        }
        if let Some(hub) = self.watching.world.hub()
            && (kinds.has(Kinds::ANYTHING) || kinds.has(Kinds::HEAD))
            && !hub.stands(&key)
        {
            self.arm(&key.0);
        }
        self.watching.tell(key.0, key.1, kinds);
    }

    fn broken(&mut self, key: &Key, failure: &Failure) {
        if self.watches.get(&key.0).is_some_and(|(life, _)| *life == key.1) {
            self.input(&key.0, input_of(failure), Some(failure));
            self.watching.tell(key.0.clone(), key.1, Kinds::ANYTHING);
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
            self.input(&id, Input::Tick, None);
        }
    }

    fn input(&mut self, id: &EnvironmentId, input: Input, why: Option<&Failure>) {
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
                if let Some(hub) = world.hub() {
                    hub.release(id);
                }
                world.book().watched(id, false);
            }
            Action::Poll => self.poll(id, incarnation),
            Action::GiveUp => {
                let attempts = crate::core::watch_machine::ATTEMPTS_MAX;
                tracing::warn!(environment = %id, attempts, reason, "watching was given up");
                locked(&self.watching.metrics).give_ups += 1;
                let environment = id.clone();
                let command = Command::WatchGaveUp { environment, incarnation, attempts, reason };
                drop(self.watching.handle.submit_blocking(command));
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
        let (Some(env), Some(hub)) = (env, watching.world.hub()) else { return };
        match hub.arm(&env) {
            Ok(()) => {
                // Every later change is notified; a status that was cached before is stale.
                watching.world.book().watched(id, true);
                self.input(id, Input::Confirmed, None);
                // Earlier changes were not seen: subscribers since then get one notification.
                watching.tell(id.clone(), env.incarnation, Kinds::ANYTHING);
            }
            Err(failure) => {
                tracing::debug!(environment = %id, reason = reason(&failure), "cannot watch");
                self.input(id, input_of(&failure), Some(&failure));
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
            self.input(&id, Input::Unwanted, None);
        }
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Off | Stage::Arming => "arming",
        Stage::On(_) => "on",
        Stage::Waiting(_) => "waiting",
        Stage::Polling(..) => "polling",
        Stage::Absent => "absent",
        Stage::GaveUp => "gave_up",
    }
}

fn input_of(failure: &Failure) -> Input {
    match failure {
        Failure::Limit(_) => Input::Limited,
        Failure::Absent(_) | Failure::Refused => Input::Absent,
        Failure::Failed(..) => Input::Failed,
    }
}

fn reason(failure: &Failure) -> String {
    let cause = std::error::Error::source(failure).map(|e| format!(": {e}")).unwrap_or_default();
    format!("{failure}{cause}")
}
