//! The watcher's thread: follows state, leases and subscriptions, and carries out what the watch
//! machine of each environment decides. It never runs git; polls are the poller's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::core::event::WatcherGaveUp;
use crate::core::watch_machine::{Action, Input, Stage, Watch};
use crate::core::{Command, EnvironmentId};
use crate::engine::watcher::context::WatchContext;
use crate::engine::watcher::data::{input_of, name, reason};
use crate::engine::watcher::inbox::Which;
use crate::engine::watcher::poller::Poller;
use crate::world::watch::backend::{Failure, Key, Kinds};

/// State of the watcher's thread.
pub(super) struct WatchLoop {
    context: Arc<WatchContext>,
    poller: Arc<Poller>,
    watches: BTreeMap<EnvironmentId, (u32, Watch)>,
}

impl WatchLoop {
    pub(super) fn new(context: &Arc<WatchContext>) -> Self {
        let poller = Arc::new(Poller::new(context));
        Self { context: Arc::clone(context), poller, watches: BTreeMap::new() }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let batch = self.context.inbox.take(self.rest());
            if batch.stop {
                return self.end();
            }
            for (key, failure) in batch.broken {
                self.on_broken(&key, &failure);
            }
            for (key, kinds) in batch.changed {
                self.on_changed(key, kinds);
            }
            self.follow_state(&batch.new_subscriptions);
            self.tick();
            self.publish();
        }
    }

    /// Returns the time until the next deadline of a watch.
    fn rest(&self) -> Duration {
        let deadline = self.watches.values().filter_map(|(_, w)| w.deadline()).min();
        let rest = deadline.map_or(Duration::from_secs(3_600), |at| at.since(self.context.clock()));
        rest / self.context.options.speed.max(1)
    }

    fn is_wanted(&self, subscriptions: &BTreeSet<Which>, id: &EnvironmentId) -> bool {
        self.context.options.always
            || subscriptions.contains(&None)
            || subscriptions.contains(&Some(id.clone()))
    }

    /// Begins and ends watches according to the state, the leases and the subscriptions.
    fn follow_state(&mut self, new_subscriptions: &[Which]) {
        let subscriptions = self.context.inbox.subscriptions();
        let wanted: BTreeMap<EnvironmentId, (u32, bool)> = self.context.handle.view(|state| {
            let leased: BTreeSet<&EnvironmentId> =
                state.leases().map(|(_, lease)| &lease.environment).collect();
            let served = state.environments().filter(|e| e.is_served() && e.worktree.is_some());
            let wanted =
                served.filter(|e| leased.contains(&e.id) || self.is_wanted(&subscriptions, &e.id));
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
            self.poller.forget(&id);
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
            let tracker = self.context.world.watch_tracker();
            if matches!(watch.stage, Stage::On(_))
                && tracker.is_none_or(|tracker| !tracker.holds(&key))
            {
                // A refused teardown has released the tree between two rounds of this thread.
                self.step_watch(&id, Input::Unwanted, None);
            }
            if again && given_up {
                let command = Command::WatchAgain { environment: id.clone() };
                drop(self.context.handle.submit_blocking(command));
            }
            self.step_watch(&id, if again { Input::WantedAgain } else { Input::Wanted }, None);
        }
    }

    fn on_changed(&mut self, key: Key, kinds: Kinds) {
        if self.watches.get(&key.0).is_none_or(|(life, _)| *life != key.1) {
            return;
        }
        if let Some(tracker) = self.context.world.watch_tracker()
            && (kinds.has(Kinds::ANYTHING) || kinds.has(Kinds::HEAD))
            && !tracker.is_intact(&key)
        {
            self.arm(&key.0);
        }
        self.context.notify(key.0, key.1, kinds);
    }

    fn on_broken(&mut self, key: &Key, failure: &Failure) {
        if self.watches.get(&key.0).is_some_and(|(life, _)| *life == key.1) {
            self.step_watch(&key.0, input_of(failure), Some(failure));
            self.context.notify(key.0.clone(), key.1, Kinds::ANYTHING);
        }
    }

    fn tick(&mut self) {
        let now = self.context.clock();
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
        let (next, actions) = watch.step(self.context.clock(), input);
        *watch = next;
        let incarnation = *incarnation;
        for action in actions {
            self.act(id, incarnation, action, why);
        }
    }

    fn act(&mut self, id: &EnvironmentId, incarnation: u32, action: Action, why: Option<&Failure>) {
        let world = &self.context.world;
        let reason = why.map(reason).unwrap_or_default();
        match action {
            Action::Arm => self.arm(id),
            Action::Drop => {
                if let Some(tracker) = world.watch_tracker() {
                    tracker.release(id);
                }
                world.status_cache().set_watched(id, false);
            }
            Action::Poll => self.poller.poll(id, incarnation),
            Action::GiveUp => {
                let attempts = crate::core::watch_machine::ATTEMPTS_MAX;
                tracing::warn!(environment = %id, attempts, reason, "watching was given up");
                self.context.metrics().give_ups += 1;
                let environment = id.clone();
                let gave_up = WatcherGaveUp { environment, incarnation, attempts, reason };
                drop(self.context.handle.submit_blocking(Command::WatchGaveUp(gave_up)));
            }
            Action::Degrade => {
                tracing::warn!(environment = %id, reason, "polled instead of watched");
                self.context.metrics().degraded += 1;
            }
        }
    }

    fn arm(&mut self, id: &EnvironmentId) {
        let context = Arc::clone(&self.context);
        let env = context.handle.view(|state| state.environment(id).cloned());
        let (Some(env), Some(tracker)) = (env, context.world.watch_tracker()) else {
            return;
        };
        match tracker.arm(&env) {
            Ok(()) => {
                // Every later change is notified; a status that was cached before is stale.
                context.world.status_cache().set_watched(id, true);
                self.step_watch(id, Input::Confirmed, None);
                // Earlier changes were not seen: subscribers since then get one notification.
                context.notify(id.clone(), env.incarnation, Kinds::ANYTHING);
            }
            Err(failure) => {
                tracing::debug!(environment = %id, reason = reason(&failure), "cannot watch");
                self.step_watch(id, input_of(&failure), Some(&failure));
            }
        }
    }

    fn publish(&self) {
        let mut stages = BTreeMap::new();
        for (_, watch) in self.watches.values() {
            *stages.entry(name(watch.stage)).or_default() += 1;
        }
        self.context.metrics().stages = stages;
    }

    fn end(&mut self) {
        let ids: Vec<EnvironmentId> = self.watches.keys().cloned().collect();
        for id in ids {
            self.step_watch(&id, Input::Unwanted, None);
        }
    }
}
