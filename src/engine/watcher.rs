//! Which environments are watched: those that are served and that somebody is interested in.
//!
//! One thread carries out what `core::watch` says for each of them. It follows the state, never
//! leads it: a record only says that watching was given up, or asked for again. Reading starts
//! nothing; what is being taken apart or is over is never watched.

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

/// Changes that are kept for those who come back.
const KEPT: usize = 1_024;

/// What has changed in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub environment: EnvironmentId,
    /// Which life of it.
    pub incarnation: u32,
    /// What kinds of things.
    pub kinds: Kinds,
    /// When it was told.
    pub at: Time,
    /// The last record by then.
    pub seq: Seq,
}

/// Counts for people and monitors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Environments by how they are watched: `on`, `polling`, `waiting`, `gave_up`, `absent`.
    pub stages: BTreeMap<&'static str, usize>,
    /// Looks at environments that cannot be watched.
    pub polls: u64,
    /// Watches that were given up.
    pub give_ups: u64,
    /// Times an environment had to be polled instead.
    pub degraded: u64,
    /// Those who follow changes now.
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
    /// What has changed, by life.
    changed: BTreeMap<Key, Kinds>,
    /// Watches that broke; each had a tree, so there are never many.
    broken: Vec<(Key, Arc<Failure>)>,
    /// Who follows: by number, one environment or all.
    followers: BTreeMap<u64, Option<EnvironmentId>>,
    /// Followers that are new.
    asked: Vec<Option<EnvironmentId>>,
    rung: bool,
    stop: bool,
}

/// How it is watched.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Also what nobody follows.
    pub always: bool,
    /// How fast time passes between attempts: 1, but for tests that see half an hour of it.
    pub speed: u32,
}

/// The watching of one daemon.
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
    /// Changes before this record are not kept.
    kept_since: AtomicU64,
    metrics: Mutex<Metrics>,
    /// Lives that are to be looked at, with what was seen the last time.
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

/// Subscription in changes; ends when it is dropped.
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
    /// Starts watching by the backend that `make` makes.
    ///
    /// # Errors
    /// When a thread cannot be started.
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

    /// The state has changed, or may have.
    pub fn ring(&self) {
        locked(&self.inbox).rung = true;
        self.bell.notify_all();
    }

    /// Lets go of everything.
    pub fn stop(&self) {
        locked(&self.inbox).stop = true;
        self.bell.notify_all();
        if let Some(hub) = self.world.hub() {
            hub.stop();
        }
    }

    /// Follows the changes of one environment or of all: they are watched as long as this lives,
    /// also those whose watching was given up.
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

    /// Changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Changes that were told at or after a record, the last of each environment; none when some
    /// of them are not kept any more.
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

    /// Counts.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let followers = locked(&self.inbox).followers.len();
        Metrics { followers, ..locked(&self.metrics).clone() }
    }

    /// News from the hub, on its threads: what is kept of the worktrees counts no longer at once,
    /// the rest is only noted.
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

    /// Those whose distance depends on one of these refs; where that is not known, it does.
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
        // Nobody may be listening.
        drop(self.changes.send(change));
    }

    /// The time by which attempts are made; a clock that is set makes no difference to it.
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
            // One that panics must not keep the others from being looked at.
            let look = std::panic::AssertUnwindSafe(|| self.poll_one(&key));
            if std::panic::catch_unwind(look).is_err() {
                tracing::error!(environment = %key.0, "a look panicked; please report this");
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

/// The rule that nothing gets around: a life that is served, and no other.
fn may_be_watched(state: &State, (id, incarnation): &Key) -> bool {
    state.environment(id).is_some_and(|e| e.incarnation == *incarnation && e.is_served())
}

/// What the thread knows.
struct Round<'a> {
    watching: &'a Arc<Watching>,
    watches: BTreeMap<EnvironmentId, (u32, Watch)>,
}

impl Round<'_> {
    /// Begins and ends watches as the state and those who follow say.
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
                // A removal that was refused let go of it, and was over before it was looked at.
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
                tracing::warn!(environment = %id, attempts, reason, "watching is given up");
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
                // From here on every change is told; what was seen before counts no longer.
                watching.world.book().watched(id, true);
                self.input(id, Input::Confirmed, None);
                // And what happened before, to whoever follows since then.
                watching.tell(id.clone(), env.incarnation, Kinds::ANYTHING);
            }
            Err(failure) => {
                tracing::debug!(environment = %id, reason = reason(&failure), "not watched");
                self.input(id, input_of(&failure), Some(&failure));
            }
        }
    }

    /// Looks at an environment that cannot be watched, one after the other, on a thread that may
    /// wait.
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
